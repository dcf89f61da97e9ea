-- What the executor has taken on: each row is an attempt that it has begun, or is about to, and has to bring to an end.
CREATE TABLE executions (
    assessment_id VARCHAR(255) PRIMARY KEY,
    -- The retry_count of the assessment.
    attempt INTEGER NOT NULL,
    -- The beginning of the ids of all commands of this attempt, whichever worker sends them.
    id TEXT NOT NULL UNIQUE DEFAULT 'executor:' || gen_random_uuid(),
    command_partition INTEGER NOT NULL,
    -- The compliance server that works on it.
    server TEXT NOT NULL,
    traceparent TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW()
);

-- The order in which pending assessments are taken on: a point of priority is worth a minute of waiting, so that the
-- lowest waits nine minutes longer than the highest, and not for ever.
CREATE INDEX idx_assessment_states_pending
    ON assessment_states ((extract(epoch FROM updated_at AT TIME ZONE 'UTC') - 60 * priority))
    WHERE state = 'pending';
