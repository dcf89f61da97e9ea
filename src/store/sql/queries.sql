-- claim_partition --
-- Take a partition: its epoch grows by one, which fences whoever had it before. A worker that claims again names the
-- epoch it had ($4) and gets no row when somebody else took the partition meanwhile. The producer ($5) that will publish
-- for the partition is named beside those that did; whoever claims next has to fence it.
INSERT INTO command_offsets AS fence (topic, partition, epoch, next_offset, owner, producers)
VALUES ($1, $2, 1, 0, $3, array_remove(ARRAY[$5::text], NULL))
ON CONFLICT (topic, partition) DO UPDATE
    SET epoch = fence.epoch + 1, owner = excluded.owner, claimed_at = NOW(),
        producers = array_remove(fence.producers, $5) || excluded.producers
    WHERE $4::bigint IS NULL OR fence.epoch = $4
RETURNING epoch, next_offset, emitted_offset, array_remove(producers, $5) AS former_producers

-- limit_lock_wait --
-- Whoever claims a partition waits this long for a batch of the worker before.
SET LOCAL lock_timeout = '1s'

-- end_batch_of_another --
-- End the transaction that holds a partition's row. A worker that is frozen between two messages of one statement is
-- not idle in Postgres' eyes, so that no time-out of Postgres ends its transaction.
SELECT pg_terminate_backend(holder.pid)
FROM command_offsets AS fence
JOIN pg_locks AS holder ON holder.locktype = 'transactionid' AND holder.transactionid = fence.xmax AND holder.granted
WHERE fence.topic = $1 AND fence.partition = $2

-- forget_former_producers --
-- Every producer but this one is fenced, while this worker owns the partition.
UPDATE command_offsets
SET producers = ARRAY[$4::text]
WHERE topic = $1 AND partition = $2 AND epoch = $3

-- advance_partitions --
-- Pass the fence and move the applied positions in one: a partition without a row is no longer this worker's. A batch
-- begins when everything before it is published. Rows are locked in one order, so that no two workers that both believe
-- to own several partitions wait for each other.
WITH moved AS (
    SELECT fence.topic, fence.partition, move.next_offset
    FROM command_offsets AS fence
    JOIN unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[], $5::bigint[])
        AS move (topic, partition, epoch, from_offset, next_offset)
        ON fence.topic = move.topic AND fence.partition = move.partition AND fence.epoch = move.epoch
            AND fence.next_offset = move.from_offset
    ORDER BY fence.topic, fence.partition
    FOR UPDATE OF fence
)
UPDATE command_offsets AS fence
SET next_offset = moved.next_offset, emitted_offset = GREATEST(fence.emitted_offset, fence.next_offset)
FROM moved
WHERE fence.topic = moved.topic AND fence.partition = moved.partition
RETURNING fence.partition, NOW() AS now

-- record_emitted --
-- Remember how far events were published, while this worker owns the partition.
UPDATE command_offsets
SET emitted_offset = $4
WHERE topic = $1 AND partition = $2 AND epoch = $3

-- load_states --
-- The states of several assessments.
SELECT * FROM assessment_states WHERE assessment_id = ANY($1::text[])

-- known_commands --
-- Which of these command ids have an outcome, and the fingerprint of the first command that had it.
SELECT command_id, command_fingerprint FROM assessment_audit_trail WHERE command_id = ANY($1::text[])
UNION ALL
SELECT command_id, command_fingerprint FROM command_rejections
WHERE command_id = ANY($1::text[])

-- insert_states --
-- New assessments; an id that is taken is passed over, so that the caller can count and look again.
INSERT INTO assessment_states (
    assessment_id, state, version, progress, message, created_at, updated_at, started_at, completed_at,
    request_data, result_data, error_message, retry_count, next_retry_at, metadata, audit_hash
)
SELECT
    assessment_id, state, version, progress, message, created_at, updated_at, started_at, completed_at,
    request_data::jsonb, result_data::jsonb, error_message, retry_count, next_retry_at, metadata::jsonb, audit_hash
FROM unnest(
    $1::text[], $2::text[], $3::int[], $4::int[], $5::text[], $6::timestamptz[], $7::timestamptz[],
    $8::timestamptz[], $9::timestamptz[], $10::text[], $11::text[], $12::text[], $13::int[], $14::timestamptz[],
    $15::text[], $16::bytea[]
) AS new (
    assessment_id, state, version, progress, message, created_at, updated_at, started_at, completed_at,
    request_data, result_data, error_message, retry_count, next_retry_at, metadata, audit_hash
)
ON CONFLICT (assessment_id) DO NOTHING

-- update_states --
-- Changed assessments, each only where its version is the one that the change was decided on, and its last audit row
-- the one that the next is chained to.
UPDATE assessment_states AS stored
SET state = changed.state, version = changed.version, progress = changed.progress, message = changed.message,
    updated_at = changed.updated_at, started_at = changed.started_at, completed_at = changed.completed_at,
    result_data = changed.result_data::jsonb, error_message = changed.error_message,
    retry_count = changed.retry_count, next_retry_at = changed.next_retry_at, audit_hash = changed.audit_hash
