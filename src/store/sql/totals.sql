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

-- count_kept --
-- How many assessments filters of counters let through.
SELECT coalesce(sum(assessments), 0)::bigint FROM matching_totals($1, $2, $3, $4, $5, $6)

-- count_on_servers --
-- The same for servers, by their names ($5) or a pattern of LIKE ($6), and final states.
SELECT coalesce(sum(counted_ends($2, assessments, completed, failed, cancelled)), 0)::bigint FROM server_totals
WHERE scope = $1
    AND ($3::text[] IS NULL OR assessment_type = ANY($3))
    AND ($4::text IS NULL OR source = $4)
    AND ($5::text[] IS NULL OR server_name = ANY($5))
    AND ($6::text IS NULL OR server_name LIKE $6)

-- counted_statistics --
-- The statistics of a scope, from its counters, in the rows of `matching_statistics`: by type, priority and state; by day of
-- creation in a time zone ($7), from an instant on ($8); and the servers with the most assessments ($9).
SELECT
    true AS is_total, false AS is_day, assessment_type, priority, state, NULL::date AS date, NULL AS server_name,
    sum(assessments)::bigint AS assessments, sum(timed)::bigint AS timed, sum(duration_ms)::bigint AS duration_ms,
    NULL::bigint AS completed, NULL::bigint AS failed, NULL::timestamptz AS last_created_at
FROM matching_totals($1, $2, $3, $4, $5, $6)
GROUP BY assessment_type, priority, state

UNION ALL

SELECT
    false, true, NULL, NULL, NULL, (quarter AT TIME ZONE $7)::date, NULL, sum(counted)::bigint, NULL, NULL,
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
        sum(counted_ends($2, assessments, completed, failed, cancelled))::bigint AS counted, NULL, NULL, NULL, NULL,
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

-- span_statistics --
-- The statistics of everybody's assessments that were created within a span of time, of certain final states ($1) where those
-- are named, in the rows of `matching_statistics`: whole days (UTC) from $2 to $3 by their counters, and what is before and
-- after them ($4 to $5, $6 to $7) by the assessments. The days that are told, in a time zone ($8), begin at an instant ($9);
-- of the servers there are the first ($10).
WITH edges AS (
    SELECT
        assessment_type, source, priority, state, server_name, created_at,
        (date_part('epoch', completed_at - started_at) * 1000)::bigint AS ms
    FROM assessment_states
    WHERE created_at >= $4 AND created_at < $5 AND ($1::text[] IS NULL OR state = ANY($1))
    UNION ALL
    SELECT
        assessment_type, source, priority, state, server_name, created_at,
        (date_part('epoch', completed_at - started_at) * 1000)::bigint
    FROM assessment_states
    WHERE created_at >= $6 AND created_at < $7 AND ($1::text[] IS NULL OR state = ANY($1))
), whole AS (
    SELECT
        assessment_type, priority, sum(pending) AS pending, sum(processing) AS processing, sum(completed) AS completed,
        sum(failed) AS failed, sum(cancelled) AS cancelled, sum(completed_timed) AS completed_timed,
        sum(completed_ms) AS completed_ms, sum(failed_timed) AS failed_timed, sum(failed_ms) AS failed_ms,
        sum(cancelled_timed) AS cancelled_timed, sum(cancelled_ms) AS cancelled_ms
    FROM day_totals
    WHERE day >= $2 AND day < $3
    GROUP BY assessment_type, priority
)
SELECT
    true AS is_total, false AS is_day, assessment_type, priority, state, NULL::date AS date, NULL AS server_name,
    sum(assessments)::bigint AS assessments, sum(timed)::bigint AS timed, sum(ms)::bigint AS duration_ms,
    NULL::bigint AS completed, NULL::bigint AS failed, NULL::timestamptz AS last_created_at
