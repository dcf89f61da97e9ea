-- What search costs a batch (docs/adr/0023).

-- In the order in which a batch takes them: nobody waits for the other for ever.
LOCK TABLE assessment_states, assessment_search, assessment_names IN ACCESS EXCLUSIVE MODE;

-- Postgres looked up the row above for each new one, and locked it. A batch writes a search row with the state that it
-- counts itself, or not at all; whoever deletes a state holds its row.
ALTER TABLE assessment_search DROP CONSTRAINT assessment_search_assessment_id_fkey;
ALTER TABLE assessment_names DROP CONSTRAINT assessment_names_assessment_id_fkey;

-- Instead of ON DELETE CASCADE, and for all rows at once.
CREATE FUNCTION forget_assessment_names()
RETURNS TRIGGER AS $$
BEGIN
    DELETE FROM assessment_names USING gone WHERE assessment_names.assessment_id = gone.assessment_id;
    RETURN NULL;
END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER forget_assessment_names
    AFTER DELETE ON assessment_search
    REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT
    EXECUTE FUNCTION forget_assessment_names();

-- An id has some forty trigrams, of a few thousand that there are: the longer new ones wait, the more of them go to one
-- place together. A search reads what waits, which takes it a millisecond.
ALTER INDEX IF EXISTS idx_assessment_names_names SET (gin_pending_list_limit = 2048);
