-- What is written. Whoever changes rows of a thread locks its row in tiered_threads first; several threads in id order.
--
-- `$bound` says that the tables are still of the store that the caller's Redis is of. Where they are not, nothing is
-- written, and a row of NULLs says so.

-- name: claim
-- The rows of threads that are about to be promoted, in id order. Reply: each row as it stands, new or not; none of one
-- that somebody else has just made.
WITH claimed AS (
    INSERT INTO $schema.tiered_threads (thread_id, incarnation, reason, claim)
    SELECT n.*, %(claim)s FROM unnest(%(threads)s::text[], %(incarnations)s::text[], %(reasons)s::text[]) AS n
    WHERE $bound -- if store
    ON CONFLICT (thread_id) DO NOTHING
    RETURNING thread_id, incarnation, flushed, pinned, claim
)
SELECT * FROM claimed
UNION ALL SELECT thread_id, incarnation, flushed, pinned, claim FROM $schema.tiered_threads
    WHERE thread_id = ANY(%(threads)s)
UNION ALL SELECT NULL, NULL, NULL, NULL, NULL WHERE NOT $bound -- if store

-- name: unclaim
-- Takes the row back if nothing was ever flushed. Reply: a row if that was so.
DELETE FROM $schema.tiered_threads WHERE thread_id = %(thread)s AND incarnation = %(incarnation)s AND flushed = ''
RETURNING true

-- name: void_claim
-- Whoever has begun a first copy can commit it no more. Reply: a row, unless something was flushed or the row is gone.
UPDATE $schema.tiered_threads SET claim = %(claim)s
WHERE thread_id = %(thread)s AND incarnation = %(incarnation)s AND flushed = ''
RETURNING true

-- name: adopt
-- The row of a thread, made for one that only the official saver has written. The evidence is locked until the row is
-- committed: a concurrent delete of the thread waits, and then sees the row.
-- Reply: (incarnation, flushed, pinned), empty texts if somebody else has just made the row; nothing without evidence.
WITH known AS MATERIALIZED (
    SELECT incarnation, flushed, pinned FROM $schema.tiered_threads WHERE thread_id = %(thread)s
), of_checkpoints AS MATERIALIZED (
    SELECT 1 FROM $schema.checkpoints
    WHERE thread_id = %(thread)s AND NOT EXISTS (SELECT 1 FROM known)
    ORDER BY checkpoint_ns LIMIT 1 FOR KEY SHARE
), of_writes AS MATERIALIZED (
    SELECT 1 FROM $schema.checkpoint_writes
    WHERE thread_id = %(thread)s AND NOT EXISTS (SELECT 1 FROM known)
    ORDER BY checkpoint_ns LIMIT 1 FOR KEY SHARE
), adopted AS (
    INSERT INTO $schema.tiered_threads (thread_id, incarnation, flushed, reason)
    SELECT %(thread)s, %(incarnation)s, %(flushed)s, 'adopted'
    WHERE (EXISTS (SELECT 1 FROM of_checkpoints) OR EXISTS (SELECT 1 FROM of_writes))
    AND $bound -- if store
    ON CONFLICT (thread_id) DO NOTHING
    RETURNING incarnation, flushed, pinned
)
SELECT * FROM known
UNION ALL
SELECT * FROM adopted
UNION ALL
SELECT '', '', false
WHERE NOT EXISTS (SELECT 1 FROM adopted)
AND (EXISTS (SELECT 1 FROM of_checkpoints) OR EXISTS (SELECT 1 FROM of_writes))
UNION ALL SELECT NULL, NULL, NULL WHERE NOT $bound -- if store

-- name: lock
-- Locks the rows of these threads in id order. Reply: (thread, incarnation, flushed).
SELECT
    CASE WHEN $bound THEN -- if store
    thread_id
    END -- if store
    , incarnation, flushed
FROM $schema.tiered_threads
WHERE thread_id = ANY (%(threads)s::text[])
ORDER BY thread_id COLLATE "C"
FOR UPDATE