FROM (
    SELECT assessment_type, priority, of_state.* FROM whole CROSS JOIN LATERAL (
        VALUES
            ('pending', pending, 0, 0), ('processing', processing, 0, 0),
            ('completed', completed, completed_timed, completed_ms), ('failed', failed, failed_timed, failed_ms),
            ('cancelled', cancelled, cancelled_timed, cancelled_ms)
    ) AS of_state (state, assessments, timed, ms)
    WHERE $1::text[] IS NULL OR state = ANY($1)
    UNION ALL
    SELECT coalesce(assessment_type, ''), priority, state, count(*), count(ms), coalesce(sum(ms), 0)
    FROM edges
    GROUP BY 1, 2, 3
) AS parts
GROUP BY assessment_type, priority, state
HAVING sum(assessments) > 0

UNION ALL

SELECT
    false, true, NULL, NULL, NULL, date, NULL, sum(assessments)::bigint, NULL, NULL, sum(completed)::bigint,
    sum(failed)::bigint, NULL
FROM (
    SELECT
        (quarter AT TIME ZONE $8)::date AS date, sum(counted_ends($1, assessments, completed, failed, cancelled)),
        sum(completed) FILTER (WHERE $1::text[] IS NULL OR 'completed' = ANY($1)),
        sum(failed) FILTER (WHERE $1::text[] IS NULL OR 'failed' = ANY($1))
    FROM created_totals
    WHERE scope = '' AND quarter >= greatest($2::date::timestamptz, $9) AND quarter < $3::date::timestamptz
    GROUP BY 1
    UNION ALL
    SELECT
        (created_at AT TIME ZONE $8)::date, count(*), count(*) FILTER (WHERE state = 'completed'),
        count(*) FILTER (WHERE state = 'failed')
    FROM edges
    WHERE created_at >= $9
    GROUP BY 1
) AS parts (date, assessments, completed, failed)
GROUP BY date
HAVING sum(assessments) > 0

UNION ALL

(
    SELECT
        false, false, NULL, NULL, NULL, NULL, server_name, sum(assessments)::bigint, NULL, NULL, NULL, NULL,
        max(last_created_at)
    FROM (
        SELECT server_name, sum(counted), max(last_created_at) FROM (
            SELECT
                server_name, last_created_at,
                counted_ends($1, pending + processing + completed + failed + cancelled, completed, failed, cancelled)
            FROM server_day_totals
            WHERE day >= $2 AND day < $3
        ) AS days (server_name, last_created_at, counted)
        GROUP BY server_name
        UNION ALL
        SELECT server_name, count(*), max(created_at) FROM edges WHERE server_name IS NOT NULL GROUP BY server_name
    ) AS parts (server_name, assessments, last_created_at)
    GROUP BY server_name
    HAVING sum(assessments) > 0
    ORDER BY sum(assessments) DESC, server_name
    LIMIT $10
)

