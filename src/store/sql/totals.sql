-- add_totals --
-- Move the counters by type, source, priority and state, in a slot of this writer's own.
INSERT INTO assessment_totals AS stored (
    slot, scope, assessment_type, source, priority, state, assessments, retried, timed, duration_ms
)
SELECT $1::int, change.*
FROM unnest(
    $2::text[], $3::text[], $4::text[], $5::smallint[], $6::text[], $7::bigint[], $8::bigint[], $9::bigint[],
    $10::bigint[]
) AS change (scope, assessment_type, source, priority, state, assessments, retried, timed, duration_ms)
ON CONFLICT (scope, assessment_type, source, priority, state, slot) DO UPDATE
SET assessments = stored.assessments + excluded.assessments, retried = stored.retried + excluded.retried,
    timed = stored.timed + excluded.timed, duration_ms = stored.duration_ms + excluded.duration_ms

-- add_server_totals --
-- Move the counters by server.
INSERT INTO server_totals AS stored (slot, scope, server_name, assessments, last_created_at)
SELECT $1::int, change.*
FROM unnest($2::text[], $3::text[], $4::bigint[], $5::timestamptz[]) AS change (
    scope, server_name, assessments, last_created_at
)
ON CONFLICT (scope, server_name, slot) DO UPDATE
SET assessments = stored.assessments + excluded.assessments,
    last_created_at = greatest(stored.last_created_at, excluded.last_created_at)

-- add_created_totals --
-- Move the counters by the quarter of an hour in which assessments were created.
INSERT INTO created_totals AS stored (slot, scope, quarter, assessments, completed, failed)
SELECT $1::int, change.*
FROM unnest($2::text[], $3::timestamptz[], $4::bigint[], $5::bigint[], $6::bigint[]) AS change (
    scope, quarter, assessments, completed, failed
)
ON CONFLICT (scope, quarter, slot) DO UPDATE
SET assessments = stored.assessments + excluded.assessments, completed = stored.completed + excluded.completed,
    failed = stored.failed + excluded.failed
