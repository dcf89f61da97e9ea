-- list_page --
-- A page in one of the orders. What stands in braces is filled in from a fixed table, so that Postgres sees an order
-- that an index has.
SELECT * FROM matching_assessments($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
WHERE $15::{type} IS NULL OR ({column}, assessment_id) {beyond} ($15, $16)
ORDER BY {column} {direction}, assessment_id {direction}
LIMIT $17 OFFSET $18

-- count_matching --
-- How many assessments filters let through, up to a limit.
SELECT count(*) FROM (
    SELECT FROM matching_assessments($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) LIMIT $15
) AS found

-- matching_statistics --
-- The statistics of what filters let through, in one pass: a row has either type, priority and state, or a day from an
-- instant on ($16), or a server.
SELECT
    grouping(state) = 0 AS is_total, grouping(date) = 0 AS is_day,
    assessment_type, priority, state, date, server_name, count(*) AS assessments,
    count(*) FILTER (WHERE retry_count > 0) AS retried, count(duration) AS timed,
    coalesce(sum(round(extract(epoch FROM duration) * 1000)), 0)::bigint AS duration_ms,
    count(*) FILTER (WHERE state = 'completed') AS completed, count(*) FILTER (WHERE state = 'failed') AS failed,
    max(created_at) AS last_created_at
FROM matching_assessments($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
CROSS JOIN LATERAL (
    SELECT
        completed_at - started_at AS duration,
        CASE WHEN created_at >= $16 THEN (created_at AT TIME ZONE $15)::date END AS date
) AS derived
GROUP BY GROUPING SETS ((assessment_type, priority, state), (date), (server_name))

-- servers_like --
-- The names of a scope's servers that are like a pattern, up to a limit.
SELECT DISTINCT server_name FROM server_totals
WHERE scope = $1 AND server_name LIKE $2
LIMIT $3

-- history --
-- The audit trail of one assessment, oldest first.
SELECT action, old_state, new_state, old_version, new_version, user_id, command_id, details::text, created_at
FROM assessment_audit_trail
WHERE assessment_id = $1 AND new_version > $2
ORDER BY new_version
LIMIT $3
