-- load_heads --
-- The hash of the last audit row of several assessments, as their states have it.
SELECT assessment_id, audit_hash FROM assessment_states WHERE assessment_id = ANY($1::text[])

-- last_audit_rows --
-- The last rows of trails that have no hash in their state.
SELECT last.* FROM unnest($1::text[]) AS wanted (assessment_id)
CROSS JOIN LATERAL (
    SELECT * FROM assessment_audit_trail AS trail
    WHERE trail.assessment_id = wanted.assessment_id
    ORDER BY new_version DESC
    LIMIT 1
) AS last

-- last_checkpoint --
-- The newest checkpoint of one partition.
SELECT * FROM audit_checkpoints WHERE partition = $1 ORDER BY sequence DESC LIMIT 1

-- checkpoints_since --
-- The checkpoints of one partition from one on, oldest first.
SELECT document FROM audit_checkpoints WHERE partition = $1 AND sequence >= $2 ORDER BY sequence

-- hold_partition --
-- The time, while this worker owns the partition, and nobody takes it before the transaction ends.
SELECT NOW() FROM command_offsets WHERE topic = $1 AND partition = $2 AND epoch = $3 FOR UPDATE

-- insert_checkpoint --
-- One checkpoint more.
INSERT INTO audit_checkpoints (partition, sequence, row_count, end_offset, frontier, document, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)

-- audit_leaves --
-- The hashes of the rows in a range of offsets of one partition, whether they are still there or not, in their order.
SELECT command_offset, row_hash FROM assessment_audit_trail
WHERE command_partition = $1 AND command_offset >= $2 AND command_offset < $3
UNION ALL
SELECT command_offset, row_hash FROM audit_deleted_rows
WHERE command_partition = $1 AND command_offset >= $2 AND command_offset < $3
ORDER BY command_offset
LIMIT $4

-- audit_rows_at --
-- The rows at some offsets of one partition.
SELECT * FROM assessment_audit_trail WHERE command_partition = $1 AND command_offset = ANY($2::bigint[])

-- bare_audit_rows --
-- The rows of several assessments from before there were hashes.
SELECT * FROM assessment_audit_trail
WHERE assessment_id = ANY($1::text[]) AND row_hash IS NULL AND command_partition IS NOT NULL

-- keep_row_hashes --
-- What has to stay of rows that go.
INSERT INTO audit_deleted_rows (command_partition, command_offset, row_hash)
SELECT * FROM unnest($1::int[], $2::bigint[], $3::bytea[])
ON CONFLICT DO NOTHING

-- audit_rows --
-- The trail of one assessment, oldest first.
SELECT * FROM assessment_audit_trail WHERE assessment_id = $1 ORDER BY new_version

-- audit_end --
-- What an assessment's trail ends with, as its state says.
SELECT version, audit_hash FROM assessment_states WHERE assessment_id = $1

-- covering_checkpoint --
-- The first checkpoint of one partition that has the row at an offset.
SELECT * FROM audit_checkpoints WHERE partition = $1 AND end_offset > $2 ORDER BY end_offset LIMIT 1

-- checkpoint_at --
-- One checkpoint.
SELECT * FROM audit_checkpoints WHERE partition = $1 AND sequence = $2

-- all_checkpoints --
-- The checkpoints of one partition or of all, oldest first.
SELECT * FROM audit_checkpoints WHERE $1::int IS NULL OR partition = $1 ORDER BY partition, sequence

-- all_audit_rows --
-- All trails, each oldest first, with what the states say that they end with.
SELECT trail.*, states.version, states.audit_hash
FROM assessment_audit_trail AS trail
JOIN assessment_states AS states USING (assessment_id)
ORDER BY trail.assessment_id, trail.new_version

-- states_without_rows --
-- Assessments whose state ends with a hash, and that have no row at all.
SELECT assessment_id, version FROM assessment_states AS states
WHERE audit_hash IS NOT NULL
    AND NOT EXISTS (SELECT FROM assessment_audit_trail AS trail WHERE trail.assessment_id = states.assessment_id)
LIMIT $1
