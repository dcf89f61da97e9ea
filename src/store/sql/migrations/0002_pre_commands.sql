-- What one batch of commands needs to have exactly one effect.

-- The fence: the worker whose epoch stands here owns the partition, and everything below next_offset is applied.
-- Kafka holds how far events were published; emitted_offset lags behind it, and stands in where Kafka let it expire.
CREATE TABLE command_offsets (
    topic VARCHAR(249) NOT NULL,
    partition INTEGER NOT NULL,
    epoch BIGINT NOT NULL,
    next_offset BIGINT NOT NULL DEFAULT 0,
    emitted_offset BIGINT NOT NULL DEFAULT 0,
    owner TEXT NOT NULL,
    claimed_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    PRIMARY KEY (topic, partition)
);

-- Refused commands, kept so that a duplicate gets the first answer; the outbox of the rejections topic.
CREATE TABLE command_rejections (
    id BIGSERIAL PRIMARY KEY,
    command_id VARCHAR(255) NOT NULL,
    command_type VARCHAR(50) NOT NULL,
    command_fingerprint BYTEA NOT NULL,
    assessment_id TEXT NOT NULL,
    user_id TEXT,
    code VARCHAR(50) NOT NULL,
    message TEXT NOT NULL,
    details JSONB NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    command_partition INTEGER NOT NULL,
    command_offset BIGINT NOT NULL,
    traceparent TEXT
);

CREATE UNIQUE INDEX idx_command_rejections_command ON command_rejections(command_id);
CREATE INDEX idx_command_rejections_offset ON command_rejections(command_partition, command_offset);
CREATE INDEX idx_command_rejections_created ON command_rejections(created_at);

-- Records that are not commands, byte for byte; the outbox of the dead-letter topic.
CREATE TABLE dead_letters (
    id BIGSERIAL PRIMARY KEY,
    command_partition INTEGER NOT NULL,
    command_offset BIGINT NOT NULL,
    key BYTEA,
    value BYTEA,
    header_names BYTEA[] NOT NULL,
    header_values BYTEA[] NOT NULL,
    reason TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW()
);

CREATE INDEX idx_dead_letters_offset ON dead_letters(command_partition, command_offset);
CREATE INDEX idx_dead_letters_created ON dead_letters(created_at);
