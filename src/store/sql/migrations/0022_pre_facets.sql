-- Lists find their page by facets where an order alone would pass over very many assessments (docs/adr/0021).

-- One number for what counters tell apart.
CREATE FUNCTION facet_of(state TEXT, assessment_type TEXT, source TEXT, priority SMALLINT) RETURNS INTEGER
LANGUAGE SQL IMMUTABLE PARALLEL SAFE
RETURN ((priority * 8
    + CASE state
        WHEN 'completed' THEN 1 WHEN 'processing' THEN 2 WHEN 'pending' THEN 3 WHEN 'failed' THEN 4
        WHEN 'cancelled' THEN 5 ELSE 0
    END) * 4
    + CASE assessment_type WHEN 'compliance' THEN 1 WHEN 'health' THEN 2 WHEN 'security' THEN 3 ELSE 0 END) * 4
    + CASE source WHEN 'installer' THEN 1 WHEN 'compliance' THEN 2 ELSE 0 END;

CREATE INDEX idx_assessment_states_facet ON assessment_states(
    facet_of(state, assessment_type, source, priority), created_at, assessment_id
);

-- The order of one server's assessments, to its end: a pattern stands for several.
DROP INDEX idx_assessment_states_server;
CREATE INDEX idx_assessment_states_server ON assessment_states(server_name text_pattern_ops, created_at, assessment_id);

-- The counters that filters let through; Postgres puts this into the query, as it does with `matching_assessments`.
CREATE FUNCTION matching_totals(
    of_scope TEXT, in_states TEXT[], of_types TEXT[], from_source TEXT, min_priority INTEGER, max_priority INTEGER
) RETURNS SETOF assessment_totals
LANGUAGE SQL STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT * FROM assessment_totals AS stored
    WHERE stored.scope = of_scope
        AND (in_states IS NULL OR stored.state = ANY(in_states))
        AND (of_types IS NULL OR stored.assessment_type = ANY(of_types))
        AND (from_source IS NULL OR stored.source = from_source)
        AND (min_priority IS NULL OR stored.priority >= min_priority)
        AND (max_priority IS NULL OR stored.priority <= max_priority);
END;
