-- What makes changes of the audit trail evident.

-- Each row has the hash of the one before of its assessment, and its own; rows from before this migration have none.
ALTER TABLE assessment_audit_trail
    ADD COLUMN previous_hash BYTEA,
    ADD COLUMN row_hash BYTEA;

-- The hash of the last row of the assessment's trail, which the next one names.
ALTER TABLE assessment_states ADD COLUMN audit_hash BYTEA;

-- What signed words there are about each command partition, and what it takes to go on from each.
CREATE TABLE audit_checkpoints (
    partition INTEGER NOT NULL,
    sequence BIGINT NOT NULL,
    row_count BIGINT NOT NULL,
    end_offset BIGINT NOT NULL,
    -- The roots of the full subtrees, one after the other.
    frontier BYTEA NOT NULL,
    -- The checkpoint as it is published: JSON and not JSONB, so that it comes back byte for byte.
    document JSON NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    PRIMARY KEY (partition, sequence)
);

CREATE INDEX idx_audit_checkpoints_end ON audit_checkpoints(partition, end_offset);

-- What is left of rows that retention deleted: leaves of the trees that have to stay, for those beside them to be proved.
CREATE TABLE audit_deleted_rows (
    command_partition INTEGER NOT NULL,
    command_offset BIGINT NOT NULL,
    row_hash BYTEA NOT NULL,
    deleted_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    PRIMARY KEY (command_partition, command_offset)
);

-- Postgres took down which columns there were when the function was made: it is made again, word for word.
CREATE OR REPLACE FUNCTION matching_assessments(
    of_owner TEXT, in_states TEXT[], of_types TEXT[], from_source TEXT, on_servers TEXT[], server_pattern TEXT,
    created_after TIMESTAMP WITH TIME ZONE, created_before TIMESTAMP WITH TIME ZONE,
    completed_after TIMESTAMP WITH TIME ZONE, completed_before TIMESTAMP WITH TIME ZONE,
    min_priority INTEGER, max_priority INTEGER, min_progress INTEGER, max_progress INTEGER
) RETURNS SETOF assessment_states
LANGUAGE SQL STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT * FROM assessment_states AS stored
    WHERE (of_owner IS NULL OR stored.owner = of_owner)
        AND (in_states IS NULL OR stored.state = ANY(in_states))
        AND (of_types IS NULL OR stored.assessment_type = ANY(of_types))
        AND (from_source IS NULL OR stored.source = from_source)
        AND (on_servers IS NULL OR stored.server_name = ANY(on_servers))
        AND (server_pattern IS NULL OR stored.server_name LIKE server_pattern)
        AND (matching_assessments.created_after IS NULL OR stored.created_at >= matching_assessments.created_after)
        AND (matching_assessments.created_before IS NULL OR stored.created_at < matching_assessments.created_before)
        AND (matching_assessments.completed_after IS NULL OR stored.completed_at >= matching_assessments.completed_after)
        AND (matching_assessments.completed_before IS NULL OR stored.completed_at < matching_assessments.completed_before)
        AND (min_priority IS NULL OR stored.priority >= min_priority)
        AND (max_priority IS NULL OR stored.priority <= max_priority)
        AND (min_progress IS NULL OR stored.progress >= min_progress)
        AND (max_progress IS NULL OR stored.progress <= max_progress);
END;
