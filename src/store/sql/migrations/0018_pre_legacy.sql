-- The move from the old system: how far it is, what came from there, and where the two differ.

-- One row: which share of the ids the store serves, and whether that grows by itself.
CREATE TABLE migration_state (
    id BOOLEAN PRIMARY KEY DEFAULT true CHECK (id),
    legacy_mode BOOLEAN NOT NULL DEFAULT false,
    percentage INTEGER NOT NULL DEFAULT 100,
    phase TEXT NOT NULL DEFAULT 'steady',
    -- Since when this step has been without an alert.
    well_since TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    held_because TEXT,
    baseline_error_rate DOUBLE PRECISION,
    baseline_response_ms DOUBLE PRECISION,
    begun_at TIMESTAMP WITH TIME ZONE,
    checked_at TIMESTAMP WITH TIME ZONE,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    CONSTRAINT chk_migration_percentage CHECK (percentage >= 0 AND percentage <= 100),
    CONSTRAINT chk_migration_phase CHECK (phase IN ('steady', 'ramping', 'rolled_back'))
);
INSERT INTO migration_state DEFAULT VALUES;

CREATE TABLE migration_history (
    id BIGSERIAL PRIMARY KEY,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    legacy_mode BOOLEAN NOT NULL,
    percentage INTEGER NOT NULL,
    reason TEXT,
    signals JSONB
);

-- What web processes saw of their requests while the share grows; thrown away after an hour.
CREATE TABLE migration_samples (
    process TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    requests BIGINT NOT NULL,
    errors BIGINT NOT NULL,
    seconds DOUBLE PRECISION NOT NULL,
    healthy BOOLEAN NOT NULL
);
CREATE INDEX idx_migration_samples_created ON migration_samples(created_at);

-- How far each export is imported.
CREATE TABLE legacy_imports (
    digest BYTEA PRIMARY KEY,
    name TEXT NOT NULL,
    -- Lines that have an assessment, and those of them that are done, up to a byte of the file.
    total BIGINT NOT NULL,
    lines BIGINT NOT NULL DEFAULT 0,
    position BIGINT NOT NULL DEFAULT 0,
    imported BIGINT NOT NULL DEFAULT 0,
    repeated BIGINT NOT NULL DEFAULT 0,
    divergent BIGINT NOT NULL DEFAULT 0,
    quarantined BIGINT NOT NULL DEFAULT 0,
    started_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    finished_at TIMESTAMP WITH TIME ZONE
);

-- What of an export cannot be taken over, as it stands there, until somebody sees to it.
CREATE TABLE legacy_quarantine (
    digest BYTEA PRIMARY KEY,
    assessment_id TEXT,
    origin TEXT NOT NULL,
    reason TEXT NOT NULL,
    value JSONB NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    resolved_at TIMESTAMP WITH TIME ZONE
);
CREATE INDEX idx_legacy_quarantine_open ON legacy_quarantine(assessment_id) WHERE resolved_at IS NULL;

-- The old system's events that became commands: who sees one again, or one that comes after its successor, knows it.
CREATE TABLE legacy_events (
    command_id TEXT PRIMARY KEY,
    assessment_id TEXT NOT NULL,
    name TEXT NOT NULL,
    rank INTEGER NOT NULL,
    happened_at TIMESTAMP WITH TIME ZONE,
    source TEXT NOT NULL,
    copies INTEGER NOT NULL DEFAULT 1,
    received_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX idx_legacy_events_assessment ON legacy_events(assessment_id, received_at);
CREATE INDEX idx_legacy_events_received ON legacy_events(received_at);

-- The last that the old system said of each assessment, to be compared when its events have had time to arrive.
CREATE TABLE legacy_reports (
    assessment_id TEXT PRIMARY KEY,
    record JSONB NOT NULL,
    reported_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    compared_at TIMESTAMP WITH TIME ZONE,
    consistent BOOLEAN
);
CREATE INDEX idx_legacy_reports_due ON legacy_reports(reported_at) WHERE compared_at IS NULL;
CREATE INDEX idx_legacy_reports_compared ON legacy_reports(compared_at);

-- The ledger: every field in which the two systems differed, and every event that was wrong.
CREATE TABLE legacy_divergences (
    id BIGSERIAL PRIMARY KEY,
    assessment_id TEXT,
    field TEXT NOT NULL,
    kind TEXT NOT NULL,
    legacy_value TEXT,
    store_value TEXT,
    found_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    seen_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    resolved_at TIMESTAMP WITH TIME ZONE
);
CREATE UNIQUE INDEX idx_legacy_divergences_open ON legacy_divergences(assessment_id, field, kind)
    WHERE resolved_at IS NULL;

-- How far the old system's listeners are told of each partition.
CREATE TABLE legacy_told (
    partition INTEGER PRIMARY KEY,
    next_offset BIGINT NOT NULL
);
