-- What is read. `OFFSET 0` keeps the planner from turning a look-up by primary key per row into a join of two
-- sets of a thread's rows, which it would plan from per-thread estimates and can get quadratically wrong.
--
-- All order is bytewise, as in the hot tier. Lists over several namespaces or threads have an index for that. Ids within
-- a namespace are ordered by $order: nothing where the database's own collation orders UUIDs so, as nearly every one does
-- and as the primary key then is; else `COLLATE "C"` (a numeric collation of ICU, say), which no index serves.
--
-- Ids from some one on are looked up one after the other: of a range whose bound it does not know, the planner expects
-- a third of the thread, and may scan the table for it.
--
-- A page that is filtered by metadata has every row that may match, and rows whose exact metadata are not in plain JSON:
-- Python's equality decides, on what is fetched.
--
-- Whether a thread has rows is asked with `ORDER BY checkpoint_ns LIMIT 1`, which reads the primary key. For a thread
-- that is a large part of the table, EXISTS would scan the table up to the thread's first row.
--
-- `$bound`: see write.sql.

-- name: fetch
-- One checkpoint, or the latest of its namespace, with all that is needed to rebuild it, and the thread's origin. The
-- writes are also those that came before their checkpoint: of the one asked for, or of any since the latest or
-- since a given one. (`least` passes over NULL.)
-- Rows of several kinds: checkpoint, blob, write, send, origin, rows (the thread has some); contents and frame, of a
-- segment in which there may be a later one, or the one asked for.
WITH RECURSIVE c AS MATERIALIZED (
    SELECT * FROM $schema.checkpoints
    WHERE thread_id = %(thread)s AND checkpoint_ns = %(ns)s
    AND checkpoint_id = %(id)s -- if id
    ORDER BY checkpoint_id $order DESC
    LIMIT 1
), archived AS MATERIALIZED (
    SELECT segment, contents, frame
    FROM $schema.tiered_segments CROSS JOIN LATERAL (SELECT lasts[array_position(spaces, %(ns)s)] AS of_space) AS l
    WHERE thread_id = %(thread)s
    AND last_id >= %(id)s AND first_id <= %(id)s AND keys && %(key)s::integer[] -- if id
    AND last_id >= coalesce((SELECT checkpoint_id FROM c), '') COLLATE "C" -- if latest
    AND of_space >= coalesce((SELECT checkpoint_id FROM c), '') COLLATE "C" -- if latest
    ORDER BY of_space COLLATE "C" DESC
    LIMIT 1 -- if latest
)
-- if latest
, of_writes AS (
    (
        SELECT checkpoint_id FROM $schema.checkpoint_writes
        WHERE thread_id = %(thread)s AND checkpoint_ns = %(ns)s
        AND checkpoint_id $order >= least(coalesce((SELECT checkpoint_id FROM c), '') $order, %(since)s::text)
        ORDER BY checkpoint_id $order
        LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT checkpoint_id FROM $schema.checkpoint_writes
        WHERE thread_id = %(thread)s AND checkpoint_ns = %(ns)s AND checkpoint_id $order > of_writes.checkpoint_id
        ORDER BY checkpoint_id $order
        LIMIT 1
    )
    FROM of_writes
    WHERE of_writes.checkpoint_id IS NOT NULL
)
-- end
SELECT 'checkpoint'::text, checkpoint_id, coalesce(parent_checkpoint_id, ''), checkpoint::text, metadata::text,
    CASE WHEN tiered_metadata_sha256 = sha256(convert_to(metadata::text, 'UTF8')) THEN tiered_metadata_type END,
    NULL::integer, tiered_metadata
