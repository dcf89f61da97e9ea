-- Lists find their page by facets where an order alone would pass over very many assessments (docs/adr/0021).

-- Whether an assessment lived for an hour at the most, with its times in their order: one time bounds the others then.
CREATE FUNCTION is_brief(
    created_at TIMESTAMP WITH TIME ZONE, updated_at TIMESTAMP WITH TIME ZONE, completed_at TIMESTAMP WITH TIME ZONE
) RETURNS BOOLEAN
LANGUAGE SQL IMMUTABLE PARALLEL SAFE
RETURN updated_at - created_at BETWEEN interval '0' AND interval '1 hour'
    AND (completed_at IS NULL OR completed_at BETWEEN created_at AND updated_at);

-- One number for what counters tell apart; it is odd for the brief.
CREATE FUNCTION facet_of(
    state TEXT, assessment_type TEXT, source TEXT, priority SMALLINT, brief BOOLEAN
) RETURNS INTEGER
LANGUAGE SQL IMMUTABLE PARALLEL SAFE
RETURN (((priority * 8
    + CASE state
        WHEN 'completed' THEN 1 WHEN 'processing' THEN 2 WHEN 'pending' THEN 3 WHEN 'failed' THEN 4
        WHEN 'cancelled' THEN 5 ELSE 0
    END) * 4
    + CASE assessment_type WHEN 'compliance' THEN 1 WHEN 'health' THEN 2 WHEN 'security' THEN 3 ELSE 0 END) * 4
    + CASE source WHEN 'installer' THEN 1 WHEN 'compliance' THEN 2 ELSE 0 END) * 2
    + CASE WHEN brief THEN 1 ELSE 0 END;

CREATE INDEX idx_assessment_states_facet_created ON assessment_states(
    facet_of(state, assessment_type, source, priority, is_brief(created_at, updated_at, completed_at)),
    created_at, assessment_id
);
CREATE INDEX idx_assessment_states_facet_updated ON assessment_states(
    facet_of(state, assessment_type, source, priority, is_brief(created_at, updated_at, completed_at)),
    updated_at, assessment_id
);
CREATE INDEX idx_assessment_states_facet_progress ON assessment_states(
    facet_of(state, assessment_type, source, priority, is_brief(created_at, updated_at, completed_at)),
    progress, assessment_id
);

-- The orders of one server's assessments: a pattern stands for several. What else is filtered by stands beside it, so that
-- those of very many servers are counted and sorted without a look at their rows.
DROP INDEX idx_assessment_states_server;
CREATE INDEX idx_assessment_states_server ON assessment_states(server_name text_pattern_ops, created_at, assessment_id)
    INCLUDE (state, assessment_type, source, priority, progress, completed_at);
CREATE INDEX idx_assessment_states_server_updated ON assessment_states(server_name, updated_at, assessment_id);

-- An owner's ends: else they were looked up among everybody's. Only ends pay for it.
CREATE INDEX idx_assessment_states_owner_completed ON assessment_states(owner, completed_at)
    WHERE completed_at IS NOT NULL;
