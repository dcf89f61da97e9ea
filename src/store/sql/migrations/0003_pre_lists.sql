-- What lists, search and statistics go by.

-- Members of the request that are filtered and sorted by, kept by Postgres itself. An index takes no text of any length:
-- an owner with a longer name than a token may have is nobody's, and a server goes by the beginning of its name.
ALTER TABLE assessment_states
    ADD COLUMN owner TEXT GENERATED ALWAYS AS (
        CASE WHEN length(request_data ->> 'userId') <= 255 THEN request_data ->> 'userId' END
    ) STORED,
    ADD COLUMN assessment_type TEXT GENERATED ALWAYS AS (request_data ->> 'assessmentType') STORED,
    ADD COLUMN source TEXT GENERATED ALWAYS AS (request_data ->> 'source') STORED,
    ADD COLUMN server_name TEXT GENERATED ALWAYS AS (left(request_data ->> 'serverName', 255)) STORED,
    ADD COLUMN priority SMALLINT NOT NULL GENERATED ALWAYS AS (
        CASE WHEN jsonb_typeof(request_data -> 'priority') = 'number'
            THEN (request_data ->> 'priority')::smallint ELSE 5 END
    ) STORED;

-- One for each order of a list; ties are broken by id.
CREATE INDEX idx_assessment_states_created ON assessment_states(created_at, assessment_id);
CREATE INDEX idx_assessment_states_updated ON assessment_states(updated_at, assessment_id);
CREATE INDEX idx_assessment_states_priority ON assessment_states(priority, assessment_id);
CREATE INDEX idx_assessment_states_progress ON assessment_states(progress, assessment_id);
CREATE INDEX idx_assessment_states_owner ON assessment_states(owner, created_at, assessment_id);
-- The operator class lets a pattern that begins with letters go by the index, whatever the collation is.
CREATE INDEX idx_assessment_states_server ON assessment_states(server_name text_pattern_ops, created_at);
CREATE INDEX idx_assessment_states_completed ON assessment_states(completed_at) WHERE completed_at IS NOT NULL;

-- Written on create, on retry and at the end: what happens between them, progress above all, does not pay for search.
CREATE TABLE assessment_search (
    assessment_id VARCHAR(255) PRIMARY KEY REFERENCES assessment_states(assessment_id),
    owner TEXT,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    names TEXT NOT NULL,
    document TSVECTOR NOT NULL
);

CREATE INDEX idx_assessment_search_created ON assessment_search(created_at);
CREATE INDEX idx_assessment_search_owner ON assessment_search(owner, created_at);
-- New entries wait in a list that every search reads: it is kept short.
CREATE INDEX idx_assessment_search_document ON assessment_search USING gin (document)
    WITH (gin_pending_list_limit = 256);

-- Every word of letters that stands in a document: a typing error is led back to one of these.
CREATE TABLE search_vocabulary (word TEXT PRIMARY KEY);

-- How well an assessment fits what is looked for: an id that is it or begins with it comes first, then the weight of words.
CREATE FUNCTION search_rank(names TEXT, document TSVECTOR, words TEXT, part TEXT) RETURNS REAL[]
LANGUAGE SQL IMMUTABLE PARALLEL SAFE
RETURN ARRAY[
    (part <> '' AND (names LIKE part || ' %' OR names = part))::int,
    (part <> '' AND names LIKE part || '%')::int,
    CASE WHEN words = '' THEN 0 ELSE ts_rank(document, words::tsquery) END
];

-- pg_trgm is part of Postgres' own distribution, but not of every copy: without it a typing error is forgiven after the
-- third letter only, and a part of an id is looked for without an index.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_trgm') THEN
        CREATE EXTENSION IF NOT EXISTS pg_trgm;
        CREATE INDEX idx_assessment_search_names ON assessment_search USING gin (names gin_trgm_ops)
            WITH (gin_pending_list_limit = 256);
        CREATE INDEX idx_search_vocabulary_word ON search_vocabulary USING gin (word gin_trgm_ops);
        CREATE FUNCTION nearest_words(wanted TEXT, most INTEGER) RETURNS SETOF TEXT
        LANGUAGE SQL STABLE AS
        'SELECT word FROM search_vocabulary WHERE word % wanted ORDER BY similarity(word, wanted) DESC, word LIMIT most';
    ELSE
        CREATE FUNCTION nearest_words(wanted TEXT, most INTEGER) RETURNS SETOF TEXT
        LANGUAGE SQL STABLE AS
        'SELECT word FROM search_vocabulary WHERE starts_with(word, left(wanted, 3)) ORDER BY word LIMIT most';
    END IF;
END
$$;

-- Counters of assessments. A scope is an owner, or '' for everybody. Each command partition counts in a slot of its own,
-- so that no batch waits for another; -1 is for those who are no partition. A counter is the sum over the slots.
-- Everybody's rows lie together, where a sum over them reads few pages; there is room on each to change them in place.
CREATE TABLE assessment_totals (
    slot INTEGER NOT NULL,
    scope TEXT NOT NULL,
    assessment_type TEXT NOT NULL,
    source TEXT NOT NULL,
    priority SMALLINT NOT NULL,
    state TEXT NOT NULL,
    assessments BIGINT NOT NULL,
    retried BIGINT NOT NULL,
    timed BIGINT NOT NULL,
    duration_ms BIGINT NOT NULL,
    PRIMARY KEY (scope, assessment_type, source, priority, state, slot)
) PARTITION BY LIST (scope);

