-- applied_positions --
-- The offset below which every command is applied, of some partitions; a partition that no worker ever had has no row.
SELECT partition, next_offset FROM command_offsets WHERE topic = $1 AND partition = ANY($2::int[])

-- primary_position --
-- Which server and database this is, and how much of its log is on disk: all that a replica can have.
SELECT system_identifier, current_database() AS database,
    pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint AS position
FROM pg_control_system()

-- replica_position --
-- The same of a replica: how much of the log it has replayed, if it still is one.
SELECT system_identifier, current_database() AS database, pg_is_in_recovery() AS is_replica,
    COALESCE(pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0'), 0)::bigint AS position
FROM pg_control_system()