-- name: advance
-- What was flushed last, after the fence was checked under its lock.
UPDATE $schema.tiered_threads AS t
SET flushed = n.flushed,
    last_write_at = greatest(t.last_write_at, to_timestamp(nullif(n.last_write_ms, 0) / 1000.0)),
    reason = coalesce(nullif(n.reason, ''), t.reason)
FROM unnest(%(threads)s::text[], %(flushed)s::text[], %(last_writes)s::bigint[], %(reasons)s::text[])
    AS n (thread_id, flushed, last_write_ms, reason)
WHERE t.thread_id = n.thread_id

-- name: commit
-- The rows of several threads, and what was flushed last of each: only where the fence holds, which is locked in id
-- order. Before anything was flushed, the fence is the claim: that of a row that was deleted since holds no more.
-- Reply: the threads of which it did. Where it did not, the row has changed under the lock, and is judged anew.
-- Arrays are unnested in the SELECT list, one row at a time; in FROM they would be gathered first, in a file if large.
-- Of one thread the id is given on its own, too: of the arrays, the planner expects so many rows that it would rather scan
-- a table of some thousand threads than look one up.
-- A row that is there already is not written again, unless a repeated put changed it and it is not to be kept; of
-- writes to an ordinary index the first wins, of those to a special (negative) one the last unless it is to be kept.
WITH
-- if several
locked AS MATERIALIZED (
    SELECT thread_id FROM $schema.tiered_threads
    WHERE thread_id = ANY (%(threads)s::text[])
    ORDER BY thread_id COLLATE "C"
    FOR UPDATE
),
-- end
held AS (
    UPDATE $schema.tiered_threads AS t
    SET flushed = n.flushed,
        last_write_at = greatest(t.last_write_at, to_timestamp(nullif(n.last_write_ms, 0) / 1000.0)),
        reason = coalesce(nullif(n.reason, ''), t.reason),
        copied = coalesce(nullif(n.copied, ''), t.copied),
        unarchived = t.unarchived + n.added
    FROM unnest(
        %(threads)s::text[], %(incarnations)s::text[], %(expected)s::text[], %(flushed)s::text[],
        %(last_writes)s::bigint[], %(reasons)s::text[], %(copied)s::text[], %(counts)s::integer[]
    ) AS n (thread_id, incarnation, expected, flushed, last_write_ms, reason, copied, added)
    JOIN locked USING (thread_id) -- if several
    WHERE t.thread_id = n.thread_id AND t.incarnation = n.incarnation
    AND t.thread_id = %(thread)s -- if thread
    AND coalesce(nullif(t.flushed, ''), t.claim) = n.expected
    AND $bound -- if store
    RETURNING t.thread_id
)
-- if c_threads
, of_checkpoints AS (
    INSERT INTO $schema.checkpoints AS c (
        thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata,
        tiered_metadata_type, tiered_metadata, tiered_metadata_sha256
    )
    SELECT thread_id, ns, id, parent_id, checkpoint::jsonb, metadata::jsonb, exact_type, exact,
        CASE WHEN exact_type IS NOT NULL THEN sha256(convert_to(metadata::jsonb::text, 'UTF8')) END
    FROM (
        SELECT unnest(%(c_threads)s::text[]) AS thread_id, unnest(%(c_spaces)s::text[]) AS ns,
            unnest(%(c_ids)s::text[]) AS id, unnest(%(c_parents)s::text[]) AS parent_id,
            unnest(%(c_checkpoints)s::text[]) AS checkpoint, unnest(%(c_metadata)s::text[]) AS metadata,
            unnest(%(c_exact_types)s::text[]) AS exact_type, unnest(%(c_exact)s::bytea[]) AS exact
    ) AS n
    WHERE thread_id = ANY (ARRAY(SELECT thread_id FROM held))
    ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id) DO UPDATE SET
        parent_checkpoint_id = excluded.parent_checkpoint_id,
        checkpoint = excluded.checkpoint,
        metadata = excluded.metadata,
        tiered_metadata_type = excluded.tiered_metadata_type,
        tiered_metadata = excluded.tiered_metadata,
        tiered_metadata_sha256 = excluded.tiered_metadata_sha256
    WHERE NOT %(keep)s
    AND (c.parent_checkpoint_id, c.checkpoint::text, c.metadata::text,
           c.tiered_metadata_type, c.tiered_metadata, c.tiered_metadata_sha256)
    IS DISTINCT FROM (excluded.parent_checkpoint_id, excluded.checkpoint::text, excluded.metadata::text,
           excluded.tiered_metadata_type, excluded.tiered_metadata, excluded.tiered_metadata_sha256)
)
-- end
-- if b_threads
, of_blobs AS (
    INSERT INTO $schema.checkpoint_blobs AS b (thread_id, checkpoint_ns, channel, version, type, blob)
    SELECT * FROM (
        SELECT unnest(%(b_threads)s::text[]) AS thread_id, unnest(%(b_spaces)s::text[]),
            unnest(%(b_channels)s::text[]), unnest(%(b_versions)s::text[]),
            unnest(%(b_types)s::text[]), unnest(%(b_blobs)s::bytea[])
    ) AS n
    WHERE thread_id = ANY (ARRAY(SELECT thread_id FROM held))
    ON CONFLICT (thread_id, checkpoint_ns, channel, version) DO UPDATE SET type = excluded.type, blob = excluded.blob
    WHERE NOT %(keep)s
    AND (b.type, b.blob) IS DISTINCT FROM (excluded.type, excluded.blob)
)
-- end
-- if w_threads
, of_writes AS (
    INSERT INTO $schema.checkpoint_writes AS w (
        thread_id, checkpoint_ns, checkpoint_id, task_id, idx, channel, type, blob, task_path
    )
    SELECT * FROM (
        SELECT unnest(%(w_threads)s::text[]) AS thread_id, unnest(%(w_spaces)s::text[]),
            unnest(%(w_ids)s::text[]), unnest(%(w_tasks)s::text[]), unnest(%(w_indexes)s::integer[]),
            unnest(%(w_channels)s::text[]), unnest(%(w_types)s::text[]), unnest(%(w_blobs)s::bytea[]),
            unnest(%(w_paths)s::text[])
    ) AS n
    WHERE thread_id = ANY (ARRAY(SELECT thread_id FROM held))
    ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) DO UPDATE SET
        channel = excluded.channel, type = excluded.type, blob = excluded.blob, task_path = excluded.task_path
    WHERE NOT %(keep)s AND w.idx < 0
    AND (w.channel, w.type, w.blob, w.task_path)
    IS DISTINCT FROM (excluded.channel, excluded.type, excluded.blob, excluded.task_path)
)
-- end
SELECT thread_id FROM held
UNION ALL SELECT NULL WHERE NOT $bound -- if store

