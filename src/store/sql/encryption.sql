-- keys_of_states --
-- The next states after one, with the keys that their payloads are encrypted under; none where a payload is clear.
SELECT
    assessment_id AS place,
    ARRAY[request_data -> '$encrypted' ->> 'keyId']
        || CASE WHEN result_data IS NOT NULL THEN ARRAY[result_data -> '$encrypted' ->> 'keyId'] END AS keys
FROM assessment_states
WHERE assessment_id > $1
ORDER BY assessment_id
LIMIT $2

-- keys_of_events --
-- The same of the rows of the audit trail; most events have no payload.
SELECT
    id AS place,
    CASE WHEN action IN ('created', 'imported') THEN ARRAY[details -> 'request' -> '$encrypted' ->> 'keyId'] END
        || CASE
            WHEN action IN ('completed', 'imported') AND details -> 'result' <> 'null'
                THEN ARRAY[details -> 'result' -> '$encrypted' ->> 'keyId']
        END AS keys
FROM (
    SELECT id, action, CASE WHEN action IN ('created', 'completed', 'imported') THEN details END AS details
    FROM assessment_audit_trail
    WHERE id > $1
    ORDER BY id
    LIMIT $2
) AS rows_
ORDER BY id

-- keys_of_webhooks --
-- The same of webhooks; a former secret that signs no more is none.
SELECT
    id AS place,
    ARRAY[CASE WHEN secret LIKE '{%' THEN secret::jsonb -> '$encrypted' ->> 'keyId' END]
        || CASE
            WHEN former_secret_ends > NOW()
                THEN ARRAY[CASE WHEN former_secret LIKE '{%' THEN former_secret::jsonb -> '$encrypted' ->> 'keyId' END]
        END AS keys
FROM webhooks
WHERE id > $1
ORDER BY id
LIMIT $2

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

-- hold_webhooks --
-- The same of webhooks.
SELECT
    id AS place, NULL AS assessment_id, secret,
    CASE WHEN former_secret_ends > NOW() THEN former_secret END AS former_secret
FROM webhooks
WHERE id = ANY($1::uuid[])
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

-- reseal_webhooks --
-- Write secrets that were encrypted anew.
UPDATE webhooks AS stored
SET secret = new.secret, former_secret = new.former_secret
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS new (id, secret, former_secret)
WHERE stored.id = new.id
