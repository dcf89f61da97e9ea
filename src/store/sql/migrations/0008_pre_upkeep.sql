-- What the kept answer promised of freshness: a repeat promises as much. Cleanups send no command, and promise nothing.
ALTER TABLE batch_requests ADD COLUMN token TEXT;

-- What became of a dead letter: it was put on the commands topic again, or somebody decided that nothing is lost with it.
-- One with neither is open. The bytes stay until retention takes them.
ALTER TABLE dead_letters
    ADD COLUMN redriven_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN redriven_by TEXT,
    ADD COLUMN redriven_partition INTEGER,
    ADD COLUMN redriven_offset BIGINT,
    ADD COLUMN dropped_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN dropped_by TEXT,
    ADD COLUMN drop_reason TEXT;

-- Counted for an alarm every few seconds.
CREATE INDEX idx_dead_letters_open ON dead_letters(id) WHERE redriven_at IS NULL AND dropped_at IS NULL;
