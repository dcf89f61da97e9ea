-- begin_import --
-- Go on with the import of a file, or begin it.
INSERT INTO legacy_imports AS running (digest, name, total)
VALUES ($1, $2, $3)
ON CONFLICT (digest) DO UPDATE SET name = excluded.name
RETURNING lines, position, imported, repeated, divergent, quarantined

-- advance_import --
-- Move the import of a file, and add to its counts.
UPDATE legacy_imports
SET position = $2, lines = lines + $3, imported = imported + $4, repeated = repeated + $5,
    divergent = divergent + $6, quarantined = quarantined + $7
WHERE digest = $1

-- finish_import --
-- The import of a file is done.
UPDATE legacy_imports SET finished_at = NOW() WHERE digest = $1

-- quarantine --
-- Put lines of an export aside; one that is there already stays.
INSERT INTO legacy_quarantine (digest, assessment_id, origin, reason, value)
SELECT digest, assessment_id, origin, reason, value::jsonb
FROM unnest($1::bytea[], $2::text[], $3::text[], $4::text[], $5::text[])
    AS new (digest, assessment_id, origin, reason, value)
ON CONFLICT (digest) DO UPDATE SET reason = excluded.reason, resolved_at = NULL

-- release_quarantined --
-- These assessments are in the store now.
UPDATE legacy_quarantine SET resolved_at = NOW() WHERE resolved_at IS NULL AND assessment_id = ANY($1::text[])

-- quarantined --
-- What is still put aside, oldest first.
SELECT assessment_id, origin, reason, created_at FROM legacy_quarantine
WHERE resolved_at IS NULL
ORDER BY created_at, digest
LIMIT $1

-- import_outcomes --
-- What became of import commands: the fingerprint of the first that had the id, and the code of a refusal.
SELECT command_id, assessment_id, command_fingerprint, NULL AS code, NULL AS message
FROM assessment_audit_trail WHERE command_id = ANY($1::text[])
UNION ALL
SELECT command_id, assessment_id, command_fingerprint, code, message
FROM command_rejections WHERE command_id = ANY($1::text[])

-- note_legacy_events --
-- Keep events of the old system, and tell how often each came. One that its sender's own place shows to be the same
-- delivery, read again after a crash, does not count.
INSERT INTO legacy_events AS known (command_id, assessment_id, name, rank, happened_at, source)
SELECT command_id, assessment_id, name, rank, happened_at, source
FROM unnest($1::text[], $2::text[], $3::text[], $4::int[], $5::timestamptz[], $6::text[])
    AS new (command_id, assessment_id, name, rank, happened_at, source)
ON CONFLICT (command_id) DO UPDATE
    SET copies = known.copies + CASE WHEN known.source = excluded.source THEN 0 ELSE 1 END
RETURNING command_id, copies

-- events_out_of_order --
-- Of these events, those that came after an event of the same assessment that they should have come before.
SELECT late.command_id, late.assessment_id, late.name, early.name AS before
FROM legacy_events AS late
JOIN LATERAL (
    SELECT name FROM legacy_events AS earlier
    WHERE earlier.assessment_id = late.assessment_id AND earlier.received_at < late.received_at
        AND CASE
            -- Both may have happened within one millisecond.
            WHEN earlier.happened_at <> late.happened_at THEN earlier.happened_at > late.happened_at
            -- What failed may begin again.
            ELSE earlier.rank > late.rank AND earlier.name <> 'assessment.failed'
        END
    ORDER BY earlier.received_at DESC
    LIMIT 1
) AS early ON true
WHERE late.command_id = ANY($1::text[])

-- forget_legacy_events --
-- Nothing comes again after so long.
DELETE FROM legacy_events WHERE received_at < NOW() - interval '7 days'

-- note_reports --
-- Keep what the old system says of assessments, in place of what it said before.
INSERT INTO legacy_reports (assessment_id, record)
SELECT assessment_id, record::jsonb FROM unnest($1::text[], $2::text[]) AS new (assessment_id, record)
ON CONFLICT (assessment_id) DO UPDATE
    SET record = excluded.record, reported_at = NOW(), compared_at = NULL, consistent = NULL

