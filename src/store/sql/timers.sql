-- due_leases --
-- Processing assessments whose lease has ended, longest ago first, after one of them. The first version of one that is
-- processing was imported: it is in the hands of the old system, and has a lease from its first change here on.
SELECT
    assessment_id, version, created_at, lease_seconds(request_data) AS seconds,
    lease_end(updated_at, request_data) AS due
FROM assessment_states
WHERE state = 'processing' AND version > 1 AND (lease_end(updated_at, request_data), assessment_id) > ($1, $2)
    AND lease_end(updated_at, request_data) < extract(epoch FROM NOW())::double precision
ORDER BY lease_end(updated_at, request_data), assessment_id
LIMIT $3

-- due_retries --
-- Failed assessments whose retry is due, longest ago first, after one of them; those that were imported so are retried by
-- the old system.
SELECT assessment_id, version, created_at, NULL::double precision AS seconds, next_retry_at AS due
FROM assessment_states
WHERE state = 'failed' AND version > 1 AND (next_retry_at, assessment_id) > ($1, $2) AND next_retry_at <= NOW()
ORDER BY next_retry_at, assessment_id
LIMIT $3

-- pending_too_long --
-- Some assessments that nobody took up for so many seconds, in the order in which they are taken on. That order has an
-- index of its own, and the least priority is 1: the line in it says what the last line says, or somewhat less, so that
-- no more is read than what became pending up to nine minutes later.
SELECT assessment_id, updated_at FROM assessment_states
WHERE state = 'pending'
    AND extract(epoch FROM updated_at AT TIME ZONE 'UTC') - 60 * priority
        < extract(epoch FROM (NOW() - make_interval(secs => $1)) AT TIME ZONE 'UTC') - 60
    AND updated_at < NOW() - make_interval(secs => $1)
ORDER BY extract(epoch FROM updated_at AT TIME ZONE 'UTC') - 60 * priority
LIMIT $2

-- timer_figures --
-- How many those are, counted to a bound, and how many seconds late the timer is that is due longest.
SELECT
    (
        SELECT count(*) FROM (
            SELECT FROM assessment_states
            WHERE state = 'pending'
                AND extract(epoch FROM updated_at AT TIME ZONE 'UTC') - 60 * priority
                    < extract(epoch FROM (NOW() - make_interval(secs => $1)) AT TIME ZONE 'UTC') - 60
                AND updated_at < NOW() - make_interval(secs => $1)
            ORDER BY extract(epoch FROM updated_at AT TIME ZONE 'UTC') - 60 * priority
            LIMIT $2
        ) AS found
    ) AS pending_too_long,
    GREATEST(
        0,
        extract(epoch FROM NOW())::double precision - (
            SELECT lease_end(updated_at, request_data) FROM assessment_states
            WHERE state = 'processing' AND version > 1
            ORDER BY lease_end(updated_at, request_data) LIMIT 1
        ),
        extract(epoch FROM NOW() - (
            SELECT next_retry_at FROM assessment_states
            WHERE state = 'failed' AND version > 1 AND next_retry_at IS NOT NULL
            ORDER BY next_retry_at LIMIT 1
        ))::double precision
    ) AS late_seconds
