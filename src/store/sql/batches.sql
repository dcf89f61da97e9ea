-- begin_request --
-- Take a key for a request; no row where it is taken.
INSERT INTO batch_requests (user_id, key, fingerprint, plan) VALUES ($1, $2, $3, $4::jsonb)
ON CONFLICT (user_id, key) DO NOTHING
RETURNING fingerprint, plan, answer, token

-- find_request --
-- The request that has a key.
SELECT fingerprint, plan, answer, token FROM batch_requests WHERE user_id = $1 AND key = $2

-- finish_request --
-- Keep the answer for repeats, and what it promised; the first one stands.
UPDATE batch_requests
SET answer = COALESCE(answer, $3::json), token = CASE WHEN answer IS NULL THEN $4 ELSE token END
WHERE user_id = $1 AND key = $2
RETURNING answer

-- forget_request --
-- A request that nobody can repeat, since its key was never told.
DELETE FROM batch_requests WHERE user_id = $1 AND key = $2

-- forget_old_requests --
-- Some of the requests from before a time that are so many days old, too.
DELETE FROM batch_requests
WHERE (user_id, key) IN (
    SELECT user_id, key FROM batch_requests
    WHERE created_at < LEAST($1, NOW() - make_interval(days => $2)) ORDER BY created_at LIMIT $3
)

-- owners --
-- Who owns each of several assessments.
SELECT assessment_id, owner FROM assessment_states WHERE assessment_id = ANY($1::text[])

-- retryable --
-- Failed assessments that were retried less than so often, of one user or of all, oldest first.
SELECT assessment_id, version FROM assessment_states
WHERE state = 'failed' AND retry_count < $1 AND ($2::text IS NULL OR owner = $2)
ORDER BY created_at, assessment_id
LIMIT $3

-- bulk_outcomes --
-- What became of several commands: the version that each led to, or why it was refused.
SELECT command_id, command_fingerprint, new_version, NULL AS code, NULL AS message
FROM assessment_audit_trail WHERE command_id = ANY($1::text[])
UNION ALL
SELECT command_id, command_fingerprint, NULL, code, message
FROM command_rejections WHERE command_id = ANY($1::text[])
