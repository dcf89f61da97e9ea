-- trails_of --
-- The trails of several assessments, those of their ids that were deleted before aside, in order.
SELECT assessment_id, new_version, command_partition, command_offset, details::text AS value
FROM assessment_audit_trail
WHERE assessment_id = ANY($1::text[])
ORDER BY assessment_id, new_version

-- later_events --
-- Events of several assessments from an offset of a partition on.
SELECT assessment_id, details::text AS value
FROM assessment_audit_trail
WHERE assessment_id = ANY($1::text[]) AND command_partition = $2 AND command_offset >= $3
ORDER BY assessment_id, command_offset

-- deletions_of --
-- How far several assessments were deleted.
SELECT assessment_id, max(last_offset) AS last_offset
FROM assessment_deletions
WHERE assessment_id = ANY($1::text[]) AND command_partition = ANY(ARRAY(SELECT partition FROM command_offsets))
GROUP BY assessment_id

-- trail_rows_between --
-- The rows of a range of offsets of one partition, in order.
SELECT * FROM assessment_audit_trail
WHERE command_partition = $1 AND command_offset >= $2 AND command_offset < $3
ORDER BY command_offset

-- count_trail_rows_below --
-- How many rows of one partition are below an offset.
SELECT count(*) FROM assessment_audit_trail WHERE command_partition = $1 AND command_offset < $2

-- rows_before_log --
-- Those of several assessments that have a row of no partition, or one below where its partition's log begins ($2).
SELECT DISTINCT assessment_id FROM assessment_audit_trail AS trail
LEFT JOIN unnest($2::int[], $3::bigint[]) AS log (partition, first_offset) ON log.partition = trail.command_partition
WHERE assessment_id = ANY($1::text[])
    AND (trail.command_partition IS NULL OR trail.command_offset < log.first_offset)

-- present_ids --
-- Those of several ids that there are.
SELECT assessment_id FROM assessment_states WHERE assessment_id = ANY($1::text[])

-- search_rows_of --
-- What search knows of several assessments, but for their words.
SELECT assessment_id, owner FROM assessment_search WHERE assessment_id = ANY($1::text[])

-- wrong_counters --
-- The counters of the whole store that are not what the states come to.
SELECT
    COALESCE(assessment_type, '') AS assessment_type, COALESCE(source, '') AS source, priority, state,
    sum(there)::bigint AS expected, sum(told)::bigint AS found
FROM (
    SELECT assessment_type, source, priority, state, count(*) AS there, 0 AS told
    FROM assessment_states
    GROUP BY 1, 2, 3, 4
    UNION ALL
    SELECT NULLIF(assessment_type, ''), NULLIF(source, ''), priority, state, 0, sum(assessments)
    FROM assessment_totals
    WHERE scope = ''
    GROUP BY 1, 2, 3, 4
) AS counted
GROUP BY 1, 2, 3, 4
HAVING sum(there) <> sum(told)
ORDER BY 1, 2, 3, 4

-- created_between --
-- Assessments that were created by commands in a range of offsets of one partition, some of them.
SELECT assessment_id, command_offset FROM assessment_audit_trail
WHERE command_partition = $1 AND command_offset >= $2 AND command_offset < $3 AND action = 'created'
ORDER BY command_offset
LIMIT $4

-- trail_end --
-- The last command of one partition that was accepted.
SELECT max(command_offset) FROM assessment_audit_trail WHERE command_partition = $1

-- erase_trail --
-- The trails of assessments that are written anew, or that never were: no deletion by retention, which would be noted.
DELETE FROM assessment_audit_trail WHERE assessment_id = ANY($1::text[])
