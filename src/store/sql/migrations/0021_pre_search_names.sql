-- Names never change, documents do, and Postgres puts a changed row into every index of its table: an end wrote all the
-- trigrams of its names again, which was two thirds of what search cost it. So they have a table and an index of their own.
CREATE TABLE assessment_names (
    assessment_id VARCHAR(255) PRIMARY KEY REFERENCES assessment_search(assessment_id) ON DELETE CASCADE,
    owner TEXT,
    names TEXT NOT NULL
);

-- Kept by Postgres itself, so that whoever writes search rows, a worker of the release before this one too, needs not care.
CREATE FUNCTION keep_assessment_names()
RETURNS TRIGGER AS $$
BEGIN
    INSERT INTO assessment_names (assessment_id, owner, names) SELECT assessment_id, owner, names FROM fresh;
    RETURN NULL;
END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER keep_assessment_names
    AFTER INSERT ON assessment_search
    REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT
    EXECUTE FUNCTION keep_assessment_names();

INSERT INTO assessment_names (assessment_id, owner, names) SELECT assessment_id, owner, names FROM assessment_search;

DROP INDEX IF EXISTS idx_assessment_search_names;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_trgm') THEN
        CREATE INDEX idx_assessment_names_names ON assessment_names USING gin (names gin_trgm_ops)
            WITH (gin_pending_list_limit = 256);
    END IF;
END
$$;