-- due_reports --
-- Reports whose events have had so many seconds to arrive; those that somebody else compares just now are his.
SELECT
    assessment_id, record::text AS record, reported_at,
    EXISTS (
        SELECT FROM legacy_events AS later
        WHERE later.assessment_id = report.assessment_id AND later.received_at > report.reported_at
    ) AS overtaken
FROM legacy_reports AS report
WHERE compared_at IS NULL AND reported_at <= NOW() - make_interval(secs => $1)
ORDER BY reported_at
LIMIT $2
FOR UPDATE OF report SKIP LOCKED

-- mark_compared --
-- Reports that were compared, and whether all was the same.
UPDATE legacy_reports AS report
SET compared_at = NOW(), consistent = done.consistent
FROM unnest($1::text[], $2::bool[]) AS done (assessment_id, consistent)
WHERE report.assessment_id = done.assessment_id

-- compare_again --
-- Reports of what was brought into line: they are compared once more when that has had time to be applied.
UPDATE legacy_reports SET compared_at = NULL, reported_at = NOW() WHERE assessment_id = ANY($1::text[])

-- add_divergences --
-- Write into the ledger; what is open there already was seen once more.
INSERT INTO legacy_divergences AS ledger (assessment_id, field, kind, legacy_value, store_value)
SELECT assessment_id, field, kind, legacy_value, store_value
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
    AS new (assessment_id, field, kind, legacy_value, store_value)
ON CONFLICT (assessment_id, field, kind) WHERE resolved_at IS NULL DO UPDATE
    SET legacy_value = excluded.legacy_value, store_value = excluded.store_value, seen_at = NOW()

-- causes_of_divergence --
-- What is known to be wrong with the events of these assessments.
SELECT assessment_id, kind FROM legacy_divergences
WHERE resolved_at IS NULL AND assessment_id = ANY($1::text[]) AND kind IN ('wrong-name', 'reordered')

-- resolve_divergences --
-- The two systems agree on these assessments again.
UPDATE legacy_divergences SET resolved_at = NOW() WHERE resolved_at IS NULL AND assessment_id = ANY($1::text[])

-- settle_divergences --
-- Somebody decided about the open entries of these assessments and their lines that are put aside, or about all, with
-- imports that were broken off; who and why is in the history.
WITH settled AS (
    UPDATE legacy_divergences SET resolved_at = NOW()
    WHERE resolved_at IS NULL AND ($1::text[] IS NULL OR assessment_id = ANY($1))
    RETURNING 1
), released AS (
    UPDATE legacy_quarantine SET resolved_at = NOW()
    WHERE resolved_at IS NULL AND ($1::text[] IS NULL OR assessment_id = ANY($1))
    RETURNING 1
), given_up AS (
    UPDATE legacy_imports SET finished_at = NOW()
    WHERE finished_at IS NULL AND $1::text[] IS NULL
    RETURNING 1
), noted AS (
    INSERT INTO migration_history (actor, action, legacy_mode, percentage, reason)
    SELECT $2, 'settle', legacy_mode, percentage, $3 FROM migration_state
)
SELECT (SELECT count(*) FROM settled) + (SELECT count(*) FROM released) + (SELECT count(*) FROM given_up)

-- divergences --
-- The ledger, the newest first; only what is open, or all.
SELECT assessment_id, field, kind, legacy_value, store_value, found_at, seen_at, resolved_at FROM legacy_divergences
WHERE $1 OR resolved_at IS NULL
ORDER BY id DESC
LIMIT $2

-- open_divergences --
-- How many there are of each kind.
SELECT kind, count(*) AS count FROM legacy_divergences WHERE resolved_at IS NULL GROUP BY kind

-- migration_status --
-- How far the migration is: assessments in the store, and those that are known of and not in it.
SELECT
    state.*,
    (SELECT coalesce(sum(assessments), 0)::bigint FROM assessment_totals WHERE scope = '') AS stored,
    (SELECT count(*) FROM legacy_quarantine WHERE resolved_at IS NULL) AS quarantined,
    (SELECT coalesce(sum(total - lines), 0)::bigint FROM legacy_imports WHERE finished_at IS NULL) AS waiting,
    (SELECT count(*) FROM legacy_divergences WHERE resolved_at IS NULL AND kind <> 'doubled') AS divergent,
    NOW() AS now
FROM migration_state AS state

