-- One for each order of an owner's list: by an order of everybody's it would go through fifty rows for each of his.
CREATE INDEX idx_assessment_states_owner_updated ON assessment_states(owner, updated_at, assessment_id);
CREATE INDEX idx_assessment_states_owner_priority ON assessment_states(owner, priority, assessment_id);
CREATE INDEX idx_assessment_states_owner_progress ON assessment_states(owner, progress, assessment_id);
