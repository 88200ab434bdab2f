-- The archive: checkpoints that were taken out of the official tables and packed. See segments.py for what is in a row.
-- A checkpoint is in one segment at most; in the official tables, too, only where it has been put again since.
--
-- `$bound`: see write.sql.

-- name: segments_of
-- The segments in which these checkpoints may be. Reply: (segment, contents, frame).
SELECT segment, contents, frame FROM $schema.tiered_segments AS s
WHERE thread_id = %(thread)s AND last_id >= %(lowest)s AND first_id <= %(highest)s AND keys && %(keys)s::integer[]
ORDER BY segment

-- name: page_of_segments
-- The segment that comes next on a page, from high ids to low ones, and where the one after it begins.
-- Reply: (segment, last id, contents, frame), contents and frame NULL of all but the first.
SELECT segment, last_id, CASE WHEN number = 1 THEN contents END, CASE WHEN number = 1 THEN frame END
FROM (
    SELECT row_number() OVER (ORDER BY last_id DESC, segment DESC) AS number, *
    FROM (
        SELECT * FROM $schema.tiered_segments
        WHERE thread_id = %(thread)s
        AND (last_id, segment) < (%(after_id)s, %(after_segment)s::bigint) -- if after_id
        AND first_id <= %(highest)s -- if highest
        AND last_id >= %(lowest)s -- if lowest
        AND %(ns)s = ANY (spaces) -- if ns
        AND keys && %(keys)s::integer[] -- if keys
        ORDER BY last_id DESC, segment DESC
        LIMIT 2
    ) AS following
) AS numbered
ORDER BY number

-- name: contents_of_thread
-- What is in the segments of a thread, without the values. Reply: (segment, contents, the last checkpoint that was copied).
SELECT segment, contents, coalesce(t.copied, '')
FROM $schema.tiered_segments AS s LEFT JOIN $schema.tiered_threads AS t USING (thread_id)
WHERE thread_id = %(thread)s
ORDER BY segment

-- name: segments_by_number
-- Some segments. Reply: (segment, contents, frame).
SELECT segment, contents, frame FROM $schema.tiered_segments
WHERE thread_id = %(thread)s AND segment = ANY (%(numbers)s::bigint[])
ORDER BY segment

-- name: first_segments
-- The first segment of a thread; and, without its bytes, whether there is another one.
SELECT segment, CASE WHEN number = 1 THEN contents END, CASE WHEN number = 1 THEN frame END
FROM (
    SELECT row_number() OVER (ORDER BY segment) AS number, *
    FROM (
        SELECT * FROM $schema.tiered_segments WHERE thread_id = %(thread)s ORDER BY segment LIMIT 2
    ) AS first_two
) AS numbered
ORDER BY number

-- name: sizes_of_segments
-- The segments of a thread, from high ids to low ones. Reply: (segment, checkpoints, bytes, whether it may have one of
-- these checkpoints).
SELECT segment, packed, raw_bytes, keys && %(keys)s::integer[] FROM $schema.tiered_segments
WHERE thread_id = %(thread)s
ORDER BY last_id DESC, segment DESC

-- name: columns_of_checkpoints
-- These checkpoints as they stand in their table, in order.
SELECT c.checkpoint_ns, c.checkpoint_id, c.parent_checkpoint_id, c.type, c.checkpoint::text, c.metadata::text,
    c.tiered_metadata_type, c.tiered_metadata, c.tiered_metadata_sha256
FROM unnest(%(spaces)s::text[], %(ids)s::text[]) WITH ORDINALITY AS k (ns, id, number)
CROSS JOIN LATERAL (
    SELECT * FROM $schema.checkpoints WHERE thread_id = %(thread)s AND checkpoint_ns = k.ns AND checkpoint_id = k.id
    OFFSET 0
) AS c
ORDER BY number

-- name: sizes_of_blobs
-- How large these values are, in order; nothing of one that is not there.
SELECT number, coalesce(octet_length(b.blob), 0)
FROM unnest(%(spaces)s::text[], %(channels)s::text[], %(versions)s::text[])
    WITH ORDINALITY AS k (ns, channel, version, number)
CROSS JOIN LATERAL (
    SELECT blob FROM $schema.checkpoint_blobs
    WHERE thread_id = %(thread)s AND checkpoint_ns = k.ns AND channel = k.channel AND version = k.version
    OFFSET 0
) AS b

