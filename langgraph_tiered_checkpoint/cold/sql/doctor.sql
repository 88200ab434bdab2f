-- What the doctor asks. See cold/examination.py.

-- name: server
-- Reply: (version as a number, as a text, whether a standby, whether only reading is allowed, role, time in s).
SELECT current_setting('server_version_num')::integer, current_setting('server_version'), pg_is_in_recovery(),
    current_setting('transaction_read_only') = 'on', current_user::text,
    extract(epoch FROM clock_timestamp())::float8

-- name: of_schema
-- Reply: (schema, whether the role may use it, whether it may make tables there), if it exists.
SELECT nspname::text, has_schema_privilege(oid, 'USAGE'), has_schema_privilege(oid, 'CREATE')
FROM pg_namespace WHERE nspname = coalesce(%(schema)s::text, current_schema()::text)

-- name: lacking
-- Reply: (privilege, table) of what the role lacks on those of the tables that exist.
SELECT privilege, name
FROM unnest(%(names)s::text[], %(qualified)s::text[], %(privileges)s::text[]) AS t (name, qualified, privilege)
WHERE to_regclass(qualified) IS NOT NULL AND NOT has_table_privilege(to_regclass(qualified)::oid, privilege)