FROM c
UNION ALL
SELECT 'blob', v.key, v.value, b.type, NULL, NULL, NULL, coalesce(b.blob, '')
FROM c
CROSS JOIN LATERAL jsonb_each_text(c.checkpoint -> 'channel_versions') AS v
CROSS JOIN LATERAL (
    SELECT type, blob FROM $schema.checkpoint_blobs
    WHERE thread_id = c.thread_id AND checkpoint_ns = c.checkpoint_ns AND channel = v.key AND version = v.value
    OFFSET 0
) AS b
WHERE v.key = ANY (%(channels)s::text[]) -- if channels
UNION ALL
SELECT 'write', w.task_id, w.channel, coalesce(w.type, ''), w.task_path, w.checkpoint_id, w.idx, w.blob
FROM
of_writes CROSS JOIN LATERAL -- if latest
(
    SELECT * FROM $schema.checkpoint_writes
    WHERE thread_id = %(thread)s AND checkpoint_ns = %(ns)s
    AND checkpoint_id = %(id)s -- if id
    AND checkpoint_id = of_writes.checkpoint_id -- if latest
    OFFSET 0
) AS w
UNION ALL
SELECT 'send', w.task_id, NULL, coalesce(w.type, ''), w.task_path, NULL, w.idx, w.blob
FROM c
CROSS JOIN LATERAL (
    SELECT * FROM $schema.checkpoint_writes
    WHERE thread_id = c.thread_id AND checkpoint_ns = c.checkpoint_ns AND checkpoint_id = c.parent_checkpoint_id
    AND channel = '__pregel_tasks'
    OFFSET 0
) AS w
WHERE coalesce((c.checkpoint ->> 'v')::numeric, 1) < 4
UNION ALL
SELECT 'origin', incarnation, flushed, NULL, NULL, NULL, pinned::integer, NULL
FROM $schema.tiered_threads WHERE thread_id = %(thread)s
UNION ALL
SELECT 'rows', NULL, NULL, NULL, NULL, NULL, NULL, NULL
WHERE (SELECT true FROM $schema.checkpoints WHERE thread_id = %(thread)s ORDER BY checkpoint_ns LIMIT 1) IS NOT NULL
OR (SELECT true FROM $schema.checkpoint_writes WHERE thread_id = %(thread)s ORDER BY checkpoint_ns LIMIT 1) IS NOT NULL
UNION ALL
SELECT 'contents', segment::text, NULL, NULL, NULL, NULL, NULL, contents FROM archived
UNION ALL
SELECT 'frame', segment::text, NULL, NULL, NULL, NULL, NULL, frame FROM archived
UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL WHERE NOT $bound -- if store

-- name: page_of_namespace
-- A page of one namespace, newest first; and a row of NULLs if some of the thread is archived.
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL
WHERE EXISTS (SELECT 1 FROM $schema.tiered_segments WHERE thread_id = %(thread)s)
UNION ALL
SELECT checkpoint_ns, checkpoint_id, coalesce(parent_checkpoint_id, ''), checkpoint::text, metadata::text,
    CASE WHEN tiered_metadata_sha256 = sha256(convert_to(metadata::text, 'UTF8')) THEN tiered_metadata_type END,
    tiered_metadata
FROM (
    SELECT * FROM $schema.checkpoints
    WHERE thread_id = %(thread)s AND checkpoint_ns = %(ns)s
    AND checkpoint_id = %(id)s -- if id
    AND checkpoint_id $order < %(before_id)s -- if before_id
    AND (checkpoint_id $order, checkpoint_ns $order) < (%(after_id)s, %(after_ns)s) -- if after_id
    AND (tiered_metadata_type IS NOT NULL OR metadata @@ %(path)s::jsonpath) -- if path
    ORDER BY checkpoint_id $order DESC
    LIMIT %(limit)s
) AS p

-- name: page_of_thread
-- A page of all namespaces of one thread, newest first, and a row of NULLs as above. The limit is one that the planner
-- does not know: it expects so few rows of a table that was never analyzed that it would rather fetch and sort all, even for a short page.
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL
WHERE EXISTS (SELECT 1 FROM $schema.tiered_segments WHERE thread_id = %(thread)s)
UNION ALL
SELECT checkpoint_ns, checkpoint_id, coalesce(parent_checkpoint_id, ''), checkpoint::text, metadata::text,
    CASE WHEN tiered_metadata_sha256 = sha256(convert_to(metadata::text, 'UTF8')) THEN tiered_metadata_type END,
    tiered_metadata
FROM (
    SELECT * FROM $schema.checkpoints
    WHERE thread_id COLLATE "C" = %(thread)s
    AND checkpoint_ns = %(ns)s -- if ns
    AND checkpoint_id COLLATE "C" = %(id)s -- if id
    AND checkpoint_id COLLATE "C" < %(before_id)s -- if before_id
    AND (checkpoint_id COLLATE "C", checkpoint_ns COLLATE "C") < (%(after_id)s, %(after_ns)s) -- if after_id
    AND (tiered_metadata_type IS NOT NULL OR metadata @@ %(path)s::jsonpath) -- if path
    ORDER BY checkpoint_id COLLATE "C" DESC, checkpoint_ns COLLATE "C" DESC
    LIMIT (SELECT %(limit)s::bigint)
) AS p