-- name: columns_of_blobs
-- These values as they stand in their table.
SELECT k.ns, k.channel, k.version, b.type, b.blob
FROM unnest(%(spaces)s::text[], %(channels)s::text[], %(versions)s::text[]) AS k (ns, channel, version)
CROSS JOIN LATERAL (
    SELECT type, blob FROM $schema.checkpoint_blobs
    WHERE thread_id = %(thread)s AND checkpoint_ns = k.ns AND channel = k.channel AND version = k.version
    OFFSET 0
) AS b

-- name: sizes_of_writes
-- How many the pending writes of these checkpoints are, in order, and how large.
SELECT number, count(*), sum(octet_length(w.blob))::bigint
FROM unnest(%(spaces)s::text[], %(ids)s::text[]) WITH ORDINALITY AS k (ns, id, number)
CROSS JOIN LATERAL (
    SELECT blob FROM $schema.checkpoint_writes
    WHERE thread_id = %(thread)s AND checkpoint_ns = k.ns AND checkpoint_id = k.id
    OFFSET 0
) AS w
GROUP BY number

-- name: columns_of_writes
-- The pending writes of these checkpoints as they stand in their table.
SELECT w.checkpoint_ns, w.checkpoint_id, w.task_id, w.idx, w.channel, w.type, w.blob, w.task_path
FROM unnest(%(spaces)s::text[], %(ids)s::text[]) AS k (ns, id)
CROSS JOIN LATERAL (
    SELECT * FROM $schema.checkpoint_writes
    WHERE thread_id = %(thread)s AND checkpoint_ns = k.ns AND checkpoint_id = k.id
    OFFSET 0
) AS w
ORDER BY w.checkpoint_ns, w.checkpoint_id, w.task_id, w.idx

-- name: take_checkpoints
-- Takes some checkpoints out. Reply: how many there were.
WITH taken AS (
    DELETE FROM $schema.checkpoints AS c USING unnest(%(spaces)s::text[], %(ids)s::text[]) AS k (ns, id)
    WHERE c.thread_id = %(thread)s AND c.checkpoint_ns = k.ns AND c.checkpoint_id = k.id
    RETURNING 1
)
SELECT count(*) FROM taken

-- name: take_writes
-- Takes the pending writes of some checkpoints out. Reply: how many there were.
WITH taken AS (
    DELETE FROM $schema.checkpoint_writes AS w USING unnest(%(spaces)s::text[], %(ids)s::text[]) AS k (ns, id)
    WHERE w.thread_id = %(thread)s AND w.checkpoint_ns = k.ns AND w.checkpoint_id = k.id
    RETURNING 1
)
SELECT count(*) FROM taken

-- name: take_blobs
-- Takes those of these values out that no checkpoint in the table refers to.
WITH unneeded AS (
    SELECT * FROM unnest(%(spaces)s::text[], %(channels)s::text[], %(versions)s::text[]) AS k (ns, channel, version)
    EXCEPT
    SELECT c.checkpoint_ns, v.key, v.value
    FROM $schema.checkpoints c CROSS JOIN LATERAL jsonb_each_text(c.checkpoint -> 'channel_versions') AS v
    WHERE c.thread_id = %(thread)s AND c.checkpoint_ns = ANY (%(spaces)s::text[])
)
DELETE FROM $schema.checkpoint_blobs AS b USING unneeded AS k
WHERE b.thread_id = %(thread)s AND b.checkpoint_ns = k.ns AND b.channel = k.channel AND b.version = k.version

-- name: put_segment
-- A new segment of a thread. Its number is one that none of the thread has.
INSERT INTO $schema.tiered_segments (
    thread_id, segment, first_id, last_id, spaces, firsts, lasts, keys, runs, packed, raw_bytes, contents, frame
)
SELECT %(thread)s, coalesce((SELECT max(segment) FROM $schema.tiered_segments WHERE thread_id = %(thread)s), 0) + 1,
    %(first)s, %(last)s, %(spaces)s::text[], %(firsts)s::text[], %(lasts)s::text[], %(keys)s::integer[],
    %(runs)s::text[], %(packed)s, %(raw_bytes)s, %(contents)s, %(frame)s

-- name: drop_segments
-- Some segments of a thread. Reply: how many there were.
WITH dropped AS (
    DELETE FROM $schema.tiered_segments WHERE thread_id = %(thread)s AND segment = ANY (%(numbers)s::bigint[])
    RETURNING 1
)
SELECT count(*) FROM dropped

-- name: delete_segments
-- All segments of a thread.
DELETE FROM $schema.tiered_segments WHERE thread_id = %(thread)s