-- name: pin
-- Reply: a row if the thread is in this incarnation.
UPDATE $schema.tiered_threads SET pinned = %(pinned)s
WHERE thread_id = %(thread)s AND incarnation = %(incarnation)s
RETURNING 1

-- name: hold
-- Keeps flushes, claims, adoptions and copies of a thread waiting until the end of the transaction, with a row of its
-- own if there is none. Reply: (incarnation, flushed), empty texts for a row of its own.
INSERT INTO $schema.tiered_threads AS t (thread_id, incarnation, reason) VALUES (%(thread)s, '', 'delete')
ON CONFLICT (thread_id) DO UPDATE SET reason = t.reason
RETURNING
    CASE WHEN $bound THEN -- if store
    incarnation
    END -- if store
    , flushed

-- name: delete_origin
-- The fence of a thread.
DELETE FROM $schema.tiered_threads WHERE thread_id = %(thread)s

-- name: delete_checkpoints
-- All checkpoints of a thread, or of some of its namespaces.
DELETE FROM $schema.checkpoints WHERE thread_id = %(thread)s
AND checkpoint_ns = ANY (%(spaces)s::text[]) -- if spaces

-- name: delete_writes
-- All pending writes of a thread, or of some of its namespaces.
DELETE FROM $schema.checkpoint_writes WHERE thread_id = %(thread)s
AND checkpoint_ns = ANY (%(spaces)s::text[]) -- if spaces

