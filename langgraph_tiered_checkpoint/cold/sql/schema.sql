-- Tables, columns and indexes, and what setup() asks the catalog. The official tables are those of
-- langgraph-checkpoint-postgres 3.2 after its migrations 0 to 9; whatever is called tiered_* is ours.

-- name: checkpoint_migrations
-- Official: which migrations have been applied.
CREATE TABLE IF NOT EXISTS $schema.checkpoint_migrations (
    v INTEGER PRIMARY KEY
);

-- name: checkpoints
-- Official, with our nullable columns: the metadata that JSON would not carry faithfully, and the digest of
-- the plain metadata that it stands for.
CREATE TABLE IF NOT EXISTS $schema.checkpoints (
    thread_id TEXT NOT NULL,
    checkpoint_ns TEXT NOT NULL DEFAULT '',
    checkpoint_id TEXT NOT NULL,
    parent_checkpoint_id TEXT,
    type TEXT,
    checkpoint JSONB NOT NULL,
    metadata JSONB NOT NULL DEFAULT '{}',
    tiered_metadata_type TEXT,
    tiered_metadata BYTEA,
    tiered_metadata_sha256 BYTEA,
    PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id)
);

-- name: checkpoint_blobs
-- Official: one channel value per version, shared between checkpoints.
CREATE TABLE IF NOT EXISTS $schema.checkpoint_blobs (
    thread_id TEXT NOT NULL,
    checkpoint_ns TEXT NOT NULL DEFAULT '',
    channel TEXT NOT NULL,
    version TEXT NOT NULL,
    type TEXT NOT NULL,
    blob BYTEA,
    PRIMARY KEY (thread_id, checkpoint_ns, channel, version)
);

-- name: checkpoint_writes
-- Official: pending writes.
CREATE TABLE IF NOT EXISTS $schema.checkpoint_writes (
    thread_id TEXT NOT NULL,
    checkpoint_ns TEXT NOT NULL DEFAULT '',
    checkpoint_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    idx INTEGER NOT NULL,
    channel TEXT NOT NULL,
    type TEXT,
    blob BYTEA NOT NULL,
    task_path TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
);

-- name: tiered_migrations
-- Ours: which versions of our additions have been applied; and, in the first row, which store the tables are of, and
-- where its Redis is.
CREATE TABLE IF NOT EXISTS $schema.tiered_migrations (
    v INTEGER PRIMARY KEY,
    store TEXT,
    redis TEXT
);

-- name: tiered_threads
-- Ours: the fence of each promoted thread, and why it is here.
CREATE TABLE IF NOT EXISTS $schema.tiered_threads (
    thread_id TEXT PRIMARY KEY,
    incarnation TEXT NOT NULL,
    flushed TEXT NOT NULL DEFAULT '',
    promoted_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    last_write_at TIMESTAMPTZ,
    reason TEXT NOT NULL DEFAULT '',
    pinned BOOLEAN NOT NULL DEFAULT false,
    claim TEXT NOT NULL DEFAULT '',
    copied TEXT NOT NULL DEFAULT '',
    unarchived INTEGER NOT NULL DEFAULT 1,
    archive_due TIMESTAMPTZ
);

-- name: tiered_segments
-- Ours: checkpoints that were archived, packed. The keys say which checkpoints it has (see segments.py), the runs who wrote
-- them, cut off as in the index of `checkpoints`; the rest is so that a segment is found without being read.
CREATE TABLE IF NOT EXISTS $schema.tiered_segments (
    thread_id TEXT NOT NULL,
    segment BIGINT NOT NULL,
    first_id TEXT COLLATE "C" NOT NULL,
    last_id TEXT COLLATE "C" NOT NULL,
    spaces TEXT[] NOT NULL,
    firsts TEXT[] COLLATE "C" NOT NULL,
    lasts TEXT[] COLLATE "C" NOT NULL,
    keys INTEGER[] NOT NULL,
    runs TEXT[] NOT NULL,
    packed INTEGER NOT NULL,
    raw_bytes BIGINT NOT NULL,
    contents BYTEA NOT NULL,
    frame BYTEA NOT NULL,
    PRIMARY KEY (thread_id, segment)
);

-- name: blobs_nullable
-- Official migration 4, for tables that are older.
ALTER TABLE $schema.checkpoint_blobs ALTER COLUMN blob DROP NOT NULL;

-- name: writes_task_path
-- Official migration 9, for tables that are older.
ALTER TABLE $schema.checkpoint_writes ADD COLUMN IF NOT EXISTS task_path TEXT NOT NULL DEFAULT '';

-- name: checkpoints_metadata
-- Our columns, for tables that the official saver made.
ALTER TABLE $schema.checkpoints
    ADD COLUMN IF NOT EXISTS tiered_metadata_type TEXT,
    ADD COLUMN IF NOT EXISTS tiered_metadata BYTEA,
    ADD COLUMN IF NOT EXISTS tiered_metadata_sha256 BYTEA;

