-- add_totals_by_state --
-- Move the counters by type, source, priority and state, each in its writer's own slot.
INSERT INTO assessment_totals AS stored (
    slot, scope, assessment_type, source, priority, state, assessments, retried, timed, duration_ms
)
SELECT change.*
FROM unnest(
    $1::int[], $2::text[], $3::text[], $4::text[], $5::smallint[], $6::text[], $7::bigint[], $8::bigint[],
    $9::bigint[], $10::bigint[]
) AS change
ON CONFLICT (scope, assessment_type, source, priority, state, slot) DO UPDATE
SET assessments = stored.assessments + excluded.assessments, retried = stored.retried + excluded.retried,
    timed = stored.timed + excluded.timed, duration_ms = stored.duration_ms + excluded.duration_ms

-- add_totals_by_server --
-- Move the counters by server, each in its writer's own slot.
INSERT INTO server_totals AS stored (
    slot, scope, server_name, assessment_type, source, assessments, completed, failed, cancelled, last_created_at
)
SELECT change.*
FROM unnest(
    $1::int[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[],
    $10::timestamptz[]
) AS change
ON CONFLICT (scope, server_name, assessment_type, source, slot) DO UPDATE
SET assessments = stored.assessments + excluded.assessments, completed = stored.completed + excluded.completed,
    failed = stored.failed + excluded.failed, cancelled = stored.cancelled + excluded.cancelled,
    last_created_at = greatest(stored.last_created_at, excluded.last_created_at)

-- add_totals_by_creation --
-- Move the counters by the quarter of an hour in which assessments were created, each in its writer's own slot.
INSERT INTO created_totals AS stored (
    slot, scope, quarter, assessment_type, source, assessments, completed, failed, cancelled
)
SELECT change.*
FROM unnest(
    $1::int[], $2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[],
    $9::bigint[]
) AS change
ON CONFLICT (scope, quarter, assessment_type, source, slot) DO UPDATE
SET assessments = stored.assessments + excluded.assessments, completed = stored.completed + excluded.completed,
    failed = stored.failed + excluded.failed, cancelled = stored.cancelled + excluded.cancelled

-- totals --
-- The counters of a scope, by type, priority and state.
SELECT
    assessment_type, priority, state, sum(assessments)::bigint AS assessments, sum(retried)::bigint AS retried,
    sum(timed)::bigint AS timed, sum(duration_ms)::bigint AS duration_ms
FROM assessment_totals
WHERE scope = $1
    AND ($2::text[] IS NULL OR state = ANY($2))
    AND ($3::text[] IS NULL OR assessment_type = ANY($3))
    AND ($4::text IS NULL OR source = $4)
    AND ($5::int IS NULL OR priority >= $5)
    AND ($6::int IS NULL OR priority <= $6)
GROUP BY assessment_type, priority, state

-- counted_statistics --
-- The statistics of a scope, from its counters, in the rows of `matching_statistics`: by type, priority and state; by day of
-- creation in a time zone ($7), from an instant on ($8); and the servers with the most assessments ($9).
SELECT
    true AS is_total, false AS is_day, assessment_type, priority, state, NULL::date AS date, NULL AS server_name,
    sum(assessments)::bigint AS assessments, sum(retried)::bigint AS retried, sum(timed)::bigint AS timed,
    sum(duration_ms)::bigint AS duration_ms, NULL::bigint AS completed, NULL::bigint AS failed,
    NULL::timestamptz AS last_created_at
FROM assessment_totals
WHERE scope = $1
    AND ($2::text[] IS NULL OR state = ANY($2))
    AND ($3::text[] IS NULL OR assessment_type = ANY($3))
    AND ($4::text IS NULL OR source = $4)
    AND ($5::int IS NULL OR priority >= $5)
    AND ($6::int IS NULL OR priority <= $6)
GROUP BY assessment_type, priority, state

UNION ALL

SELECT
    false, true, NULL, NULL, NULL, (quarter AT TIME ZONE $7)::date, NULL, sum(counted)::bigint, NULL, NULL, NULL,
    sum(completed)::bigint, sum(failed)::bigint, NULL
FROM (
    SELECT
        quarter, sum(counted_ends($2, assessments, completed, failed, cancelled)) AS counted,
        sum(completed) FILTER (WHERE $2::text[] IS NULL OR 'completed' = ANY($2)) AS completed,
        sum(failed) FILTER (WHERE $2::text[] IS NULL OR 'failed' = ANY($2)) AS failed
    FROM created_totals
    WHERE scope = $1
        AND ($3::text[] IS NULL OR assessment_type = ANY($3))
        AND ($4::text IS NULL OR source = $4)
        AND quarter >= $8
    GROUP BY quarter
) AS quarters
GROUP BY (quarter AT TIME ZONE $7)::date
HAVING sum(counted) > 0

UNION ALL

(
    SELECT
        false, false, NULL, NULL, NULL, NULL, server_name,
        sum(counted_ends($2, assessments, completed, failed, cancelled))::bigint AS counted, NULL, NULL, NULL, NULL, NULL,
        max(last_created_at)
    FROM server_totals
    WHERE scope = $1
        AND ($3::text[] IS NULL OR assessment_type = ANY($3))
        AND ($4::text IS NULL OR source = $4)
    GROUP BY server_name
    HAVING sum(counted_ends($2, assessments, completed, failed, cancelled)) > 0
    ORDER BY counted DESC, server_name
    LIMIT $9
)

-- metrics --
-- The counters of everybody's assessments by state.
SELECT
    state, sum(assessments)::bigint AS assessments, sum(retried)::bigint AS retried, sum(timed)::bigint AS timed,
    sum(duration_ms)::bigint AS duration_ms
FROM assessment_totals
WHERE scope = ''
GROUP BY state

-- throughput --
-- How many assessments ended within the last minute.
SELECT count(*) AS ended, NOW() AS now FROM assessment_states WHERE completed_at > NOW() - interval '1 minute'
