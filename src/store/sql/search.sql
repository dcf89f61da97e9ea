-- put_search_rows --
-- What search knows of assessments, new or anew.
INSERT INTO assessment_search AS stored (assessment_id, owner, created_at, names, document)
SELECT assessment_id, owner, created_at, names, document::tsvector
FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::text[]) AS new (
    assessment_id, owner, created_at, names, document
)
ON CONFLICT (assessment_id) DO UPDATE SET document = excluded.document

-- add_vocabulary --
-- Words that a typing error can be led back to; in order, so that two writers never wait for each other.
INSERT INTO search_vocabulary (word)
SELECT word FROM unnest($1::text[]) AS new (word)
WHERE NOT EXISTS (SELECT FROM search_vocabulary AS known WHERE known.word = new.word)
ORDER BY word
ON CONFLICT (word) DO NOTHING