-- name: delete_arrived_writes
-- The pending writes of all checkpoints of some namespaces; not those that wait for a checkpoint.
DELETE FROM $schema.checkpoint_writes AS w WHERE thread_id = %(thread)s AND checkpoint_ns = ANY (%(spaces)s::text[])
AND EXISTS (
    SELECT 1 FROM $schema.checkpoints AS c
    WHERE c.thread_id = w.thread_id AND c.checkpoint_ns = w.checkpoint_ns AND c.checkpoint_id = w.checkpoint_id
)

-- name: delete_blobs
-- All blobs of a thread, or of some of its namespaces.
DELETE FROM $schema.checkpoint_blobs WHERE thread_id = %(thread)s
AND checkpoint_ns = ANY (%(spaces)s::text[]) -- if spaces

-- name: drop_checkpoints
-- Some checkpoints of a namespace. Reply: the (channel, version) pairs that they referenced.
WITH dropped AS (
    DELETE FROM $schema.checkpoints
    WHERE thread_id = %(thread)s AND checkpoint_ns = %(ns)s AND checkpoint_id = ANY (%(ids)s::text[])
    RETURNING checkpoint -> 'channel_versions' AS versions
)
SELECT DISTINCT v.key, v.value FROM dropped CROSS JOIN LATERAL jsonb_each_text(dropped.versions) AS v

-- name: unreferenced
-- Those (channel, version) pairs that no checkpoint of the namespace references.
SELECT * FROM unnest(%(channels)s::text[], %(versions)s::text[])
EXCEPT
SELECT v.key, v.value
FROM $schema.checkpoints c CROSS JOIN LATERAL jsonb_each_text(c.checkpoint -> 'channel_versions') AS v
WHERE c.thread_id = %(thread)s AND c.checkpoint_ns = %(ns)s

-- name: drop_writes
-- The pending writes of some checkpoints of a namespace.
DELETE FROM $schema.checkpoint_writes
WHERE thread_id = %(thread)s AND checkpoint_ns = %(ns)s AND checkpoint_id = ANY (%(ids)s::text[])

-- name: drop_blobs
-- Some versions of one channel.
DELETE FROM $schema.checkpoint_blobs
WHERE thread_id = %(thread)s AND checkpoint_ns = %(ns)s AND channel = %(channel)s
AND version = ANY (%(versions)s::text[])

-- name: orphan
-- These checkpoints have lost their parent.
UPDATE $schema.checkpoints SET parent_checkpoint_id = NULL
WHERE thread_id = %(thread)s AND checkpoint_ns = %(ns)s AND checkpoint_id = ANY (%(ids)s::text[])

-- name: delete_empty_origin
-- The fence of a thread that has no rows left. Reply: a row if that was so.
DELETE FROM $schema.tiered_threads
WHERE thread_id = %(thread)s
AND (SELECT true FROM $schema.checkpoints WHERE thread_id = %(thread)s ORDER BY checkpoint_ns LIMIT 1) IS NULL
AND (SELECT true FROM $schema.checkpoint_writes WHERE thread_id = %(thread)s ORDER BY checkpoint_ns LIMIT 1) IS NULL
RETURNING 1

-- name: share
-- Keeps a thread as it is until the end of the transaction.
SELECT 1 FROM $schema.tiered_threads WHERE thread_id = %(thread)s FOR SHARE

-- name: has_rows
-- Reply: (the source has checkpoints or writes, the target has any row).
SELECT
    (SELECT true FROM $schema.checkpoints WHERE thread_id = %(source)s ORDER BY checkpoint_ns LIMIT 1) IS NOT NULL
    OR (SELECT true FROM $schema.checkpoint_writes WHERE thread_id = %(source)s ORDER BY checkpoint_ns LIMIT 1) IS NOT NULL,
    (SELECT true FROM $schema.checkpoints WHERE thread_id = %(target)s ORDER BY checkpoint_ns LIMIT 1) IS NOT NULL
    OR (SELECT true FROM $schema.checkpoint_writes WHERE thread_id = %(target)s ORDER BY checkpoint_ns LIMIT 1) IS NOT NULL
    OR (SELECT true FROM $schema.checkpoint_blobs WHERE thread_id = %(target)s ORDER BY checkpoint_ns LIMIT 1) IS NOT NULL
    OR EXISTS (SELECT 1 FROM $schema.tiered_threads WHERE thread_id = %(target)s)