-- hold_migration --
-- The state of the migration, which nobody else changes meanwhile.
SELECT *, NOW() AS now FROM migration_state FOR UPDATE

-- set_migration --
-- Change the state of the migration.
UPDATE migration_state
SET legacy_mode = $1, percentage = $2, phase = $3, well_since = NOW(), held_because = NULL, updated_at = NOW(),
    begun_at = CASE WHEN $3 = 'ramping' AND phase <> 'ramping' THEN NOW() ELSE begun_at END,
    baseline_error_rate = CASE WHEN $3 = 'ramping' AND phase <> 'ramping' THEN NULL ELSE baseline_error_rate END,
    baseline_response_ms = CASE WHEN $3 = 'ramping' AND phase <> 'ramping' THEN NULL ELSE baseline_response_ms END

-- hold_step --
-- The step is not well: its time begins anew.
UPDATE migration_state SET well_since = NOW(), held_because = $1

-- release_step --
-- The step is well again.
UPDATE migration_state SET held_because = NULL

-- mark_checked --
-- Somebody looked; the first figures are what later ones are held against.
UPDATE migration_state
SET checked_at = NOW(), baseline_error_rate = coalesce(baseline_error_rate, $1),
    baseline_response_ms = coalesce(baseline_response_ms, $2)

-- add_migration_history --
-- Keep what was decided, and on what figures.
INSERT INTO migration_history (actor, action, legacy_mode, percentage, reason, signals)
VALUES ($1, $2, $3, $4, $5, $6::jsonb)

-- migration_history --
-- What was decided, the newest first.
SELECT created_at, actor, action, legacy_mode, percentage, reason, signals::text AS signals FROM migration_history
ORDER BY id DESC
LIMIT $1

-- add_sample --
-- What a web process saw since its last sample, while the share grows.
INSERT INTO migration_samples (process, requests, errors, seconds, healthy)
SELECT $1, $2, $3, $4, $5 FROM migration_state WHERE phase = 'ramping'

-- forget_samples --
-- Old samples.
DELETE FROM migration_samples WHERE created_at < NOW() - interval '1 hour'

-- sample_sums --
-- What all web processes saw of late.
SELECT
    count(*) AS samples, coalesce(sum(requests), 0)::bigint AS requests, coalesce(sum(errors), 0)::bigint AS errors,
    coalesce(sum(seconds), 0) AS seconds, coalesce(bool_and(healthy), true) AS healthy
FROM migration_samples
WHERE created_at > NOW() - make_interval(secs => $1)

-- ended_of_late --
-- How many assessments ended of late, and how many of them failed; what was imported ended elsewhere.
SELECT
    count(*) FILTER (WHERE action = 'failed') AS failed, count(*) FILTER (WHERE action = 'completed') AS completed
FROM assessment_audit_trail
WHERE created_at > NOW() - make_interval(secs => $1)

-- compared_of_late --
-- How many reports were compared of late, and how many assessments were found to differ, be they alike by now.
SELECT
    (SELECT count(*) FROM legacy_reports WHERE compared_at > NOW() - make_interval(secs => $1)) AS compared,
    (
        SELECT count(DISTINCT assessment_id) FROM legacy_divergences
        WHERE seen_at > NOW() - make_interval(secs => $1) AND kind NOT IN ('doubled', 'import')
    ) AS inconsistent

-- hold_told --
-- How far the listeners are told of one partition, where nobody else is telling them just now.
SELECT next_offset FROM legacy_told WHERE partition = $1 FOR UPDATE SKIP LOCKED

-- begin_telling --
-- A partition of which nothing was told.
INSERT INTO legacy_told (partition, next_offset) VALUES ($1, 0) ON CONFLICT (partition) DO NOTHING

-- move_told --
-- The listeners are told so far.
UPDATE legacy_told SET next_offset = $2 WHERE partition = $1

-- untold --
-- How many commands were applied whose changes the listeners were not told; nothing where nobody tells them.
SELECT sum(greatest(applied.next_offset - told.next_offset, 0))::bigint
FROM legacy_told AS told
JOIN command_offsets AS applied ON applied.topic = $1 AND applied.partition = told.partition

-- ids_after --
-- The next ids of assessments.
SELECT assessment_id FROM assessment_states WHERE assessment_id > $1 ORDER BY assessment_id LIMIT $2
