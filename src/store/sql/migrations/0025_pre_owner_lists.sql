-- An owner's assessments in one index instead of four, each of which every change paid for (docs/adr/0025): in the order of
-- creation, with what the other orders go by, so that a page in one of these is sorted without a look at the table. Of the
-- filters it has those whose length is bound.
DROP INDEX idx_assessment_states_owner_updated;
DROP INDEX idx_assessment_states_owner_priority;
DROP INDEX idx_assessment_states_owner_progress;
DROP INDEX idx_assessment_states_owner;
CREATE INDEX idx_assessment_states_owner ON assessment_states(owner, created_at, assessment_id)
    INCLUDE (updated_at, priority, progress, state);
