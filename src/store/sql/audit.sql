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
