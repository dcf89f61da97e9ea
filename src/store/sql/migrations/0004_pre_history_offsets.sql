-- Where the events of each command partition begin: those of deleted assessments below first_offset are gone.
CREATE TABLE history_offsets (
    partition INTEGER PRIMARY KEY,
    first_offset BIGINT NOT NULL
);