-- name: blobs_of
-- Some blobs of a thread, each once. The keys are numbered by the row of a page that needs them first; blobs are left out
-- of rows before which there are enough bytes. Reply: (number, whether it is given, ns, channel, version, type, blob).
SELECT number, fits, ns, channel, version, type, CASE WHEN fits THEN blob END
FROM (
    SELECT k.*, b.type, b.blob, %(most)s::bigint > sum(octet_length(b.blob)) OVER (ORDER BY k.number)
        - sum(octet_length(b.blob)) OVER (PARTITION BY k.number) AS fits
    FROM unnest(%(spaces)s::text[], %(channels)s::text[], %(versions)s::text[], %(numbers)s::integer[])
        AS k (ns, channel, version, number)
    CROSS JOIN LATERAL (
        SELECT type, coalesce(blob, '') AS blob FROM $schema.checkpoint_blobs
        WHERE thread_id = %(thread)s AND checkpoint_ns = k.ns AND channel = k.channel AND version = k.version
        OFFSET 0
    ) AS b
) AS sized

-- name: writes_of
-- The pending writes of some checkpoints of a thread, but of those before which there are enough bytes.
-- Reply: (number from 1, whether it is given, ns, checkpoint, task, idx, channel, type, blob, path).
SELECT number, fits, ns, id, task_id, idx, channel, type, CASE WHEN fits THEN blob END, task_path
FROM (
    SELECT k.*, w.task_id, w.idx, w.channel, coalesce(w.type, '') AS type, w.blob, w.task_path,
        %(most)s::bigint > sum(octet_length(w.blob)) OVER (ORDER BY k.number)
        - sum(octet_length(w.blob)) OVER (PARTITION BY k.number) AS fits
    FROM unnest(%(spaces)s::text[], %(ids)s::text[]) WITH ORDINALITY AS k (ns, id, number)
    CROSS JOIN LATERAL (
        SELECT * FROM $schema.checkpoint_writes
        WHERE thread_id = %(thread)s AND checkpoint_ns = k.ns AND checkpoint_id = k.id
        AND channel = %(channel)s -- if channel
        OFFSET 0
    ) AS w
) AS sized

-- name: outline
-- Where each checkpoint of a thread stands among the others, in no particular order. One that is older than format v4
-- needs its parent if that has pending sends. What was copied was written by no run of this thread.
SELECT checkpoint_ns, checkpoint_id, coalesce(parent_checkpoint_id, ''),
    CASE WHEN checkpoint_ns = '' THEN checkpoint_id ELSE coalesce(metadata -> 'parents' ->> '', '') END,
    greatest(coalesce((
        SELECT max((counter.value ->> 1)::integer)
        FROM jsonb_each(CASE WHEN jsonb_typeof(metadata -> 'counters_since_delta_snapshot') = 'object'
                             THEN metadata -> 'counters_since_delta_snapshot' END) AS counter
    ), 0), CASE WHEN coalesce((checkpoint ->> 'v')::numeric, 1) < 4 THEN (
        SELECT 1 FROM $schema.checkpoint_writes AS w
        WHERE w.thread_id = c.thread_id AND w.checkpoint_ns = c.checkpoint_ns
        AND w.checkpoint_id = c.parent_checkpoint_id AND w.channel = '__pregel_tasks'
        LIMIT 1
    ) END),
    CASE WHEN EXISTS (
        SELECT 1 FROM $schema.tiered_threads AS t
        WHERE t.thread_id = c.thread_id AND c.checkpoint_id COLLATE "C" <= t.copied
    ) THEN '' ELSE coalesce(metadata ->> 'run_id', '') END
FROM $schema.checkpoints AS c
WHERE thread_id = %(thread)s

