-- list_page --
-- A page in one of the orders, after a place and up to one. What stands in braces is filled in from a fixed table, so that
-- Postgres sees an order that an index has.
SELECT * FROM matching_assessments($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
WHERE ($15::{type} IS NULL OR ({column}, assessment_id) {beyond} ($15, $16))
    AND ($17::{type} IS NULL OR ({column}, assessment_id) {within} ($17, $18))
ORDER BY {column} {direction}, assessment_id {direction}
LIMIT $19 OFFSET $20

-- list_edge --
-- The place that lies so many assessments further on in an order.
SELECT {column} AS value, assessment_id
FROM matching_assessments($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
WHERE ($15::{type} IS NULL OR ({column}, assessment_id) {beyond} ($15, $16))
ORDER BY {column} {direction}, assessment_id {direction}
LIMIT 1 OFFSET $17

-- list_sorted --
-- A page of few assessments: all of them are found first, by whatever lets the fewest through, their facets ($17) maybe.
WITH page AS (
    SELECT * FROM (
        SELECT {column} AS value, assessment_id
        FROM matching_assessments($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
        WHERE ($15::{type} IS NULL OR ({column}, assessment_id) {beyond} ($15, $16))
            AND ($17::int[] IS NULL OR {key} = ANY($17))
        OFFSET 0 -- else Postgres would go along the order all the same
    ) AS found
    ORDER BY value {direction}, assessment_id {direction}
    LIMIT $18 OFFSET $19
)
SELECT stored.* FROM page JOIN assessment_states AS stored USING (assessment_id)
ORDER BY value {direction}, assessment_id {direction}

-- list_merged --
-- A page out of several lists, each of one key ($17) and in the order: the first few ($18) of each, and of those that may
-- have more of the page, as many as may be ($19).
WITH few AS MATERIALIZED (
    SELECT lists.key, found.* FROM unnest($17::{key_type}[]) AS lists (key)
    CROSS JOIN LATERAL (
        SELECT {column} AS value, assessment_id
        FROM matching_assessments($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
        WHERE {key} = lists.key AND ($15::{type} IS NULL OR ({column}, assessment_id) {beyond} ($15, $16))
        ORDER BY {column} {direction}, assessment_id {direction}
        LIMIT $18
    ) AS found
),
best AS MATERIALIZED (SELECT * FROM few ORDER BY value {direction}, assessment_id {direction} LIMIT $19),
longer AS MATERIALIZED (SELECT key FROM best GROUP BY key HAVING count(*) = $18),
page AS (
    SELECT value, assessment_id FROM best WHERE key <> ALL (ARRAY(SELECT key FROM longer))
    UNION ALL
    SELECT found.* FROM longer CROSS JOIN LATERAL (
        SELECT {column} AS value, assessment_id
        FROM matching_assessments($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
        WHERE {key} = longer.key AND ($15::{type} IS NULL OR ({column}, assessment_id) {beyond} ($15, $16))
        ORDER BY {column} {direction}, assessment_id {direction}
        LIMIT $19
    ) AS found
    ORDER BY value {direction}, assessment_id {direction}
    LIMIT $20 OFFSET $21
)
SELECT stored.* FROM page JOIN assessment_states AS stored USING (assessment_id)
ORDER BY value {direction}, assessment_id {direction}

-- facets --
-- The facets that have assessments and that filters of counters let through.
SELECT facet_of(state, assessment_type, source, priority) AS facet
FROM matching_totals($1, $2, $3, $4, $5, $6)
GROUP BY facet
HAVING sum(assessments) > 0

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
    count(duration) AS timed,
    coalesce(sum((date_part('epoch', duration) * 1000)::bigint), 0)::bigint AS duration_ms,
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
