-- What is told to others: webhooks and their queues, and what the audit service refused.

CREATE TABLE webhooks (
    id UUID PRIMARY KEY,
    owner VARCHAR(255) NOT NULL,
    -- As the roles of its owner were when it was registered: whether it hears of everybody's assessments.
    sees_everything BOOLEAN NOT NULL,
    url TEXT NOT NULL,
    description TEXT,
    -- Nothing lets all through.
    event_types TEXT[],
    assessment_id VARCHAR(255),
    secret TEXT NOT NULL,
    -- Signs besides, until it ends.
    former_secret TEXT,
    former_secret_ends TIMESTAMP WITH TIME ZONE,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    disabled_at TIMESTAMP WITH TIME ZONE,
    disabled_reason TEXT,
    -- One after the other; while there are any, nothing is sent before retry_at.
    failures INTEGER NOT NULL DEFAULT 0,
    failing_since TIMESTAMP WITH TIME ZONE,
    retry_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    last_error TEXT,
    delivered BIGINT NOT NULL DEFAULT 0,
    delivered_at TIMESTAMP WITH TIME ZONE,
    -- The worker that sends to it.
    leased_by TEXT,
    leased_until TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT '-infinity'
);

CREATE INDEX idx_webhooks_owner ON webhooks(owner, created_at);

-- What is still to be told, or was given up; the event itself stands in the audit trail.
CREATE TABLE webhook_deliveries (
    id BIGSERIAL PRIMARY KEY,
    webhook_id UUID NOT NULL REFERENCES webhooks(id) ON DELETE CASCADE,
    -- The message of a test is about none, at version 0.
    assessment_id VARCHAR(255) NOT NULL,
    version INTEGER NOT NULL,
    event_type VARCHAR(50) NOT NULL,
    occurred_at TIMESTAMP WITH TIME ZONE NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    last_status INTEGER,
    last_error TEXT,
    given_up_at TIMESTAMP WITH TIME ZONE
);

CREATE INDEX idx_webhook_deliveries_queue ON webhook_deliveries(webhook_id, id) WHERE given_up_at IS NULL;
CREATE INDEX idx_webhook_deliveries_order ON webhook_deliveries(webhook_id, assessment_id, version)
    WHERE given_up_at IS NULL;
CREATE INDEX idx_webhook_deliveries_given_up ON webhook_deliveries(webhook_id, id) WHERE given_up_at IS NOT NULL;

-- Every event of a command below this offset is in the queues.
CREATE TABLE webhook_positions (
    partition INTEGER PRIMARY KEY,
    next_offset BIGINT NOT NULL
);

-- Records that the audit service refused for good, as they were sent.
CREATE TABLE audit_dead_letters (
    id BIGSERIAL PRIMARY KEY,
    event_id TEXT NOT NULL,
    record TEXT NOT NULL,
    reason TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    closed_at TIMESTAMP WITH TIME ZONE,
    closed_by TEXT,
    -- Of one that was dropped; nothing where the service has it by now.
    drop_reason TEXT
);

CREATE UNIQUE INDEX idx_audit_dead_letters_open ON audit_dead_letters(event_id) WHERE closed_at IS NULL;
