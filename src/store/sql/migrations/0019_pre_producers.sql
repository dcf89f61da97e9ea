-- Kafka producers that may still have a transaction open for the partition: whoever claims it fences them (docs/adr/0020).
ALTER TABLE command_offsets ADD COLUMN producers TEXT[] NOT NULL DEFAULT '{}';
