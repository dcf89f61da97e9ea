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

-- keys_of_requests --
-- The same of what is kept of requests whose answers have secrets; nobody has many of them.
SELECT
    user_id || E'\n' || key AS place,
    ARRAY[plan -> '$encrypted' ->> 'keyId']
        || CASE WHEN answer IS NOT NULL THEN ARRAY[answer -> '$encrypted' ->> 'keyId'] END AS keys
FROM batch_requests
WHERE (plan ? '$encrypted' OR plan ? 'secret') AND user_id || E'\n' || key > $1
ORDER BY user_id || E'\n' || key
LIMIT $2

-- keys_of_quarantine --
-- The same of lines of exports that are put aside.
SELECT digest AS place, ARRAY[value -> '$encrypted' ->> 'keyId'] AS keys
FROM legacy_quarantine
WHERE digest > $1
ORDER BY digest
LIMIT $2

-- keys_of_reports --
-- The same of what the old system says of assessments.
SELECT assessment_id AS place, ARRAY[record -> '$encrypted' ->> 'keyId'] AS keys
FROM legacy_reports
WHERE assessment_id > $1
ORDER BY assessment_id
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

-- hold_requests --
-- The same of requests.
SELECT user_id || E'\n' || key AS place, NULL AS assessment_id, plan::text AS plan, answer::text AS answer
FROM batch_requests
WHERE user_id || E'\n' || key = ANY($1::text[])
FOR NO KEY UPDATE SKIP LOCKED

-- hold_quarantine --
-- The same of lines that are put aside.
SELECT digest AS place, assessment_id, value::text AS value
FROM legacy_quarantine
WHERE digest = ANY($1::bytea[])
FOR NO KEY UPDATE SKIP LOCKED

-- hold_reports --
-- The same of reports.
SELECT assessment_id AS place, assessment_id, record::text AS record
FROM legacy_reports
WHERE assessment_id = ANY($1::text[])
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

-- reseal_requests --
-- Write plans and answers that were encrypted anew.
UPDATE batch_requests AS stored
SET plan = new.plan::jsonb, answer = new.answer::json
FROM unnest($1::text[], $2::text[], $3::text[]) AS new (place, plan, answer)
WHERE stored.user_id || E'\n' || stored.key = new.place

-- reseal_quarantine --
-- Write lines that were encrypted anew.
UPDATE legacy_quarantine AS stored
SET value = new.value::jsonb
FROM unnest($1::bytea[], $2::text[]) AS new (digest, value)
WHERE stored.digest = new.digest

-- reseal_reports --
-- Write reports that were encrypted anew.
UPDATE legacy_reports AS stored
SET record = new.record::jsonb
FROM unnest($1::text[], $2::text[]) AS new (assessment_id, record)
WHERE stored.assessment_id = new.assessment_id
