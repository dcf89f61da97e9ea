-- The truth: states, their audit trail, and the metrics of ended assessments.

CREATE TABLE assessment_states (
    assessment_id VARCHAR(255) PRIMARY KEY,
    state VARCHAR(50) NOT NULL,
    version INTEGER NOT NULL DEFAULT 1,
    progress INTEGER NOT NULL DEFAULT 0,
    message TEXT,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    started_at TIMESTAMP WITH TIME ZONE,
    completed_at TIMESTAMP WITH TIME ZONE,
    request_data JSONB NOT NULL,
    result_data JSONB,
    error_message TEXT,
    retry_count INTEGER NOT NULL DEFAULT 0,
    next_retry_at TIMESTAMP WITH TIME ZONE,
    metadata JSONB,
    CONSTRAINT chk_state CHECK (state IN ('pending', 'processing', 'completed', 'failed', 'cancelled')),
    CONSTRAINT chk_progress CHECK (progress >= 0 AND progress <= 100),
    CONSTRAINT chk_version CHECK (version > 0),
    CONSTRAINT chk_retry_count CHECK (retry_count >= 0)
);

-- Each row is an event: `details` is its value on Kafka, and the trail is the outbox of the events topic.
CREATE TABLE assessment_audit_trail (
    id BIGSERIAL PRIMARY KEY,
    assessment_id VARCHAR(255) NOT NULL,
    action VARCHAR(50) NOT NULL,
    old_state VARCHAR(50),
    new_state VARCHAR(50) NOT NULL,
    old_version INTEGER,
    new_version INTEGER NOT NULL,
    user_id VARCHAR(255),
    details JSONB,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    command_id VARCHAR(255),
    command_fingerprint BYTEA,
    command_partition INTEGER,
    command_offset BIGINT,
    traceparent TEXT,
    FOREIGN KEY (assessment_id) REFERENCES assessment_states(assessment_id)
);

CREATE TABLE assessment_metrics (
    id BIGSERIAL PRIMARY KEY,
    assessment_id VARCHAR(255) NOT NULL,
    metric_name VARCHAR(100) NOT NULL,
    metric_value NUMERIC NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    FOREIGN KEY (assessment_id) REFERENCES assessment_states(assessment_id)
);

CREATE INDEX idx_assessment_states_state_created ON assessment_states(state, created_at);
CREATE INDEX idx_assessment_states_version ON assessment_states(version);
CREATE INDEX idx_assessment_states_next_retry ON assessment_states(next_retry_at)
    WHERE next_retry_at IS NOT NULL;
CREATE UNIQUE INDEX idx_assessment_audit_trail_assessment ON assessment_audit_trail(assessment_id, new_version);
CREATE INDEX idx_assessment_audit_trail_created ON assessment_audit_trail(created_at);
CREATE UNIQUE INDEX idx_assessment_audit_trail_command ON assessment_audit_trail(command_id);
CREATE INDEX idx_assessment_audit_trail_offset ON assessment_audit_trail(command_partition, command_offset);
CREATE INDEX idx_assessment_metrics_assessment ON assessment_metrics(assessment_id);
CREATE INDEX idx_assessment_metrics_created ON assessment_metrics(created_at);

CREATE FUNCTION update_updated_at_column()
RETURNS TRIGGER AS $$
BEGIN
    NEW.updated_at = NOW();
    RETURN NEW;
END;
$$ LANGUAGE plpgsql;

-- An update that says when it happened is believed: events and rows carry the same time.
CREATE TRIGGER update_assessment_states_updated_at
    BEFORE UPDATE ON assessment_states
    FOR EACH ROW
    WHEN (NEW.updated_at IS NOT DISTINCT FROM OLD.updated_at)
    EXECUTE FUNCTION update_updated_at_column();
