-- learn_words --
-- Words that a typing error can be led back to; in order, so that two writers never wait for each other.
INSERT INTO search_vocabulary (word)
SELECT word FROM unnest($1::text[]) AS new (word)
WHERE NOT EXISTS (SELECT FROM search_vocabulary AS known WHERE known.word = new.word)
ORDER BY word
ON CONFLICT (word) DO NOTHING

-- put_search_rows --
-- What search knows of assessments, new or anew.
INSERT INTO assessment_search AS stored (assessment_id, owner, created_at, names, document)
SELECT assessment_id, owner, created_at, names, document::tsvector
FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::text[]) AS new (
    assessment_id, owner, created_at, names, document
)
ON CONFLICT (assessment_id) DO UPDATE SET document = excluded.document

-- search_page --
-- What the queries below end with: how many there are of what they found, and whether these are all ($8 are enough where
-- they are not); and a page of it ($5, $6), best first: an id that is or begins with what is looked for, then by rank; from
-- the place on where the page before ended ($10, $11, $12). One row is there always, to tell the total. A page of very large
-- assessments ends early ($9, in bytes as they are stored).
, judged AS (
    SELECT *, $10::real[] IS NULL OR rank < $10
        OR (rank = $10 AND (created_at < $11 OR (created_at = $11 AND assessment_id > $12))) AS is_next
    FROM (SELECT assessment_id, created_at, search_rank(names, document, $1, $2) AS rank FROM found) AS ranked
),
sums AS (
    SELECT count(*) AS total, {are_all} AS are_all, count(*) FILTER (WHERE is_next) - $6::bigint AS remaining FROM judged
),
page AS (
    SELECT
        place, rank, stored.*,
        sum(pg_column_size(request_data) + coalesce(pg_column_size(result_data), 0)) OVER (ORDER BY place) AS size
    FROM (
        SELECT assessment_id, rank, row_number() OVER (ORDER BY rank DESC, created_at DESC, assessment_id) AS place
        FROM judged
        WHERE is_next
        ORDER BY place
        LIMIT (SELECT CASE WHEN are_all OR total >= $8 THEN $5::int ELSE 0 END FROM sums) OFFSET $6
    ) AS next
    JOIN assessment_states AS stored USING (assessment_id)
)
SELECT sums.*, page.*
FROM sums LEFT JOIN page ON page.size <= $9 OR page.place = $6 + 1
ORDER BY place

-- search_newest --
-- Of the newest assessments ($13), and of the one that has this id ($7), those that have words ($1), or whose id or server
-- has this in it ($2), some of them ($4).
WITH newest AS (
    SELECT assessment_id, names, document, created_at FROM assessment_search
    WHERE $3::text IS NULL OR owner = $3
    ORDER BY created_at DESC
    LIMIT $13
), found AS (
    (
        SELECT * FROM newest
        WHERE (($1 <> '' AND document @@ $1::tsquery) OR ($2 <> '' AND names LIKE '%' || $2 || '%'))
            AND assessment_id <> $7
        LIMIT $4
    )
    UNION ALL
    SELECT assessment_id, names, document, created_at FROM assessment_search
    WHERE assessment_id = $7 AND ($3::text IS NULL OR owner = $3)
)

-- newest_are_all --
-- Whether the newest are all there are, which is asked only where few of them were found.
CASE WHEN count(*) < $4 THEN (
    SELECT count(*) FROM (SELECT FROM assessment_search WHERE $3::text IS NULL OR owner = $3 LIMIT $13) AS known
) < $13 ELSE false END

-- how_many_have --
-- How many assessments have words, as Postgres would guess from its statistics.
EXPLAIN (FORMAT JSON) SELECT FROM assessment_search
WHERE $1 <> '' AND document @@ $1::tsquery AND ($2::text IS NULL OR owner = $2)

-- search_words --
-- The same of all assessments, by whole words ($1) only; where very many match, some of them ($4). What stands in braces is
-- filled in from a fixed table: the index of words finds all that match, that of ids goes on until they are enough.
WITH found AS (
    (
        SELECT assessment_id, names, document, created_at FROM assessment_search
        WHERE $1 <> '' AND document @@ $1::tsquery AND ($3::text IS NULL OR owner = $3) AND assessment_id <> $7
        {order}
        LIMIT $4
    )
    UNION ALL
    SELECT assessment_id, names, document, created_at FROM assessment_search
    WHERE assessment_id = $7 AND ($3::text IS NULL OR owner = $3)
)

-- search_all --
-- The same of all assessments, by words and by parts of ids and servers; where very many match, some of them ($4). The index
-- is asked for the beginning of the part ($13): each letter more is another long list, and the rows that are left are few.
WITH by_words AS (
    SELECT assessment_id FROM assessment_search
    WHERE $1 <> '' AND document @@ $1::tsquery AND ($3::text IS NULL OR owner = $3)
    LIMIT $4
), by_part AS (
    SELECT assessment_id FROM assessment_names
    WHERE $2 <> '' AND names LIKE '%' || $13 || '%' AND names || '' LIKE '%' || $2 || '%'
        AND ($3::text IS NULL OR owner = $3)
    LIMIT $4
), by_id AS (
    SELECT assessment_id FROM assessment_search
    WHERE assessment_id = $7 AND ($3::text IS NULL OR owner = $3)
), ids AS (
    SELECT assessment_id FROM by_words UNION SELECT assessment_id FROM by_part UNION SELECT assessment_id FROM by_id
), found AS (
    SELECT assessment_id, names, document, created_at FROM ids JOIN assessment_search USING (assessment_id)
)

-- words_that_begin --
-- For each of several beginnings ($1, as patterns of LIKE), the shortest words of the vocabulary that begin so.
SELECT wanted.number, known.word
FROM unnest($1::text[]) WITH ORDINALITY AS wanted (pattern, number)
CROSS JOIN LATERAL (
    SELECT word FROM search_vocabulary WHERE word LIKE wanted.pattern ORDER BY length(word), word LIMIT $2
) AS known

-- nearest_words --
-- For each of several words, those of the vocabulary that are most like it.
SELECT wanted.word AS wanted, near.word
FROM unnest($1::text[]) AS wanted (word)
CROSS JOIN LATERAL nearest_words(wanted.word, $2) AS near (word)
