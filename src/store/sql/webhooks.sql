-- insert_webhook --
-- Register a webhook, unless it is there, or its owner has as many as one may have ($9).
INSERT INTO webhooks (id, owner, sees_everything, url, description, event_types, assessment_id, secret)
SELECT $1::uuid, $2::text, $3::boolean, $4::text, $5::text, $6::text[], $7::text, $8::text
WHERE (SELECT count(*) FROM webhooks WHERE owner = $2::text) < $9::int
ON CONFLICT (id) DO NOTHING

-- get_webhook --
-- One webhook.
SELECT * FROM webhooks WHERE id = $1

-- list_webhooks --
-- Those of one owner, or of everybody, after one of them; the oldest first.
SELECT * FROM webhooks
WHERE ($1::text IS NULL OR owner = $1) AND ($2::timestamptz IS NULL OR (created_at, id) > ($2, $3::uuid))
ORDER BY created_at, id
LIMIT $4

-- delete_webhook --
-- Forget a webhook with all that it was to be told.
DELETE FROM webhooks WHERE id = $1

-- hold_webhook --
-- One webhook, and nobody else changes it until the end of the transaction.
SELECT * FROM webhooks WHERE id = $1 FOR UPDATE

-- rotate_webhook --
-- Sign with a new secret, and for so many seconds ($3) with the one before, too.
UPDATE webhooks
SET former_secret = secret, former_secret_ends = NOW() + $3::float8 * INTERVAL '1 second', secret = $2
WHERE id = $1
RETURNING *

-- resume_webhook --
-- Send again, and at once, what was given up too.
WITH queued AS (
    UPDATE webhook_deliveries SET attempts = 0, due_at = NOW(), given_up_at = NULL WHERE webhook_id = $1
)
UPDATE webhooks
SET disabled_at = NULL, disabled_reason = NULL, failures = 0, failing_since = NULL, last_error = NULL, retry_at = NOW()
WHERE id = $1

-- queue_trial --
-- Send a test message.
INSERT INTO webhook_deliveries (webhook_id, assessment_id, version, event_type, occurred_at)
VALUES ($1, '', 0, $2, NOW())

-- waiting_deliveries --
-- The first messages of a webhook that wait, and the last ones that were given up.
(SELECT * FROM webhook_deliveries WHERE webhook_id = $1 AND given_up_at IS NULL ORDER BY id LIMIT $2)
UNION ALL
(SELECT * FROM webhook_deliveries WHERE webhook_id = $1 AND given_up_at IS NOT NULL ORDER BY id DESC LIMIT $2)

-- take_webhook_queue --
-- One process at a time fills the queues; whether it is this one, until the end of the transaction.
SELECT pg_try_advisory_xact_lock($1)

-- partitions_to_queue --
-- The partitions with commands whose events are not in the queues: from where on, and up to where.
SELECT fence.partition, COALESCE(done.next_offset, 0) AS first, fence.next_offset AS end,
    EXISTS (SELECT FROM webhooks WHERE disabled_at IS NULL) AS anybody
FROM command_offsets AS fence
LEFT JOIN webhook_positions AS done USING (partition)
WHERE fence.topic = $1 AND done.next_offset IS DISTINCT FROM fence.next_offset

-- queue_deliveries --
-- Put the events of a range of offsets of one partition into the queues of those who want and may see them.
INSERT INTO webhook_deliveries (webhook_id, assessment_id, version, event_type, occurred_at)
SELECT hook.id, trail.assessment_id, trail.new_version, 'assessment.' || trail.action, trail.created_at
FROM assessment_audit_trail AS trail
JOIN assessment_states AS states USING (assessment_id)
JOIN webhooks AS hook ON
    trail.created_at >= hook.created_at
    AND (hook.event_types IS NULL OR 'assessment.' || trail.action = ANY(hook.event_types))
    AND (hook.assessment_id IS NULL OR hook.assessment_id = trail.assessment_id)
    AND (hook.sees_everything OR hook.owner = states.owner)
WHERE trail.command_partition = $1 AND trail.command_offset >= $2 AND trail.command_offset < $3
    AND hook.disabled_at IS NULL
ORDER BY trail.command_offset

-- move_webhook_position --
-- Everything below is in the queues.
INSERT INTO webhook_positions (partition, next_offset) VALUES ($1, $2)
ON CONFLICT (partition) DO UPDATE SET next_offset = EXCLUDED.next_offset

