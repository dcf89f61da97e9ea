-- Everybody's assessments, counted by server, type, source and priority: statistics by these and by any states add them up,
-- whenever they were created. No server at all is '', which no server is called. A column for each state, as in `day_totals`;
-- all names are compared by their bytes, which is quicker, and lets a pattern that begins with letters go by the key.
CREATE TABLE server_facet_totals (
    slot INTEGER NOT NULL,
    server_name TEXT NOT NULL COLLATE "C",
    assessment_type TEXT NOT NULL COLLATE "C",
    source TEXT NOT NULL COLLATE "C",
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
    last_created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (server_name, assessment_type, source, priority, slot)
) WITH (fillfactor = 70);

-- How many are in certain states, or in any where none are named.
CREATE FUNCTION counted_states(
    in_states TEXT[], pending BIGINT, processing BIGINT, completed BIGINT, failed BIGINT, cancelled BIGINT
) RETURNS BIGINT
LANGUAGE SQL IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN in_states IS NULL OR 'pending' = ANY(in_states) THEN pending ELSE 0 END
    + CASE WHEN in_states IS NULL OR 'processing' = ANY(in_states) THEN processing ELSE 0 END
    + CASE WHEN in_states IS NULL OR 'completed' = ANY(in_states) THEN completed ELSE 0 END
    + CASE WHEN in_states IS NULL OR 'failed' = ANY(in_states) THEN failed ELSE 0 END
    + CASE WHEN in_states IS NULL OR 'cancelled' = ANY(in_states) THEN cancelled ELSE 0 END;

-- Kept by triggers of their own beside those of `day_totals`, in the same way; both see the same old and new rows, which
-- Postgres keeps once.
DO $$
DECLARE
    add_up CONSTANT TEXT := $sql$
        INSERT INTO server_facet_totals AS stored
        SELECT (SELECT free_slot()), moved.* FROM (
            SELECT
                coalesce(server_name, '') AS server_name, coalesce(assessment_type, '') AS assessment_type,
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
                coalesce(sum(sign * ms) FILTER (WHERE state = 'cancelled'), 0) AS cancelled_ms,
                max(created_at) AS last_created_at
            FROM (%1$s) AS changed
            CROSS JOIN LATERAL (
                SELECT (date_part('epoch', completed_at - started_at) * 1000)::bigint AS ms
            ) AS timed
            GROUP BY 1, 2, 3, 4
        ) AS moved
        WHERE (pending, processing, completed, failed, cancelled) <> (0, 0, 0, 0, 0)
            OR (completed_timed, completed_ms, failed_timed, failed_ms) <> (0, 0, 0, 0)
            OR (cancelled_timed, cancelled_ms) <> (0, 0)
        ON CONFLICT (server_name, assessment_type, source, priority, slot) DO UPDATE
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
            cancelled_ms = stored.cancelled_ms + excluded.cancelled_ms,
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
            'CREATE FUNCTION count_facets_at_%s() RETURNS TRIGGER LANGUAGE plpgsql AS $f$ BEGIN %s; RETURN NULL; END $f$',
            change.kind, format(add_up, change.changed)
        );
        EXECUTE format(
            'CREATE TRIGGER count_facets_at_%s AFTER %1$s ON assessment_states REFERENCING %2$s FOR EACH STATEMENT'
            ' EXECUTE FUNCTION count_facets_at_%1$s()',
            change.kind, change.tables
        );
    END LOOP;
    EXECUTE format(add_up, 'SELECT 1 AS sign, * FROM assessment_states');
END
$$;
