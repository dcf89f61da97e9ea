-- trail_bounds --
-- How far each partition is applied, and where its history begins.
SELECT fence.partition, fence.next_offset, COALESCE(history.first_offset, 0) AS first_offset
FROM command_offsets AS fence
LEFT JOIN history_offsets AS history USING (partition)
WHERE fence.topic = $1

-- trail_window --
-- Events in a range of offsets of one partition, in their order: of one owner or of all, of some kinds or of all.
SELECT trail.command_offset, trail.assessment_id, trail.new_version, trail.action, states.owner,
    trail.details::text AS value
FROM assessment_audit_trail AS trail
JOIN assessment_states AS states USING (assessment_id)
WHERE trail.command_partition = $1 AND trail.command_offset >= $2 AND trail.command_offset < $3
    AND ($4::text IS NULL OR states.owner = $4)
    AND ($5::text[] IS NULL OR trail.action = ANY($5))
ORDER BY trail.command_offset
LIMIT $6

-- history_begin --
-- Where the history of one partition begins, where any of it was deleted.
SELECT first_offset FROM history_offsets WHERE partition = $1

-- trail_of_assessment --
-- The events of one assessment after a version, oldest first.
SELECT COALESCE(trail.command_offset, 0) AS command_offset, trail.assessment_id, trail.new_version, trail.action,
    NULL AS owner, trail.details::text AS value
FROM assessment_audit_trail AS trail
WHERE trail.assessment_id = $1 AND trail.new_version > $2
ORDER BY trail.new_version
LIMIT $3

-- current_version --
-- The version of one assessment, and whether it stays that.
SELECT version, state FROM assessment_states WHERE assessment_id = $1
