-- keys_of_states --
-- The next states after one, with the keys that their payloads are encrypted under; none where a payload is clear.
SELECT
    assessment_id AS place, request_data -> '$encrypted' ->> 'keyId' AS request_key,
    result_data -> '$encrypted' ->> 'keyId' AS result_key, true AS has_request, result_data IS NOT NULL AS has_result
FROM assessment_states
WHERE assessment_id > $1
ORDER BY assessment_id
LIMIT $2

-- keys_of_events --
-- The same of the rows of the audit trail; most events have no payload.
SELECT
    id AS place, details -> 'request' -> '$encrypted' ->> 'keyId' AS request_key,
    details -> 'result' -> '$encrypted' ->> 'keyId' AS result_key, action IN ('created', 'imported') AS has_request,
    action IN ('completed', 'imported') AND details -> 'result' <> 'null' AS has_result
FROM (
    SELECT id, action, CASE WHEN action IN ('created', 'completed', 'imported') THEN details END AS details
    FROM assessment_audit_trail
    WHERE id > $1
    ORDER BY id
    LIMIT $2
) AS rows_
ORDER BY id

-- hold_states --
-- Some states, past those that a worker changes just now.
SELECT assessment_id AS place, assessment_id, request_data, result_data
FROM assessment_states
WHERE assessment_id = ANY($1::text[])
FOR NO KEY UPDATE SKIP LOCKED

-- hold_events --
-- The same of rows of the audit trail.
SELECT id AS place, assessment_id, details
FROM assessment_audit_trail
WHERE id = ANY($1::bigint[])
FOR NO KEY UPDATE SKIP LOCKED

-- begin_rotating --
-- Until the end of the transaction, an update is no change.
SELECT set_config('assessmentstore.rotating', 'on', true)

-- reseal_states --
-- Write payloads that were encrypted anew.
UPDATE assessment_states AS stored
SET request_data = new.request_data::jsonb, result_data = new.result_data::jsonb
FROM unnest($1::text[], $2::text[], $3::text[]) AS new (assessment_id, request_data, result_data)
WHERE stored.assessment_id = new.assessment_id

-- reseal_events --
-- Write events whose payloads were encrypted anew.
UPDATE assessment_audit_trail AS stored
SET details = new.details::jsonb
FROM unnest($1::bigint[], $2::text[]) AS new (id, details)
WHERE stored.id = new.id