-- lease_webhooks --
-- Take some webhooks that have something to be told, for so many seconds ($2).
UPDATE webhooks
SET leased_by = $1, leased_until = NOW() + $2::float8 * INTERVAL '1 second'
WHERE id IN (
    SELECT hook.id FROM webhooks AS hook
    WHERE hook.disabled_at IS NULL AND hook.leased_until < NOW() AND hook.retry_at <= NOW()
        AND EXISTS (
            SELECT FROM webhook_deliveries AS waiting
            WHERE waiting.webhook_id = hook.id AND waiting.given_up_at IS NULL AND waiting.due_at <= NOW()
                AND NOT EXISTS (
                    SELECT FROM webhook_deliveries AS earlier
                    WHERE earlier.webhook_id = hook.id AND earlier.assessment_id = waiting.assessment_id
                        AND earlier.version < waiting.version AND earlier.given_up_at IS NULL
                        AND earlier.due_at > NOW()
                )
        )
    ORDER BY hook.retry_at
    LIMIT $3
    FOR UPDATE SKIP LOCKED
)
RETURNING *

-- release_webhooks --
-- Let go of all that a process has taken.
UPDATE webhooks SET leased_until = '-infinity' WHERE leased_by = $1

-- due_deliveries --
-- What a webhook is to be told now, with the event: nothing of an assessment of which something earlier waits.
SELECT waiting.id, waiting.assessment_id, waiting.version, waiting.event_type, waiting.occurred_at, waiting.attempts,
    trail.details::text AS event
FROM webhook_deliveries AS waiting
LEFT JOIN assessment_audit_trail AS trail
    ON trail.assessment_id = waiting.assessment_id AND trail.new_version = waiting.version
    AND trail.created_at = waiting.occurred_at
WHERE waiting.webhook_id = $1 AND waiting.given_up_at IS NULL AND waiting.due_at <= NOW()
    AND NOT EXISTS (
        SELECT FROM webhook_deliveries AS earlier
        WHERE earlier.webhook_id = waiting.webhook_id AND earlier.assessment_id = waiting.assessment_id
            AND earlier.version < waiting.version AND earlier.given_up_at IS NULL AND earlier.due_at > NOW()
    )
ORDER BY waiting.id
LIMIT $2

-- forget_delivery --
-- It was taken, or there is nothing to tell any more.
DELETE FROM webhook_deliveries WHERE id = $1

-- postpone_delivery --
-- It was not taken: send it again after so many seconds ($4), or never.
UPDATE webhook_deliveries
SET attempts = attempts + 1, last_status = $2, last_error = $3,
    due_at = NOW() + COALESCE($4::float8, 0) * INTERVAL '1 second',
    given_up_at = CASE WHEN $4::float8 IS NULL THEN NOW() END
WHERE id = $1

-- end_turn --
-- How a webhook did: so many messages taken ($3), and the last failure ($4), after which it is left alone for so many
-- seconds ($5); for what it is switched off ($6), if it is. It is, too, once it fails for so many seconds ($7), or so
-- many messages wait ($8).
UPDATE webhooks
SET delivered = delivered + $3::bigint, delivered_at = CASE WHEN $3::bigint > 0 THEN NOW() ELSE delivered_at END,
    failures = CASE
        WHEN $4::text IS NULL AND $3::bigint = 0 THEN failures
        WHEN $4::text IS NULL THEN 0
        WHEN $3::bigint > 0 THEN 1
        ELSE failures + 1
    END,
    failing_since = CASE
        WHEN $4::text IS NULL AND $3::bigint = 0 THEN failing_since
        WHEN $4::text IS NULL THEN NULL
        WHEN $3::bigint > 0 THEN NOW()
        ELSE COALESCE(failing_since, NOW())
    END,
    last_error = CASE WHEN $4::text IS NULL AND $3::bigint = 0 THEN last_error ELSE $4::text END,
    retry_at = NOW() + $5::float8 * INTERVAL '1 second', leased_until = '-infinity',
    disabled_reason = ending.reason, disabled_at = CASE WHEN ending.reason IS NOT NULL THEN NOW() END
FROM (
    SELECT CASE
        WHEN $6::text IS NOT NULL THEN $6::text
        WHEN $4::text IS NULL OR $3::bigint > 0 THEN NULL
        WHEN failing_since < NOW() - $7::float8 * INTERVAL '1 second' THEN 'failing'
        WHEN (
            SELECT count(*) FROM (
                SELECT FROM webhook_deliveries WHERE webhook_id = $1 AND given_up_at IS NULL LIMIT $8::bigint + 1
            ) AS queued
        ) > $8::bigint THEN 'queue_full'
    END AS reason
    FROM webhooks WHERE id = $1
) AS ending
WHERE id = $1 AND leased_by = $2
RETURNING disabled_reason
