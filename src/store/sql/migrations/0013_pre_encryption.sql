-- To encrypt a payload anew changes nothing of an assessment: not even when it was changed last.
CREATE OR REPLACE TRIGGER update_assessment_states_updated_at
    BEFORE UPDATE ON assessment_states
    FOR EACH ROW
    WHEN (
        NEW.updated_at IS NOT DISTINCT FROM OLD.updated_at
        AND current_setting('assessmentstore.rotating', true) IS DISTINCT FROM 'on'
    )
    EXECUTE FUNCTION update_updated_at_column();
