-- What of a facet was changed last: "the latest failures" among very many that were changed since (docs/adr/0021).
CREATE INDEX idx_assessment_states_facet_updated ON assessment_states(
    facet_of(state, assessment_type, source, priority), updated_at, assessment_id
);
