-- Everybody's assessments, counted by the day (UTC) of their creation: statistics of a span of time add these up, and look
-- at assessments only where it begins or ends within a day. A column for each state: a change of state moves one row.
CREATE TABLE day_totals (
    slot INTEGER NOT NULL,
    day DATE NOT NULL,
    assessment_type TEXT NOT NULL,
    source TEXT NOT NULL,
    priority SMALLINT NOT NULL,
    pending BIGINT NOT NULL,
    processing BIGINT NOT NULL,
    completed BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    cancelled BIGINT NOT NULL,
    completed_timed BIGINT NOT NULL,
    completed_ms BIGINT NOT NULL,
    failed_timed BIGINT NOT NULL,
    failed_ms BIGINT NOT NULL,
    cancelled_timed BIGINT NOT NULL,
    cancelled_ms BIGINT NOT NULL,
    PRIMARY KEY (day, assessment_type, source, priority, slot)
) WITH (fillfactor = 70);

CREATE TABLE server_day_totals (
    slot INTEGER NOT NULL,
    day DATE NOT NULL,
    server_name TEXT NOT NULL,
    pending BIGINT NOT NULL,
    processing BIGINT NOT NULL,
    completed BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    cancelled BIGINT NOT NULL,
    last_created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (day, server_name, slot)
) WITH (fillfactor = 70);

-- A slot that nobody counts in until this transaction ends: no writer waits for another.
CREATE FUNCTION free_slot()
RETURNS INTEGER AS $$
BEGIN
    FOR slot IN 0..10000 LOOP
        IF pg_try_advisory_xact_lock(1684108385, slot) THEN
            RETURN slot;
        END IF;
    END LOOP;
    RAISE EXCEPTION 'more than 10,000 transactions count assessments at the same time';
END;
$$ LANGUAGE plpgsql;

-- Kept by Postgres itself, so that whoever writes states, a worker of the release before this one too, needs not care. One
-- text for each kind of change, as only its own tables of old and new rows can be named in it.
DO $$
DECLARE
    add_up CONSTANT TEXT := $sql$
        INSERT INTO day_totals AS stored
        SELECT (SELECT free_slot()), moved.* FROM (
            SELECT
                (created_at AT TIME ZONE 'UTC')::date AS day, coalesce(assessment_type, '') AS assessment_type,
                coalesce(source, '') AS source, priority,
                coalesce(sum(sign) FILTER (WHERE state = 'pending'), 0) AS pending,
                coalesce(sum(sign) FILTER (WHERE state = 'processing'), 0) AS processing,
                coalesce(sum(sign) FILTER (WHERE state = 'completed'), 0) AS completed,
                coalesce(sum(sign) FILTER (WHERE state = 'failed'), 0) AS failed,
                coalesce(sum(sign) FILTER (WHERE state = 'cancelled'), 0) AS cancelled,
                coalesce(sum(sign) FILTER (WHERE state = 'completed' AND ms IS NOT NULL), 0) AS completed_timed,
                coalesce(sum(sign * ms) FILTER (WHERE state = 'completed'), 0) AS completed_ms,
                coalesce(sum(sign) FILTER (WHERE state = 'failed' AND ms IS NOT NULL), 0) AS failed_timed,
                coalesce(sum(sign * ms) FILTER (WHERE state = 'failed'), 0) AS failed_ms,
                coalesce(sum(sign) FILTER (WHERE state = 'cancelled' AND ms IS NOT NULL), 0) AS cancelled_timed,
                coalesce(sum(sign * ms) FILTER (WHERE state = 'cancelled'), 0) AS cancelled_ms
            FROM (%1$s) AS changed
            CROSS JOIN LATERAL (
                SELECT (date_part('epoch', completed_at - started_at) * 1000)::bigint AS ms
            ) AS timed
            GROUP BY 1, 2, 3, 4
        ) AS moved
        WHERE (pending, processing, completed, failed, cancelled) <> (0, 0, 0, 0, 0)
            OR (completed_timed, completed_ms, failed_timed, failed_ms) <> (0, 0, 0, 0)
            OR (cancelled_timed, cancelled_ms) <> (0, 0)
        ON CONFLICT (day, assessment_type, source, priority, slot) DO UPDATE
        SET pending = stored.pending + excluded.pending,
            processing = stored.processing + excluded.processing,
            completed = stored.completed + excluded.completed,
            failed = stored.failed + excluded.failed,
            cancelled = stored.cancelled + excluded.cancelled,
            completed_timed = stored.completed_timed + excluded.completed_timed,
            completed_ms = stored.completed_ms + excluded.completed_ms,
            failed_timed = stored.failed_timed + excluded.failed_timed,
            failed_ms = stored.failed_ms + excluded.failed_ms,
            cancelled_timed = stored.cancelled_timed + excluded.cancelled_timed,
            cancelled_ms = stored.cancelled_ms + excluded.cancelled_ms;

        INSERT INTO server_day_totals AS stored
        SELECT (SELECT free_slot()), moved.* FROM (
            SELECT
                (created_at AT TIME ZONE 'UTC')::date AS day, server_name,
                coalesce(sum(sign) FILTER (WHERE state = 'pending'), 0) AS pending,
                coalesce(sum(sign) FILTER (WHERE state = 'processing'), 0) AS processing,
                coalesce(sum(sign) FILTER (WHERE state = 'completed'), 0) AS completed,
                coalesce(sum(sign) FILTER (WHERE state = 'failed'), 0) AS failed,
                coalesce(sum(sign) FILTER (WHERE state = 'cancelled'), 0) AS cancelled,
                max(created_at) AS last_created_at
            FROM (%1$s) AS changed
            WHERE server_name IS NOT NULL
            GROUP BY 1, 2
        ) AS moved
        WHERE (pending, processing, completed, failed, cancelled) <> (0, 0, 0, 0, 0)
        ON CONFLICT (day, server_name, slot) DO UPDATE
        SET pending = stored.pending + excluded.pending,
            processing = stored.processing + excluded.processing,
            completed = stored.completed + excluded.completed,
            failed = stored.failed + excluded.failed,
            cancelled = stored.cancelled + excluded.cancelled,
            last_created_at = greatest(stored.last_created_at, excluded.last_created_at)
    $sql$;
    change RECORD;
BEGIN
    FOR change IN SELECT * FROM (
        VALUES
            ('insert', 'SELECT 1 AS sign, * FROM fresh', 'NEW TABLE AS fresh'),
            ('delete', 'SELECT -1 AS sign, * FROM stale', 'OLD TABLE AS stale'),
            (
                'update', 'SELECT 1 AS sign, * FROM fresh UNION ALL SELECT -1, * FROM stale',
                'OLD TABLE AS stale NEW TABLE AS fresh'
            )
    ) AS changes (kind, changed, tables) LOOP
        EXECUTE format(
            'CREATE FUNCTION count_days_at_%s() RETURNS TRIGGER LANGUAGE plpgsql AS $f$ BEGIN %s; RETURN NULL; END $f$',
            change.kind, format(add_up, change.changed)
        );
        EXECUTE format(
            'CREATE TRIGGER count_days_at_%s AFTER %1$s ON assessment_states REFERENCING %2$s FOR EACH STATEMENT'
            ' EXECUTE FUNCTION count_days_at_%1$s()',
            change.kind, change.tables
        );
    END LOOP;
    EXECUTE format(add_up, 'SELECT 1 AS sign, * FROM assessment_states');
END
$$;
