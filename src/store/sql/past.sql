-- events_of_past --
-- The events of one assessment up to a version, and up to a time where one is given ($3), oldest first.
SELECT details::text AS value FROM assessment_audit_trail
WHERE assessment_id = $1 AND new_version <= $2 AND ($3::timestamptz IS NULL OR created_at <= $3)
ORDER BY new_version

-- last_version --
-- How far the trail of one assessment goes on this copy of the database.
SELECT COALESCE(max(new_version), 0) FROM assessment_audit_trail WHERE assessment_id = $1
