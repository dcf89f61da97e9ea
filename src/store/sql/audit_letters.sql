-- put_audit_letter --
-- Keep a record that the audit service refused, unless it is there and open.
INSERT INTO audit_dead_letters (event_id, record, reason) VALUES ($1, $2, $3)
ON CONFLICT (event_id) WHERE closed_at IS NULL DO NOTHING

-- open_audit_letters --
-- Those that nobody has seen to, oldest first, after an id.
SELECT id, event_id, record, reason, created_at
FROM audit_dead_letters
WHERE closed_at IS NULL AND id > $1
ORDER BY id
LIMIT $2

-- close_audit_letter --
-- The service has it by now, or somebody dropped it.
UPDATE audit_dead_letters SET closed_at = NOW(), closed_by = $2, drop_reason = $3
WHERE id = $1 AND closed_at IS NULL
RETURNING id

-- outward_figures --
-- What waits: refused records, notifications (counted to 100,000), and since when the oldest does of a webhook that
-- does not fail.
SELECT
    (SELECT count(*) FROM audit_dead_letters WHERE closed_at IS NULL) AS open_letters,
    (SELECT count(*) FROM (SELECT FROM webhook_deliveries WHERE given_up_at IS NULL LIMIT 100000) AS waiting) AS queued,
    (
        SELECT COALESCE(EXTRACT(EPOCH FROM NOW() - min(oldest.due_at)), 0)::float8
        FROM webhooks AS hook
        CROSS JOIN LATERAL (
            SELECT due_at FROM webhook_deliveries
            WHERE webhook_id = hook.id AND given_up_at IS NULL
            ORDER BY id
            LIMIT 1
        ) AS oldest
        WHERE hook.disabled_at IS NULL AND hook.failures = 0 AND oldest.due_at <= NOW()
    ) AS delay
