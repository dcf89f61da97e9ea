-- write_refusals --
-- Keep refusals; one that is there already was written by an attempt whose answer was lost.
INSERT INTO access_refusals (
    id, refused_at, user_id, roles, method, route, assessment_id, status, code, message, remote_address, user_agent,
    trace_id
)
SELECT
    refused.id, refused.at, refused.user_id, string_to_array(refused.roles, ' '), refused.method, refused.route,
    refused.assessment_id, refused.status, refused.code, refused.message, refused.remote_address, refused.user_agent,
    refused.trace_id
FROM unnest(
    $1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::smallint[],
    $9::text[], $10::text[], $11::text[], $12::text[], $13::text[]
) AS refused(
    id, at, user_id, roles, method, route, assessment_id, status, code, message, remote_address, user_agent, trace_id
)
ON CONFLICT (id) DO NOTHING

-- forget_refusals --
-- Delete some of the refusals from before a time; what another process deletes just now is left to it.
WITH old AS (
    SELECT id FROM access_refusals WHERE refused_at < $1 ORDER BY refused_at LIMIT $2 FOR UPDATE SKIP LOCKED
)
DELETE FROM access_refusals USING old WHERE access_refusals.id = old.id
RETURNING 1
