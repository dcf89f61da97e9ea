-- untold_deletions --
-- Some deletions that are not known to be on their topic, with the hashes of the rows that went.
SELECT * FROM deletions_with_rows WHERE NOT told ORDER BY id LIMIT $1

-- note_told_deletions --
-- These deletions are on their topic.
UPDATE assessment_deletions SET told = true WHERE id = ANY($1::bigint[])

-- recovered_positions --
-- How far each partition is applied, and at least published.
SELECT partition, next_offset, emitted_offset FROM command_offsets WHERE topic = $1

-- named_producers --
-- Every producer that may have something under way.
SELECT DISTINCT unnest(producers) AS producer FROM command_offsets WHERE topic = $1

-- name_producer --
-- A producer that will publish for any partition: whoever claims one has to fence it.
UPDATE command_offsets SET producers = array_append(producers, $2) WHERE topic = $1

-- has_assessments --
-- Whether there is any assessment.
SELECT EXISTS (SELECT FROM assessment_states)

-- count_assessments --
-- How many assessments there are.
SELECT COALESCE(sum(assessments), 0)::bigint FROM assessment_totals WHERE scope = ''

-- restore_deletions --
-- What Kafka tells of deletions, and what follows from it for the beginning of the history.
WITH restored AS (
    INSERT INTO assessment_deletions (
        assessment_id, command_partition, last_offset, position, deleted_at, row_offsets, told
    )
    SELECT assessment_id, $1::int, last_offset, position, deleted_at, row_offsets::bigint[], true
    FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::timestamptz[], $6::text[]) AS new (
        assessment_id, last_offset, position, deleted_at, row_offsets
    )
    ON CONFLICT (command_partition, assessment_id, last_offset) DO UPDATE SET told = true
    RETURNING last_offset
)
INSERT INTO history_offsets AS history (partition, first_offset)
SELECT $1::int, max(last_offset) + 1 FROM restored HAVING count(*) > 0
ON CONFLICT (partition) DO UPDATE SET first_offset = GREATEST(history.first_offset, excluded.first_offset)

-- deleted_but_there --
-- Assessments that were deleted after this database was saved.
SELECT DISTINCT trail.assessment_id
FROM unnest($2::text[], $3::bigint[]) AS deleted (assessment_id, last_offset)
JOIN assessment_audit_trail AS trail USING (assessment_id)
WHERE trail.command_partition = $1 AND trail.command_offset <= deleted.last_offset

-- restore_row_hashes --
-- What stayed of rows that retention deleted.
INSERT INTO audit_deleted_rows (command_partition, command_offset, row_hash, deleted_at)
SELECT $1::int, command_offset, row_hash, deleted_at
FROM unnest($2::bigint[], $3::bytea[], $4::timestamptz[]) AS leaf (command_offset, row_hash, deleted_at)
ON CONFLICT DO NOTHING

-- forget_earlier_refusals --
-- Refusals of commands whose ids ($1) were refused again later ($2).
DELETE FROM command_rejections AS refused
USING unnest($1::text[], $2::timestamptz[]) AS later (command_id, at)
WHERE refused.command_id = later.command_id AND refused.created_at < later.at

-- forget_refusals_of_accepted --
-- Refusals of commands whose ids were used again later by a command that was accepted.
DELETE FROM command_rejections AS refused
USING assessment_audit_trail AS accepted
WHERE accepted.command_id = refused.command_id AND refused.created_at < accepted.created_at

-- restore_letter_marks --
-- What Kafka tells of what became of dead letters.
UPDATE dead_letters AS letter
SET redriven_at = marked.redriven_at,
    redriven_by = marked.redriven_by,
    redriven_partition = marked.redriven_partition,
    redriven_offset = marked.redriven_offset,
    dropped_at = marked.dropped_at,
    dropped_by = marked.dropped_by,
    drop_reason = marked.drop_reason
FROM unnest(
    $1::int[], $2::bigint[], $3::timestamptz[], $4::text[], $5::int[], $6::bigint[], $7::timestamptz[], $8::text[],
    $9::text[]
) AS marked (
    command_partition, command_offset, redriven_at, redriven_by, redriven_partition, redriven_offset, dropped_at,
    dropped_by, drop_reason
)
WHERE letter.command_partition = marked.command_partition AND letter.command_offset = marked.command_offset

-- marked_dead_letters --
-- Some of the dead letters that somebody saw to.
SELECT
    id, command_partition, command_offset, redriven_at, redriven_by, redriven_partition, redriven_offset, dropped_at,
    dropped_by, drop_reason
FROM dead_letters
WHERE id > $1 AND (redriven_at IS NOT NULL OR dropped_at IS NOT NULL)
ORDER BY id
LIMIT $2

-- outbox_place --
-- Where the outbox of a partition goes on after an offset: the end of so many rows of the audit trail, or of all.
SELECT max(command_offset) + 1 FROM (
    SELECT command_offset FROM assessment_audit_trail
    WHERE command_partition = $1 AND command_offset >= $2
    ORDER BY command_offset
    LIMIT $3
) AS piece

-- deletions_of_partition --
-- What retention deleted of a partition, in order, with the hashes of the rows that went.
SELECT * FROM deletions_with_rows WHERE command_partition = $1 AND id > $2 ORDER BY id LIMIT $3

-- states_after --
-- Assessments by their ids, some at a time.
SELECT * FROM assessment_states WHERE assessment_id > $1 ORDER BY assessment_id LIMIT $2

-- partitions_of --
-- On which partition the last command of each of several assessments was.
SELECT assessment_id, command_partition FROM assessment_audit_trail
WHERE (assessment_id, new_version) IN (SELECT * FROM unnest($1::text[], $2::int[]))
