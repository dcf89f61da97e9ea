-- What lists, search and statistics go by.

-- Members of the request that are filtered and sorted by, kept by Postgres itself.
ALTER TABLE assessment_states
    ADD COLUMN owner TEXT GENERATED ALWAYS AS (request_data ->> 'userId') STORED,
    ADD COLUMN assessment_type TEXT GENERATED ALWAYS AS (request_data ->> 'assessmentType') STORED,
    ADD COLUMN source TEXT GENERATED ALWAYS AS (request_data ->> 'source') STORED,
    ADD COLUMN server_name TEXT GENERATED ALWAYS AS (request_data ->> 'serverName') STORED,
    ADD COLUMN priority SMALLINT NOT NULL GENERATED ALWAYS AS (
        CASE WHEN jsonb_typeof(request_data -> 'priority') = 'number' THEN (request_data ->> 'priority')::smallint ELSE 5 END
    ) STORED;
