-- begin_executions --
-- Take on the pending assessments whose turn it is, of some partitions, one for each of the servers in $2, which may
-- repeat. A row of an attempt that is over makes room. What was imported is in the hands of the old system until its first
-- change here.
WITH picked AS (
    SELECT states.assessment_id, states.retry_count, trail.command_partition, trail.traceparent,
        extract(epoch FROM states.updated_at AT TIME ZONE 'UTC') - 60 * states.priority AS turn
    FROM assessment_states AS states
    JOIN assessment_audit_trail AS trail
        ON trail.assessment_id = states.assessment_id AND trail.new_version = states.version
    WHERE states.state = 'pending' AND trail.command_partition = ANY($1::int[]) AND trail.action <> 'imported'
        AND NOT EXISTS (
            SELECT FROM executions AS open
            WHERE open.assessment_id = states.assessment_id AND open.attempt = states.retry_count
        )
    ORDER BY extract(epoch FROM states.updated_at AT TIME ZONE 'UTC') - 60 * states.priority
    LIMIT $3
),
numbered AS (SELECT *, row_number() OVER (ORDER BY turn) AS place FROM picked)
INSERT INTO executions AS open (assessment_id, attempt, command_partition, server, traceparent)
SELECT numbered.assessment_id, numbered.retry_count, numbered.command_partition, free.server,
    COALESCE(
        numbered.traceparent,
        '00-' || replace(gen_random_uuid()::text, '-', '') || '-' || left(md5(gen_random_uuid()::text), 16) || '-00'
    )
FROM numbered
JOIN unnest($2::text[]) WITH ORDINALITY AS free (server, place) USING (place)
ON CONFLICT (assessment_id) DO UPDATE
    SET attempt = excluded.attempt, id = DEFAULT, command_partition = excluded.command_partition,
        server = excluded.server, traceparent = excluded.traceparent, created_at = DEFAULT
    WHERE open.attempt < excluded.attempt

-- open_executions --
-- What is taken on in some partitions, but for some of them, and how each assessment stands; or that of one id ($4).
SELECT open.id, open.assessment_id, open.attempt, open.command_partition, open.server, open.traceparent,
    states.state, states.retry_count, states.version, states.progress, states.message, states.updated_at,
    states.request_data::text AS request,
    EXISTS (
        SELECT FROM assessment_audit_trail AS trail
        WHERE trail.command_id = open.id || ':start' AND trail.assessment_id = open.assessment_id
    ) AS started
FROM executions AS open
LEFT JOIN assessment_states AS states USING (assessment_id)
WHERE (open.command_partition = ANY($1::int[]) AND NOT open.id = ANY($2::text[])) OR open.id = $4::text
ORDER BY open.created_at
LIMIT $3

-- end_execution --
-- Forget what was brought to its end.
DELETE FROM executions WHERE id = $1

-- count_pending --
-- Assessments that wait to be taken on, by anybody.
SELECT COALESCE(sum(assessments), 0)::bigint FROM assessment_totals WHERE scope = '' AND state = 'pending'