-- name: bring_checkpoints
-- Puts checkpoints back as they were. One that was put again since stays.
INSERT INTO $schema.checkpoints (
    thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata,
    tiered_metadata_type, tiered_metadata, tiered_metadata_sha256
)
SELECT %(thread)s, ns, id, parent_id, type, checkpoint::jsonb, metadata::jsonb, exact_type, exact, sha256
FROM (
    SELECT unnest(%(spaces)s::text[]) AS ns, unnest(%(ids)s::text[]) AS id, unnest(%(parents)s::text[]) AS parent_id,
        unnest(%(types)s::text[]) AS type, unnest(%(checkpoints)s::text[]) AS checkpoint,
        unnest(%(metadata)s::text[]) AS metadata, unnest(%(exact_types)s::text[]) AS exact_type,
        unnest(%(exact)s::bytea[]) AS exact, unnest(%(digests)s::bytea[]) AS sha256
) AS n
ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id) DO NOTHING

-- name: bring_blobs
-- Puts values back as they were. One that is there stays.
INSERT INTO $schema.checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
SELECT %(thread)s, unnest(%(spaces)s::text[]), unnest(%(channels)s::text[]), unnest(%(versions)s::text[]),
    unnest(%(types)s::text[]), unnest(%(blobs)s::bytea[])
ON CONFLICT (thread_id, checkpoint_ns, channel, version) DO NOTHING

-- name: bring_writes
-- Puts pending writes back as they were. They came first: of those to an ordinary index the first wins, of those to a
-- special (negative) one the last.
INSERT INTO $schema.checkpoint_writes AS w (
    thread_id, checkpoint_ns, checkpoint_id, task_id, idx, channel, type, blob, task_path
)
SELECT %(thread)s, unnest(%(spaces)s::text[]), unnest(%(ids)s::text[]), unnest(%(tasks)s::text[]),
    unnest(%(indexes)s::integer[]), unnest(%(channels)s::text[]), unnest(%(types)s::text[]),
    unnest(%(blobs)s::bytea[]), unnest(%(paths)s::text[])
ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) DO UPDATE SET
    channel = excluded.channel, type = excluded.type, blob = excluded.blob, task_path = excluded.task_path
WHERE w.idx >= 0

-- name: spelled
-- Metadata as Postgres spells them, and their digests, in order.
SELECT m::jsonb::text, sha256(convert_to(m::jsonb::text, 'UTF8'))
FROM unnest(%(metadata)s::text[]) WITH ORDINALITY AS n (m, number)
ORDER BY number

-- name: hold_incarnation
-- Keeps flushes and structural operations of a thread waiting until the end of the transaction. Reply: (incarnation,
-- flushed), if there is such a thread.
SELECT
    CASE WHEN $bound THEN -- if store
    incarnation
    END -- if store
    , flushed
FROM $schema.tiered_threads WHERE thread_id = %(thread)s
FOR UPDATE

-- name: looked_through
-- How many checkpoints of a thread are left for the archive to look at.
UPDATE $schema.tiered_threads SET unarchived = %(left)s, archive_due = NULL
WHERE thread_id = %(thread)s AND incarnation = %(incarnation)s AND flushed = %(flushed)s

-- name: lease_idle
-- Threads that have been idle for long enough and have something to archive, for a while nobody else's.
-- Reply: (thread, incarnation).
UPDATE $schema.tiered_threads AS t SET archive_due = now() + make_interval(secs => %(lease_s)s)
FROM (
    SELECT thread_id FROM $schema.tiered_threads
    WHERE unarchived > 0 AND coalesce(last_write_at, promoted_at) < now() - make_interval(secs => %(idle_s)s)
    AND (archive_due IS NULL OR archive_due < now()) AND flushed <> ''
    ORDER BY coalesce(last_write_at, promoted_at)
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
) AS due
WHERE t.thread_id = due.thread_id
RETURNING t.thread_id

-- name: lease_long
-- Threads that have more checkpoints in the official tables than they should, for a while nobody else's.
UPDATE $schema.tiered_threads AS t SET archive_due = now() + make_interval(secs => %(lease_s)s)
FROM (
    SELECT thread_id FROM $schema.tiered_threads
    WHERE unarchived > %(checkpoints)s
    AND unarchived > 50 -- if many
    AND (archive_due IS NULL OR archive_due < now()) AND flushed <> ''
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
) AS due
WHERE t.thread_id = due.thread_id
RETURNING t.thread_id