CREATE TABLE assessment_totals_of_all PARTITION OF assessment_totals FOR VALUES IN ('') WITH (fillfactor = 70);
CREATE TABLE assessment_totals_of_owners PARTITION OF assessment_totals DEFAULT WITH (fillfactor = 70);

-- By server; what is neither completed nor failed nor cancelled is active.
CREATE TABLE server_totals (
    slot INTEGER NOT NULL,
    scope TEXT NOT NULL,
    server_name TEXT NOT NULL,
    assessment_type TEXT NOT NULL,
    source TEXT NOT NULL,
    assessments BIGINT NOT NULL,
    completed BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    cancelled BIGINT NOT NULL,
    last_created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (scope, server_name, assessment_type, source, slot)
) PARTITION BY LIST (scope);

CREATE TABLE server_totals_of_all PARTITION OF server_totals FOR VALUES IN ('') WITH (fillfactor = 70);
CREATE TABLE server_totals_of_owners PARTITION OF server_totals DEFAULT WITH (fillfactor = 70);

-- By quarters of an hour, of which every time zone's days are made.
CREATE TABLE created_totals (
    slot INTEGER NOT NULL,
    scope TEXT NOT NULL,
    quarter TIMESTAMP WITH TIME ZONE NOT NULL,
    assessment_type TEXT NOT NULL,
    source TEXT NOT NULL,
    assessments BIGINT NOT NULL,
    completed BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    cancelled BIGINT NOT NULL,
    PRIMARY KEY (scope, quarter, assessment_type, source, slot)
) PARTITION BY LIST (scope);

CREATE TABLE created_totals_of_all PARTITION OF created_totals FOR VALUES IN ('') WITH (fillfactor = 70);
CREATE TABLE created_totals_of_owners PARTITION OF created_totals DEFAULT WITH (fillfactor = 70);

-- Which of the counters by state count, where states are named.
CREATE FUNCTION counted_ends(
    in_states TEXT[], assessments BIGINT, completed BIGINT, failed BIGINT, cancelled BIGINT
) RETURNS BIGINT
LANGUAGE SQL IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN in_states IS NULL THEN assessments
    ELSE CASE WHEN 'completed' = ANY(in_states) THEN completed ELSE 0 END
        + CASE WHEN 'failed' = ANY(in_states) THEN failed ELSE 0 END
        + CASE WHEN 'cancelled' = ANY(in_states) THEN cancelled ELSE 0 END
END;

-- The assessments that filters let through; Postgres puts this into the query, where filters that are not given vanish.
CREATE FUNCTION matching_assessments(
    of_owner TEXT, in_states TEXT[], of_types TEXT[], from_source TEXT, on_servers TEXT[], server_pattern TEXT,
    created_after TIMESTAMP WITH TIME ZONE, created_before TIMESTAMP WITH TIME ZONE,
    completed_after TIMESTAMP WITH TIME ZONE, completed_before TIMESTAMP WITH TIME ZONE,
    min_priority INTEGER, max_priority INTEGER, min_progress INTEGER, max_progress INTEGER
) RETURNS SETOF assessment_states
LANGUAGE SQL STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT * FROM assessment_states AS stored
    WHERE (of_owner IS NULL OR stored.owner = of_owner)
        AND (in_states IS NULL OR stored.state = ANY(in_states))
        AND (of_types IS NULL OR stored.assessment_type = ANY(of_types))
        AND (from_source IS NULL OR stored.source = from_source)
        AND (on_servers IS NULL OR stored.server_name = ANY(on_servers))
        AND (server_pattern IS NULL OR stored.server_name LIKE server_pattern)
        AND (matching_assessments.created_after IS NULL OR stored.created_at >= matching_assessments.created_after)
        AND (matching_assessments.created_before IS NULL OR stored.created_at < matching_assessments.created_before)
        AND (matching_assessments.completed_after IS NULL OR stored.completed_at >= matching_assessments.completed_after)
        AND (matching_assessments.completed_before IS NULL OR stored.completed_at < matching_assessments.completed_before)
        AND (min_priority IS NULL OR stored.priority >= min_priority)
        AND (max_priority IS NULL OR stored.priority <= max_priority)
        AND (min_progress IS NULL OR stored.progress >= min_progress)
        AND (max_progress IS NULL OR stored.progress <= max_progress);
END;

-- Count everything anew, from what is stored.
CREATE FUNCTION rebuild_totals() RETURNS VOID
LANGUAGE SQL
BEGIN ATOMIC
    DELETE FROM assessment_totals;
    DELETE FROM server_totals;
    DELETE FROM created_totals;

    INSERT INTO assessment_totals
    SELECT
        -1, scope, coalesce(assessment_type, ''), coalesce(source, ''), priority, state, count(*),
        count(*) FILTER (WHERE retry_count > 0), count(completed_at - started_at),
        coalesce(sum(round(extract(epoch FROM completed_at - started_at) * 1000)), 0)
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

-- What is there already.
INSERT INTO assessment_search (assessment_id, owner, created_at, names, document)
SELECT
    assessment_id, owner, created_at, lower(concat_ws(' ', assessment_id, server_name)),
    array_to_tsvector(array_remove(
        regexp_split_to_array(
            lower(left(concat_ws(' ', assessment_id, server_name, message, error_message, request_data), 20000)),
            '[^[:alnum:]]+'
        ), ''
    ))
FROM assessment_states;

INSERT INTO search_vocabulary (word)
SELECT word FROM ts_stat('SELECT document FROM assessment_search') WHERE word ~ '^[[:alpha:]]{3,40}$';

SELECT rebuild_totals();