-- name: delta_history
-- From one checkpoint up its parents, until each channel has met a stored value: a blob, or a value inline (of
-- which `true` is only a marker where there is a blob as well). Beside an OR, EXISTS might be answered from a hash table
-- of all blobs of the thread; the value of a row that may not be there is not.
-- Parents can go round in a circle, so each ancestor carries a mark that the next must not be: the one whose distance
-- was a power of two last (Brent). What comes twice before that is noticed is the caller's to leave out.
-- Rows of several kinds, each with its distance: ancestor, blob and inline (seeds), write.
WITH RECURSIVE walk AS (
    SELECT 0 AS distance, first.checkpoint_id AS mark, first.*, %(channels)s::text[] AS sought, ARRAY(
        SELECT channel FROM unnest(%(channels)s::text[]) AS channel
        WHERE first.inline ? channel OR (
            SELECT b.type <> 'empty' FROM $schema.checkpoint_blobs b
            WHERE b.thread_id = %(thread)s AND b.checkpoint_ns = %(ns)s AND b.channel = channel.channel
            AND b.version = first.versions ->> channel.channel
        )
    ) AS met
    FROM (
        SELECT checkpoint_id, parent_checkpoint_id AS parent_id,
            checkpoint -> 'channel_versions' AS versions, checkpoint -> 'channel_values' AS inline
        FROM $schema.checkpoints
        WHERE thread_id = %(thread)s AND checkpoint_ns = %(ns)s AND checkpoint_id = %(id)s
    ) AS first
    UNION ALL
    SELECT walk.distance + 1,
        CASE WHEN walk.distance & (walk.distance + 1) = 0 THEN parent.checkpoint_id ELSE walk.mark END,
        parent.*, open.channels, ARRAY(
        SELECT channel FROM unnest(open.channels) AS channel
        WHERE parent.inline ? channel OR (
            SELECT b.type <> 'empty' FROM $schema.checkpoint_blobs b
            WHERE b.thread_id = %(thread)s AND b.checkpoint_ns = %(ns)s AND b.channel = channel.channel
            AND b.version = parent.versions ->> channel.channel
        )
    )
    FROM walk
    CROSS JOIN LATERAL (
        SELECT ARRAY(SELECT unnest(walk.sought) EXCEPT SELECT unnest(walk.met)) AS channels
        OFFSET 0
    ) AS open
    CROSS JOIN LATERAL (
        SELECT checkpoint_id, parent_checkpoint_id,
            checkpoint -> 'channel_versions' AS versions, checkpoint -> 'channel_values' AS inline
        FROM $schema.checkpoints
        WHERE thread_id = %(thread)s AND checkpoint_ns = %(ns)s AND checkpoint_id = walk.parent_id
        AND checkpoint_id <> walk.mark
        OFFSET 0
    ) AS parent
    WHERE open.channels <> '{}'
)
SELECT 'ancestor'::text, distance, checkpoint_id, coalesce(parent_id, ''), NULL::text, NULL::text, NULL::integer, NULL::bytea
FROM walk
UNION ALL
SELECT 'inline', distance, channel, 'json', NULL, NULL, NULL, convert_to((inline -> channel)::text, 'UTF8')
FROM walk CROSS JOIN LATERAL unnest(met) AS channel
WHERE inline ? channel
UNION ALL
SELECT 'blob', distance, channel, b.type, NULL, NULL, NULL, coalesce(b.blob, '')
FROM walk
CROSS JOIN LATERAL unnest(met) AS channel
CROSS JOIN LATERAL (
    SELECT type, blob FROM $schema.checkpoint_blobs
    WHERE thread_id = %(thread)s AND checkpoint_ns = %(ns)s AND channel = channel.channel
    AND version = versions ->> channel.channel AND type <> 'empty'
    OFFSET 0
) AS b
UNION ALL
SELECT 'write', distance, w.channel, coalesce(w.type, ''), w.task_id, w.task_path, w.idx, w.blob
FROM walk
CROSS JOIN LATERAL (
    SELECT * FROM $schema.checkpoint_writes
    WHERE thread_id = %(thread)s AND checkpoint_ns = %(ns)s AND checkpoint_id = walk.checkpoint_id
    AND channel = ANY (walk.sought)
    OFFSET 0
) AS w

-- name: origin
-- The fence of a thread. Reply: (incarnation, flushed, pinned, claim).
SELECT incarnation, flushed, pinned, claim FROM $schema.tiered_threads WHERE thread_id = %(thread)s
UNION ALL SELECT NULL, NULL, NULL, NULL WHERE NOT $bound -- if store