-- facet_statistics --
-- The statistics of everybody's assessments of certain states, types, sources, servers and priorities, with the arguments of
-- `matching_assessments` and in the rows of `matching_statistics`: sums of their counters; the days of a time zone ($15) from
-- an instant on ($7), by the counters that have them or by the assessments ($16); and the servers with the most ($17).
WITH kept AS MATERIALIZED (
    SELECT
        grouping(server_name) = 1 AS is_total, assessment_type, priority, server_name, sum(counted)::bigint AS counted,
        max(last_created_at) AS last_created_at, sum(pending) AS pending, sum(processing) AS processing,
        sum(completed) AS completed, sum(failed) AS failed, sum(cancelled) AS cancelled,
        sum(completed_timed) AS completed_timed, sum(completed_ms) AS completed_ms, sum(failed_timed) AS failed_timed,
        sum(failed_ms) AS failed_ms, sum(cancelled_timed) AS cancelled_timed, sum(cancelled_ms) AS cancelled_ms
    FROM server_facet_totals AS stored
    CROSS JOIN LATERAL (SELECT counted_states($2, pending, processing, completed, failed, cancelled) AS counted) AS derived
    WHERE counted > 0
        AND ($3::text[] IS NULL OR assessment_type = ANY($3))
        AND ($4::text IS NULL OR source = $4)
        AND ($5::text[] IS NULL OR server_name = ANY($5))
        AND ($6::text IS NULL OR (server_name LIKE $6 AND server_name <> ''))
        AND ($11::int IS NULL OR priority >= $11)
        AND ($12::int IS NULL OR priority <= $12)
        -- True of all rows: without an index Postgres may then read them as they lie, in a third of the time.
        AND stored.ctid >= '(0,0)'
    GROUP BY GROUPING SETS ((assessment_type, priority), (server_name))
), days AS (
    SELECT
        day AS date, sum(counted_states($2, pending, processing, completed, failed, cancelled)) AS counted,
        sum(completed) AS completed, sum(failed) AS failed
    FROM day_totals
    WHERE $16 = 'day_totals' AND day >= ($7::timestamptz)::date
        AND ($3::text[] IS NULL OR assessment_type = ANY($3))
        AND ($4::text IS NULL OR source = $4)
        AND ($11::int IS NULL OR priority >= $11)
        AND ($12::int IS NULL OR priority <= $12)
    GROUP BY day
    UNION ALL
    SELECT
        day, sum(counted_states($2, pending, processing, completed, failed, cancelled)), sum(completed), sum(failed)
    FROM server_day_totals
    WHERE $16 = 'server_day_totals' AND day >= ($7::timestamptz)::date
        AND ($5::text[] IS NULL OR server_name = ANY($5))
        AND ($6::text IS NULL OR server_name LIKE $6)
    GROUP BY day
    UNION ALL
    SELECT
        (created_at AT TIME ZONE $15)::date, count(*), count(*) FILTER (WHERE state = 'completed'),
        count(*) FILTER (WHERE state = 'failed')
    FROM (
        SELECT created_at, state, priority
        FROM matching_assessments($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, NULL, NULL, $13, $14)
        OFFSET 0 -- else Postgres might go through a priority's entries of all times
    ) AS lately
    WHERE $16 = 'assessments'
        AND ($11::int IS NULL OR priority >= $11)
        AND ($12::int IS NULL OR priority <= $12)
    GROUP BY 1
)
SELECT
    true AS is_total, false AS is_day, assessment_type, priority, state, NULL::date AS date, NULL AS server_name,
    of_state.assessments::bigint AS assessments, timed::bigint AS timed, ms::bigint AS duration_ms,
    NULL::bigint AS completed, NULL::bigint AS failed, NULL::timestamptz AS last_created_at
FROM kept CROSS JOIN LATERAL (
    VALUES
        ('pending', pending, 0, 0), ('processing', processing, 0, 0),
        ('completed', completed, completed_timed, completed_ms), ('failed', failed, failed_timed, failed_ms),
        ('cancelled', cancelled, cancelled_timed, cancelled_ms)
) AS of_state (state, assessments, timed, ms)
WHERE is_total AND ($2::text[] IS NULL OR state = ANY($2)) AND of_state.assessments > 0

UNION ALL

SELECT
    false, true, NULL, NULL, NULL, date, NULL, counted::bigint, NULL, NULL,
    CASE WHEN $2::text[] IS NULL OR 'completed' = ANY($2) THEN completed END::bigint,
    CASE WHEN $2::text[] IS NULL OR 'failed' = ANY($2) THEN failed END::bigint, NULL
FROM days
WHERE counted > 0

UNION ALL

(
    SELECT false, false, NULL, NULL, NULL, NULL, server_name, counted, NULL, NULL, NULL, NULL, last_created_at
    FROM kept
    WHERE NOT is_total AND server_name <> ''
    ORDER BY counted DESC, server_name
    LIMIT $17
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
