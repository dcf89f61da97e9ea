-- Count everything anew, from what is stored: half a millisecond is rounded to the even one, as whoever moves the counters
-- does.
CREATE OR REPLACE FUNCTION rebuild_totals() RETURNS VOID
LANGUAGE SQL
BEGIN ATOMIC
    DELETE FROM assessment_totals;
    DELETE FROM server_totals;
    DELETE FROM created_totals;

    INSERT INTO assessment_totals
    SELECT
        -1, scope, coalesce(assessment_type, ''), coalesce(source, ''), priority, state, count(*),
        count(*) FILTER (WHERE retry_count > 0), count(completed_at - started_at),
        coalesce(sum((date_part('epoch', completed_at - started_at) * 1000)::bigint), 0)
    FROM assessment_states CROSS JOIN LATERAL (SELECT '' AS scope UNION SELECT owner) AS scopes
    WHERE scope IS NOT NULL
    GROUP BY scope, coalesce(assessment_type, ''), coalesce(source, ''), priority, state
    ORDER BY scope;

    INSERT INTO server_totals
    SELECT
        -1, scope, server_name, coalesce(assessment_type, ''), coalesce(source, ''), count(*),
        count(*) FILTER (WHERE state = 'completed'), count(*) FILTER (WHERE state = 'failed'),
        count(*) FILTER (WHERE state = 'cancelled'), max(created_at)
    FROM assessment_states CROSS JOIN LATERAL (SELECT '' AS scope UNION SELECT owner) AS scopes
    WHERE scope IS NOT NULL AND server_name IS NOT NULL
    GROUP BY scope, server_name, coalesce(assessment_type, ''), coalesce(source, '')
    ORDER BY scope, server_name;

    INSERT INTO created_totals
    SELECT
        -1, scope, date_bin('15 minutes', created_at, 'epoch'), coalesce(assessment_type, ''), coalesce(source, ''),
        count(*), count(*) FILTER (WHERE state = 'completed'), count(*) FILTER (WHERE state = 'failed'),
        count(*) FILTER (WHERE state = 'cancelled')
    FROM assessment_states CROSS JOIN LATERAL (SELECT '' AS scope UNION SELECT owner) AS scopes
    WHERE scope IS NOT NULL
    GROUP BY scope, date_bin('15 minutes', created_at, 'epoch'), coalesce(assessment_type, ''), coalesce(source, '')
    ORDER BY scope, date_bin('15 minutes', created_at, 'epoch');
END;
