-- What is kept of deleted assessments: enough that a replay of their events does not bring them back.
CREATE TABLE assessment_deletions (
    id BIGSERIAL PRIMARY KEY,
    assessment_id VARCHAR(255) NOT NULL,
    command_partition INTEGER NOT NULL,
    -- Events of the assessment at this offset and below are gone.
    last_offset BIGINT NOT NULL,
    -- Everything below was applied when it was deleted.
    position BIGINT NOT NULL,
    deleted_at TIMESTAMP WITH TIME ZONE NOT NULL,
    -- Of its audit rows, whose hashes are in audit_deleted_rows.
    row_offsets BIGINT[] NOT NULL,
    told BOOLEAN NOT NULL DEFAULT false
);

CREATE UNIQUE INDEX idx_assessment_deletions_place
    ON assessment_deletions(command_partition, assessment_id, last_offset);
CREATE INDEX idx_assessment_deletions_untold ON assessment_deletions(id) WHERE NOT told;

-- With the hashes of the rows that went.
CREATE VIEW deletions_with_rows AS
SELECT deletion.*,
    ARRAY(
        SELECT command_offset FROM audit_deleted_rows AS leaf
        WHERE leaf.command_partition = deletion.command_partition AND leaf.command_offset = ANY(row_offsets)
        ORDER BY command_offset
    ) AS leaf_offsets,
    ARRAY(
        SELECT row_hash FROM audit_deleted_rows AS leaf
        WHERE leaf.command_partition = deletion.command_partition AND leaf.command_offset = ANY(row_offsets)
        ORDER BY command_offset
    ) AS leaf_hashes
FROM assessment_deletions AS deletion;
