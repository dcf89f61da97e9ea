"""Recovery: Postgres from Kafka, the caches from Postgres, Kafka from Postgres (docs/recovery.md)."""
