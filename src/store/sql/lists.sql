-- list_page --
-- A page in one of the orders. What stands in braces is filled in from a fixed table, so that Postgres sees an order
-- that an index has.
SELECT * FROM matching_assessments($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
WHERE $14::{type} IS NULL OR ({column}, assessment_id) {beyond} ($14, $15)
ORDER BY {column} {direction}, assessment_id {direction}
LIMIT $16 OFFSET $17

-- count_matching --
-- How many assessments filters let through, up to a limit.
SELECT count(*) FROM (
    SELECT FROM matching_assessments($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) LIMIT $14
) AS found

-- count_by_totals --
-- How many assessments filters let through that counters are kept for.
SELECT coalesce(sum(assessments), 0)::bigint FROM assessment_totals
WHERE scope = $1
    AND ($2::text[] IS NULL OR state = ANY($2))
    AND ($3::text[] IS NULL OR assessment_type = ANY($3))
    AND ($4::text IS NULL OR source = $4)
    AND ($5::int IS NULL OR priority >= $5)
    AND ($6::int IS NULL OR priority <= $6)

-- matching_totals --
-- The same as `totals`, of what filters let through.
SELECT
    assessment_type, priority, state, count(*) AS assessments, count(*) FILTER (WHERE retry_count > 0) AS retried,
    count(completed_at - started_at) AS timed,
    coalesce(sum(round(extract(epoch FROM completed_at - started_at) * 1000)), 0)::bigint AS duration_ms
FROM matching_assessments($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
GROUP BY assessment_type, priority, state

-- matching_created --
-- The same as `created_totals`, of what filters let through.
SELECT
    (created_at AT TIME ZONE $14)::date AS date, count(*) AS assessments,
    count(*) FILTER (WHERE state = 'completed') AS completed, count(*) FILTER (WHERE state = 'failed') AS failed
FROM matching_assessments($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
GROUP BY 1
ORDER BY 1

-- matching_servers --
-- The same as `server_totals`, of what filters let through.
SELECT server_name, count(*) AS assessments, max(created_at) AS last_created_at
FROM matching_assessments($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
WHERE server_name IS NOT NULL
GROUP BY server_name
ORDER BY assessments DESC, server_name
LIMIT $14

-- history --
-- The audit trail of one assessment, oldest first.
SELECT action, old_state, new_state, old_version, new_version, user_id, command_id, details::text, created_at
FROM assessment_audit_trail
WHERE assessment_id = $1 AND new_version > $2
ORDER BY new_version
LIMIT $3