-- name: copy_origin
-- The fence of the copy, with the last of what is copied. Reply: a row, unless someone else has just made the target.
WITH made AS (
    INSERT INTO $schema.tiered_threads (thread_id, incarnation, flushed, last_write_at, reason, copied)
    SELECT %(target)s, %(incarnation)s, %(flushed)s,
        (SELECT last_write_at FROM $schema.tiered_threads WHERE thread_id = %(source)s), 'copy',
        coalesce((SELECT max(checkpoint_id COLLATE "C") FROM $schema.checkpoints WHERE thread_id = %(source)s), '')
    WHERE $bound -- if store
    ON CONFLICT (thread_id) DO NOTHING
    RETURNING 1
)
SELECT * FROM made
UNION ALL SELECT NULL WHERE NOT $bound -- if store

-- name: copy_checkpoints
-- With the copy's own thread id, as it is in plain metadata, where the source's was. Reply: how many; and rows (namespace,
-- id, plain and exact metadata, 0) of those with exact metadata in which it is still to be replaced.
WITH copied AS (
    INSERT INTO $schema.checkpoints (
        thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata,
        tiered_metadata_type, tiered_metadata, tiered_metadata_sha256
    )
    SELECT %(target)s, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint,
        CASE WHEN metadata -> 'thread_id' = to_jsonb(%(was)s::text)
        AND tiered_metadata_sha256 IS DISTINCT FROM sha256(convert_to(metadata::text, 'UTF8'))
        THEN jsonb_set(metadata, '{thread_id}', to_jsonb(%(own)s::text)) ELSE metadata END,
        tiered_metadata_type, tiered_metadata, tiered_metadata_sha256
    FROM $schema.checkpoints WHERE thread_id = %(source)s
    RETURNING *
)
SELECT NULL AS ns, NULL, NULL, NULL, NULL::bytea, count(*) FROM copied
UNION ALL
SELECT checkpoint_ns, checkpoint_id, metadata::text, tiered_metadata_type, tiered_metadata, 0 FROM copied
WHERE tiered_metadata_type IS NOT NULL AND metadata -> 'thread_id' = to_jsonb(%(was)s::text)

-- name: rename_exact
-- Other metadata, plain and exact, of these checkpoints.
UPDATE $schema.checkpoints AS c
SET metadata = n.metadata::jsonb, tiered_metadata_type = n.exact_type, tiered_metadata = n.exact,
    tiered_metadata_sha256 =
        CASE WHEN n.exact_type IS NOT NULL THEN sha256(convert_to(n.metadata::jsonb::text, 'UTF8')) END
FROM unnest(
    %(spaces)s::text[], %(ids)s::text[], %(metadata)s::text[], %(exact_types)s::text[], %(exact)s::bytea[]
) AS n (ns, id, metadata, exact_type, exact)
WHERE c.thread_id = %(thread)s AND c.checkpoint_ns = n.ns AND c.checkpoint_id = n.id

-- name: copy_blobs
-- All of them, referenced or not.
INSERT INTO $schema.checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
SELECT %(target)s, checkpoint_ns, channel, version, type, blob
FROM $schema.checkpoint_blobs WHERE thread_id = %(source)s

-- name: copy_writes
-- All of them, with or without their checkpoint.
INSERT INTO $schema.checkpoint_writes (
    thread_id, checkpoint_ns, checkpoint_id, task_id, idx, channel, type, blob, task_path
)
SELECT %(target)s, checkpoint_ns, checkpoint_id, task_id, idx, channel, type, blob, task_path
FROM $schema.checkpoint_writes WHERE thread_id = %(source)s