-- name: threads_claim
-- Our column, for tables that an older version made.
ALTER TABLE $schema.tiered_threads ADD COLUMN IF NOT EXISTS claim TEXT NOT NULL DEFAULT '';

-- name: threads_copied
-- Our column, for tables that an older version made: of a copy, its last checkpoint that no run of its own wrote.
ALTER TABLE $schema.tiered_threads ADD COLUMN IF NOT EXISTS copied TEXT NOT NULL DEFAULT '';

-- name: threads_unarchived
-- Our columns, for tables that an older version made: how many checkpoints of a thread may be archived, at most, and until
-- when somebody is about to.
ALTER TABLE $schema.tiered_threads
    ADD COLUMN IF NOT EXISTS unarchived INTEGER NOT NULL DEFAULT 1,
    ADD COLUMN IF NOT EXISTS archive_due TIMESTAMPTZ;

-- name: migrations_store
-- Our columns, for tables that an older version made.
ALTER TABLE $schema.tiered_migrations ADD COLUMN IF NOT EXISTS store TEXT, ADD COLUMN IF NOT EXISTS redis TEXT;

-- name: has_lz4
-- Reply: whether the server can compress with lz4: to about the same size as by default, in a fraction of the time.
SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'

-- name: blobs_lz4
-- Ours, for values that are stored from now on. Every reader gets the same bytes.
ALTER TABLE $schema.checkpoint_blobs ALTER COLUMN blob SET COMPRESSION lz4;

-- name: writes_lz4
-- Ours, as for blobs.
ALTER TABLE $schema.checkpoint_writes ALTER COLUMN blob SET COMPRESSION lz4;

-- name: checkpoints_thread_id_idx
-- Official migration 6.
CREATE INDEX IF NOT EXISTS checkpoints_thread_id_idx ON $schema.checkpoints (thread_id);

-- name: checkpoint_blobs_thread_id_idx
-- Official migration 7.
CREATE INDEX IF NOT EXISTS checkpoint_blobs_thread_id_idx ON $schema.checkpoint_blobs (thread_id);

-- name: checkpoint_writes_thread_id_idx
-- Official migration 8.
CREATE INDEX IF NOT EXISTS checkpoint_writes_thread_id_idx ON $schema.checkpoint_writes (thread_id);

-- name: tiered_run_id_idx
-- Ours, for delete_for_runs. Cut off, because a B-tree refuses the row of a very long value.
CREATE INDEX IF NOT EXISTS tiered_run_id_idx ON $schema.checkpoints (left(metadata ->> 'run_id', 64));

-- name: tiered_order_idx
-- Ours: the order of lists across namespaces and threads. Bytewise, as the hot tier orders, whatever the
-- collation of the database; an index of the default collation serves no COLLATE "C", not even where that is C.
CREATE INDEX IF NOT EXISTS tiered_order_idx ON $schema.checkpoints
    (thread_id COLLATE "C", checkpoint_id COLLATE "C" DESC, checkpoint_ns COLLATE "C" DESC);

-- name: tiered_idle_idx
-- Ours: threads that may be archived, by how long they have been idle.
CREATE INDEX IF NOT EXISTS tiered_idle_idx ON $schema.tiered_threads (coalesce(last_write_at, promoted_at))
    WHERE unarchived > 0;

-- name: tiered_long_idx
-- Ours: threads that have much to archive.
CREATE INDEX IF NOT EXISTS tiered_long_idx ON $schema.tiered_threads (unarchived) WHERE unarchived > 50;

-- name: tiered_segments_order_idx
-- Ours: the order in which lists come to segments.
CREATE INDEX IF NOT EXISTS tiered_segments_order_idx ON $schema.tiered_segments (thread_id, last_id, segment);

-- name: tiered_segments_runs_idx
-- Ours, for delete_for_runs.
CREATE INDEX IF NOT EXISTS tiered_segments_runs_idx ON $schema.tiered_segments USING gin (runs);

-- name: record_official
-- Says that the official migrations have been applied.
INSERT INTO $schema.checkpoint_migrations (v) SELECT generate_series(0, 9) ON CONFLICT DO NOTHING;

-- name: record_tiered
-- Says that ours have been applied.
INSERT INTO $schema.tiered_migrations (v) VALUES (1), (2) ON CONFLICT DO NOTHING;

-- name: setup_mode
-- What setup() needs whatever the defaults of the database are: each statement sees what others committed.
SET TRANSACTION ISOLATION LEVEL READ COMMITTED READ WRITE