FROM unnest(
    $1::text[], $2::int[], $3::text[], $4::int[], $5::int[], $6::text[], $7::timestamptz[], $8::timestamptz[],
    $9::timestamptz[], $10::text[], $11::text[], $12::int[], $13::timestamptz[], $14::bytea[], $15::bytea[]
) AS changed (
    assessment_id, expected_version, state, version, progress, message, updated_at, started_at, completed_at,
    result_data, error_message, retry_count, next_retry_at, expected_hash, audit_hash
)
-- The version is compared so that no index serves it: in a table without statistics the planner takes the index on the
-- version, and reads every assessment of that version for each one that changed.
WHERE stored.assessment_id = changed.assessment_id AND stored.version - changed.expected_version = 0
    AND stored.audit_hash IS NOT DISTINCT FROM changed.expected_hash

-- insert_audit --
-- One row for each accepted command.
INSERT INTO assessment_audit_trail (
    assessment_id, action, old_state, new_state, old_version, new_version, user_id, details, created_at,
    command_id, command_fingerprint, command_partition, command_offset, traceparent, previous_hash, row_hash
)
SELECT
    assessment_id, action, old_state, new_state, NULLIF(new_version - 1, 0), new_version, user_id, details::jsonb,
    created_at, command_id, command_fingerprint, command_partition, command_offset, traceparent, previous_hash, row_hash
FROM unnest(
    $1::int[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int[], $7::text[], $8::text[], $9::timestamptz[],
    $10::text[], $11::bytea[], $12::bigint[], $13::text[], $14::bytea[], $15::bytea[]
) AS new (
    command_partition, assessment_id, action, old_state, new_state, new_version, user_id, details, created_at, command_id,
    command_fingerprint, command_offset, traceparent, previous_hash, row_hash
)

-- insert_metrics --
-- How long ended assessments took.
INSERT INTO assessment_metrics (assessment_id, metric_name, metric_value, created_at)
SELECT assessment_id, 'processing_time_seconds', metric_value, created_at
FROM unnest($1::text[], $2::numeric[], $3::timestamptz[]) AS new (assessment_id, metric_value, created_at)

-- insert_rejections --
-- One row for each refused command.
INSERT INTO command_rejections (
    command_id, command_type, command_fingerprint, assessment_id, user_id, code, message, details, created_at,
    command_partition, command_offset, traceparent
)
SELECT
    command_id, command_type, command_fingerprint, assessment_id, user_id, code, message, details::jsonb, created_at,
    command_partition, command_offset, traceparent
FROM unnest(
    $1::int[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
    $10::timestamptz[], $11::bigint[], $12::text[]
) AS new (
    command_partition, command_id, command_type, command_fingerprint, assessment_id, user_id, code, message, details, created_at,
    command_offset, traceparent
)

-- insert_dead_letter --
-- One record that is not a command.
INSERT INTO dead_letters (
    command_partition, command_offset, key, value, header_names, header_values, reason, created_at
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)

-- outbox_events --
-- The events of the commands in a range of offsets of one partition, in the order they were decided.
SELECT details::text AS value, traceparent, command_offset, command_fingerprint FROM assessment_audit_trail
WHERE command_partition = $1 AND command_offset >= $2 AND command_offset < $3
ORDER BY command_offset

-- outbox_rejections --
-- The refused commands in a range of offsets of one partition.
SELECT * FROM command_rejections
WHERE command_partition = $1 AND command_offset >= $2 AND command_offset < $3
ORDER BY command_offset

-- outbox_dead_letters --
-- The dead letters in a range of offsets of one partition.
SELECT * FROM dead_letters
WHERE command_partition = $1 AND command_offset >= $2 AND command_offset < $3
ORDER BY command_offset

-- changed_assessments --
-- The ids that the commands in a range of offsets of one partition changed.
SELECT DISTINCT assessment_id FROM assessment_audit_trail
WHERE command_partition = $1 AND command_offset >= $2 AND command_offset < $3

-- get_state --
-- One assessment.
SELECT * FROM assessment_states WHERE assessment_id = $1

-- final_states --
-- Those of several assessments that have ended.
SELECT * FROM assessment_states
WHERE assessment_id = ANY($1::text[]) AND state IN ('completed', 'failed', 'cancelled')

-- accepted_command --
-- The change that an accepted command made.
SELECT assessment_id, new_version, command_fingerprint FROM assessment_audit_trail WHERE command_id = $1

-- refused_command --
-- The first answer to a refused command.
SELECT * FROM command_rejections WHERE command_id = $1

-- ping --
-- Whether Postgres answers, which version it is, and whether the schema is there.
SELECT current_setting('server_version') AS version, to_regclass('command_offsets') IS NOT NULL AS migrated

-- create_migrations --
-- Where the applied migrations are kept.
CREATE TABLE IF NOT EXISTS schema_migrations (
    name TEXT PRIMARY KEY,
    applied_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW()
)

-- has_migrations --
-- Whether anything was ever migrated.
SELECT to_regclass('schema_migrations') IS NOT NULL

-- applied_migrations --
-- The names of the applied migrations.
SELECT name FROM schema_migrations

-- record_migration --
-- Remember that a migration was applied.
INSERT INTO schema_migrations (name) VALUES ($1)