-- name: status
-- What `explain` says of a thread, one row if Postgres has anything of it.
SELECT coalesce(t.incarnation, ''), coalesce(t.flushed, ''), coalesce(t.pinned, false),
    (SELECT count(*) FROM $schema.checkpoints WHERE thread_id = %(thread)s),
    t.promoted_at, t.last_write_at, coalesce(t.reason, ''),
    (SELECT coalesce(sum(packed), 0)::bigint FROM $schema.tiered_segments WHERE thread_id = %(thread)s)
FROM (SELECT 1) AS one
LEFT JOIN $schema.tiered_threads AS t ON t.thread_id = %(thread)s
WHERE t.thread_id IS NOT NULL
OR (SELECT true FROM $schema.checkpoints WHERE thread_id = %(thread)s ORDER BY checkpoint_ns LIMIT 1) IS NOT NULL
OR (SELECT true FROM $schema.checkpoint_writes WHERE thread_id = %(thread)s ORDER BY checkpoint_ns LIMIT 1) IS NOT NULL
UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL WHERE NOT $bound -- if store

-- name: holdings
-- What the tables have of a thread: checkpoints, archived or not; values and pending writes that are not; bytes of all but
-- the first as they are stored.
SELECT (SELECT count(*) FROM $schema.checkpoints WHERE thread_id = %(thread)s) + s.n, b.n, w.n, b.bytes + w.bytes + s.bytes
FROM (
    SELECT count(*) AS n, coalesce(sum(pg_column_size(blob)), 0)::bigint AS bytes
    FROM $schema.checkpoint_blobs WHERE thread_id = %(thread)s
) AS b, (
    SELECT count(*) AS n, coalesce(sum(pg_column_size(blob)), 0)::bigint AS bytes
    FROM $schema.checkpoint_writes WHERE thread_id = %(thread)s
) AS w, (
    SELECT coalesce(sum(packed), 0)::bigint AS n,
        coalesce(sum(pg_column_size(contents) + pg_column_size(frame)), 0)::bigint AS bytes
    FROM $schema.tiered_segments WHERE thread_id = %(thread)s
) AS s
WHERE $bound -- if store
UNION ALL SELECT NULL, NULL, NULL, NULL WHERE NOT $bound -- if store

-- name: figures
-- How many threads this package has promoted or adopted, and how many bytes the tables take with their indexes.
SELECT (SELECT count(*) FROM $schema.tiered_threads),
    (SELECT sum(pg_total_relation_size(to_regclass(qualified)))::bigint FROM unnest(%(qualified)s::text[]) AS t (qualified))

-- name: thread_ids
-- A page of the threads that have checkpoints, in bytewise order: one index look-up per thread, not per checkpoint.
WITH RECURSIVE ids AS (
    (
        SELECT thread_id FROM $schema.checkpoints
        WHERE thread_id COLLATE "C" > %(after)s
        AND thread_id COLLATE "C" >= %(prefix)s -- if prefix
        AND thread_id COLLATE "C" <= %(upto)s -- if upto
        ORDER BY thread_id COLLATE "C"
        LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT c.thread_id FROM $schema.checkpoints c
        WHERE c.thread_id COLLATE "C" > ids.thread_id
        AND c.thread_id COLLATE "C" <= %(upto)s -- if upto
        ORDER BY c.thread_id COLLATE "C"
        LIMIT 1
    )
    FROM ids
    WHERE ids.thread_id IS NOT NULL
    AND starts_with(ids.thread_id, %(prefix)s) -- if prefix
)
SELECT thread_id FROM ids
WHERE thread_id IS NOT NULL
AND starts_with(thread_id, %(prefix)s) -- if prefix
LIMIT %(limit)s

-- name: threads_of_runs
-- The threads that these runs have written to; not those that what they wrote was copied to. The cut-off run ids are for
-- the index; of what is archived they are all there is, so that a thread may be named in which longer ones differ.
SELECT DISTINCT thread_id FROM $schema.checkpoints AS c
WHERE left(metadata ->> 'run_id', 64) = ANY (%(cut)s::text[])
AND metadata ->> 'run_id' = ANY (%(runs)s::text[])
AND NOT EXISTS (
    SELECT 1 FROM $schema.tiered_threads AS t
    WHERE t.thread_id = c.thread_id AND c.checkpoint_id COLLATE "C" <= t.copied
)
AND starts_with(thread_id, %(prefix)s) -- if prefix
UNION
SELECT thread_id FROM $schema.tiered_segments
WHERE runs && %(cut)s::text[]
AND starts_with(thread_id, %(prefix)s) -- if prefix
