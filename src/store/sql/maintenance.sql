-- retention_start --
-- The time so many days ago, by the clock that assessments end by.
SELECT NOW() - make_interval(days => $1)

-- hold_request --
-- The cleanup of a key, for this transaction alone: two with one key at once take turns, and count together.
SELECT plan, answer FROM batch_requests WHERE user_id = $1 AND key = $2 FOR UPDATE

-- count_deleted --
-- Keep how many a cleanup has deleted so far.
UPDATE batch_requests SET plan = plan || jsonb_build_object('deleted', $3::bigint) WHERE user_id = $1 AND key = $2

-- lock_expired --
-- Assessments that ended before a time, longest ago first, past those that somebody works on just now. One whose events
-- are not known to be published stays: its audit trail is their outbox.
SELECT assessment_id FROM assessment_states AS ended
WHERE state IN ('completed', 'failed', 'cancelled') AND completed_at < $1
    AND NOT EXISTS (
        SELECT FROM assessment_audit_trail AS trail
        JOIN command_offsets AS fence ON fence.topic = $2 AND fence.partition = trail.command_partition
        WHERE trail.assessment_id = ended.assessment_id AND trail.command_offset >= fence.emitted_offset
    )
ORDER BY completed_at
LIMIT $3
FOR UPDATE OF ended SKIP LOCKED

-- unpublished --
-- Whether any assessment that ended before a time has events that are not known to be published.
SELECT EXISTS (
    SELECT FROM command_offsets AS fence
    JOIN assessment_audit_trail AS trail
        ON trail.command_partition = fence.partition AND trail.command_offset >= fence.emitted_offset
    JOIN assessment_states AS ended ON ended.assessment_id = trail.assessment_id
    WHERE fence.topic = $2 AND ended.state IN ('completed', 'failed', 'cancelled') AND ended.completed_at < $1
)

-- delete_metrics --
-- The metrics of assessments that go.
DELETE FROM assessment_metrics WHERE assessment_id = ANY($1::text[])

-- delete_history --
-- The audit trail of assessments that go, what is kept of them so that no replay brings them back, and from where on
-- each partition's trail is whole after that. Whoever takes a deleted id again comes at the position of now or later. The
-- hashes of the rows stay, for rows beside them to be proved (docs/adr/0011).
WITH gone AS (
    DELETE FROM assessment_audit_trail WHERE assessment_id = ANY($1::text[])
    RETURNING assessment_id, command_partition, command_offset, row_hash
), noted AS (
    INSERT INTO assessment_deletions (
        assessment_id, command_partition, last_offset, position, deleted_at, row_offsets
    )
    SELECT assessment_id, command_partition, max(command_offset), max(fence.next_offset), NOW(),
        array_agg(command_offset ORDER BY command_offset)
    FROM gone JOIN command_offsets AS fence ON fence.topic = $2 AND fence.partition = gone.command_partition
    GROUP BY assessment_id, command_partition
    ORDER BY assessment_id
    ON CONFLICT (command_partition, assessment_id, last_offset) DO NOTHING
), kept AS (
    INSERT INTO audit_deleted_rows (command_partition, command_offset, row_hash)
    SELECT command_partition, command_offset, row_hash FROM gone
    WHERE command_partition IS NOT NULL AND row_hash IS NOT NULL
    ON CONFLICT DO NOTHING
)
INSERT INTO history_offsets AS history (partition, first_offset)
SELECT command_partition, max(command_offset) + 1 FROM gone
WHERE command_partition IS NOT NULL
GROUP BY command_partition
ORDER BY command_partition
ON CONFLICT (partition) DO UPDATE SET first_offset = GREATEST(history.first_offset, excluded.first_offset)

-- delete_search_rows --
-- What search knows of assessments that go, and the words that they had.
WITH gone AS (
    DELETE FROM assessment_search WHERE assessment_id = ANY($1::text[]) RETURNING document
)
SELECT DISTINCT unnest(tsvector_to_array(document)) AS word FROM gone

-- forget_vocabulary --
-- Words ($1) that no document has any more. Common ones are told apart by the newest documents ($2): the others are few,
-- and in few documents. Whoever adds a word at this very moment may lose it; it comes back with the next document.
WITH rare AS MATERIALIZED (
    SELECT unnest($1::text[]) AS word
    EXCEPT
    SELECT unnest(tsvector_to_array(document))
    FROM (SELECT document FROM assessment_search ORDER BY created_at DESC LIMIT $2) AS newest
), gone AS (
    SELECT known.word FROM search_vocabulary AS known JOIN rare USING (word)
    WHERE NOT EXISTS (SELECT FROM assessment_search WHERE document @@ known.word::tsquery)
    ORDER BY known.word
    FOR UPDATE OF known SKIP LOCKED
)
DELETE FROM search_vocabulary USING gone WHERE search_vocabulary.word = gone.word

-- delete_assessments --
-- The assessments themselves, and all that was known of them.
DELETE FROM assessment_states WHERE assessment_id = ANY($1::text[]) RETURNING *

-- forget_rejections --
-- Some of the commands that were refused before a time and are published: their ids may be used again after that. Of
-- the last minutes none goes: whoever sent it may still be asking why.
WITH old AS (
    SELECT refused.id FROM command_rejections AS refused
    JOIN command_offsets AS fence ON fence.topic = $2 AND fence.partition = refused.command_partition
    WHERE refused.created_at < LEAST($1, NOW() - interval '10 minutes')
        AND refused.command_offset < fence.emitted_offset
    ORDER BY refused.created_at
    LIMIT $3
    FOR UPDATE OF refused SKIP LOCKED
)
DELETE FROM command_rejections USING old WHERE command_rejections.id = old.id

-- forget_dead_letters --
-- Some of the dead letters from before a time that were redriven or dropped: an open one waits for somebody, however
-- long. Those of which the topic does not know yet stay.
WITH old AS (
    SELECT letter.id FROM dead_letters AS letter
    JOIN command_offsets AS fence ON fence.topic = $2 AND fence.partition = letter.command_partition
    WHERE letter.created_at < $1 AND letter.command_offset < fence.emitted_offset
        AND (letter.redriven_at IS NOT NULL OR letter.dropped_at IS NOT NULL)
    ORDER BY letter.created_at
    LIMIT $3
    FOR UPDATE OF letter SKIP LOCKED
)
DELETE FROM dead_letters USING old WHERE dead_letters.id = old.id
