-- Whole requests (batches, cleanup) that were begun: a repeat with the same key does the same, and gets the same answer.
CREATE TABLE batch_requests (
    user_id TEXT NOT NULL,
    key VARCHAR(255) NOT NULL,
    fingerprint BYTEA NOT NULL,
    -- What was decided before anything was done, like which assessments to retry, so that a repeat decides the same.
    plan JSONB NOT NULL,
    -- Once everything is done; JSON and not JSONB, so that the answer comes back byte for byte.
    answer JSON,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    PRIMARY KEY (user_id, key)
);

CREATE INDEX idx_batch_requests_created ON batch_requests(created_at);