-- name: try_lock
-- One at a time in each schema, until the end of the transaction. Reply: whether this is the one.
SELECT pg_try_advisory_xact_lock(hashtextextended(coalesce(%(schema)s::text, current_schema()::text, ''), %(key)s::bigint))

-- name: first_schema
-- Where tables without a schema are made; NULL if the search path names none that exists.
SELECT current_schema()::text

-- name: schema_exists
-- CREATE SCHEMA IF NOT EXISTS would want the privilege to create even where there is nothing to do.
SELECT 1 FROM pg_namespace WHERE nspname = %(schema)s

-- name: existing_tables
-- Reply: those of the names that are tables here, and whether they are partitioned.
SELECT name, c.relkind = 'p'
FROM unnest(%(names)s::text[], %(qualified)s::text[]) AS t (name, qualified)
JOIN pg_class c ON c.oid = to_regclass(qualified)

-- name: row_security
-- Reply: (table, our role) of those tables that may hide rows from us. Not from their owner, nor with BYPASSRLS.
SELECT name, current_user::text
FROM unnest(%(names)s::text[], %(qualified)s::text[]) AS t (name, qualified)
WHERE row_security_active(to_regclass(qualified)::oid)

-- name: existing_columns
-- Reply: (table, column) of those tables.
SELECT name, a.attname::text
FROM unnest(%(names)s::text[], %(qualified)s::text[]) AS t (name, qualified)
JOIN pg_attribute a ON a.attrelid = to_regclass(qualified) AND a.attnum > 0 AND NOT a.attisdropped

-- name: existing_indexes
-- Reply: (index, whether it is usable) of those tables; an interrupted concurrent build leaves an unusable one.
SELECT i.relname::text, x.indisvalid
FROM unnest(%(qualified)s::text[]) AS t (qualified)
JOIN pg_index x ON x.indrelid = to_regclass(qualified)
JOIN pg_class i ON i.oid = x.indexrelid

-- name: held
-- Reply: those tables that somebody else builds an index of, or vacuums: they hold a lock that no other statement of ours
-- or of the official saver takes.
SELECT DISTINCT name
FROM unnest(%(names)s::text[], %(qualified)s::text[]) AS t (name, qualified)
JOIN pg_locks l ON l.relation = to_regclass(qualified) AND l.granted AND l.mode = 'ShareUpdateExclusiveLock'
AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND l.pid <> pg_backend_pid()

-- name: in_the_way
-- Who holds these tables, or keeps somebody waiting who does: the three oldest transactions that can be seen.
-- Reply: (process, role, application, state or NULL, age in s or NULL).
SELECT a.pid, coalesce(a.usename::text, ''), coalesce(a.application_name, ''), a.state,
    extract(epoch FROM clock_timestamp() - a.xact_start)::integer
FROM pg_stat_activity a
WHERE a.pid IN (
    SELECT unnest(l.pid || pg_blocking_pids(l.pid))
    FROM unnest(%(qualified)s::text[]) AS t (qualified)
    JOIN pg_locks l ON l.relation = to_regclass(qualified) AND l.granted
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND l.pid <> pg_backend_pid()
)
ORDER BY a.xact_start NULLS LAST
LIMIT 3

-- name: orders_ids
-- Reply: whether the collation of the tables orders what UUIDs are made of as bytes are. One that is not the database's
-- own is not looked into.
SELECT (
    SELECT array_agg(id ORDER BY id) = array_agg(id ORDER BY id COLLATE "C")
    FROM (
        SELECT a || b AS id
        FROM unnest(string_to_array('0123456789abcdef', NULL)) AS a
        CROSS JOIN unnest(string_to_array('0123456789abcdef', NULL)) AS b
    ) AS ids
) AND NOT EXISTS (
    SELECT 1 FROM unnest(%(qualified)s::text[]) AS t (qualified)
    JOIN pg_attribute a ON a.attrelid = to_regclass(qualified) AND a.attname = 'checkpoint_id'
    JOIN pg_collation c ON c.oid = a.attcollation
    WHERE c.collname NOT IN ('default', 'C', 'POSIX')
)

-- name: official_version
-- Reply: the last official migration, -1 without any.
SELECT coalesce(max(v), -1) FROM $schema.checkpoint_migrations

-- name: tiered_version
-- Reply: the last migration of ours, 0 without any.
SELECT coalesce(max(v), 0) FROM $schema.tiered_migrations

-- name: belonging
-- Which store the tables are of. Reply: (its id, where its Redis is), empty texts if of none yet.
SELECT coalesce(store, ''), coalesce(redis, '') FROM $schema.tiered_migrations WHERE v = 1

-- name: belong
-- The tables are of this store from now on. Reply: a row, unless they are not of the expected one any more.
UPDATE $schema.tiered_migrations SET store = %(store)s, redis = %(redis)s
WHERE v = 1 AND coalesce(store, '') = %(expected)s
RETURNING true
