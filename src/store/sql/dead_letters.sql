-- matching_dead_letters --
-- Dead letters after an id, oldest first: of a partition, since a time, with a reason that has a text in it, in a state;
-- each filter may be null; up to an id ($6). Their bytes are not read.
SELECT id, command_partition, command_offset, key, header_names, header_values, reason, created_at,
    octet_length(value) AS size, redriven_at, redriven_by, redriven_partition, redriven_offset,
    dropped_at, dropped_by, drop_reason
FROM dead_letters
WHERE id > $1
    AND ($2::int IS NULL OR command_partition = $2)
    AND ($3::timestamptz IS NULL OR created_at >= $3)
    AND ($4::text IS NULL OR position(lower($4) IN lower(reason)) > 0)
    AND CASE $5::text
        WHEN 'open' THEN redriven_at IS NULL AND dropped_at IS NULL
        WHEN 'redriven' THEN redriven_at IS NOT NULL
        WHEN 'dropped' THEN dropped_at IS NOT NULL AND redriven_at IS NULL
        ELSE true
    END
    AND id <= $6
ORDER BY id
LIMIT $7

-- last_dead_letter --
-- The newest one there is.
SELECT COALESCE(max(id), 0) FROM dead_letters

-- dead_letter_at --
-- The dead letter of a place; the last one, where the topic was made anew since.
SELECT id FROM dead_letters WHERE command_partition = $1 AND command_offset = $2 ORDER BY id DESC LIMIT 1

-- get_dead_letter --
-- A dead letter with its bytes.
SELECT *, octet_length(value) AS size FROM dead_letters WHERE id = $1

-- hold_dead_letter --
-- The same, for this transaction alone: whoever wants it, too, waits, and finds what became of it.
SELECT *, octet_length(value) AS size FROM dead_letters WHERE id = $1 FOR UPDATE

-- mark_redriven --
-- Keep when, by whom and where to a dead letter was sent again.
UPDATE dead_letters
SET redriven_at = NOW(), redriven_by = $2, redriven_partition = $3, redriven_offset = $4
WHERE id = $1
RETURNING *

-- mark_dropped --
-- Keep when, by whom and why nobody is to care about a dead letter.
UPDATE dead_letters SET dropped_at = NOW(), dropped_by = $2, drop_reason = $3 WHERE id = $1 RETURNING *

-- count_open_dead_letters --
-- How many wait for somebody.
SELECT count(*) FROM dead_letters WHERE redriven_at IS NULL AND dropped_at IS NULL
