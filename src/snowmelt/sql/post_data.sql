-- Indexes and foreign keys that are built after the rows. Parameters are psycopg's.

-- name: table_indexes
-- What follows "USING" in a definition is the same on any table; that the part before it is as expected is asked too.
SELECT x.relname::text AS name, i.indisunique AS is_unique, i.indisprimary AS is_primary, i.indisvalid AS is_valid,
       i.indisexclusion AS is_exclusion, x.relkind = 'I' AS is_partitioned,
       p.prefix, pg_get_indexdef(x.oid) AS whole,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY k(attnum, place)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
             WHERE k.place <= i.indnkeyatts ORDER BY k.place) AS columns,
       s.spcname::text AS tablespace, k.contype::text AS constraint_type, pg_get_constraintdef(k.oid) AS constraint_definition,
       coalesce(k.condeferrable, false) AS is_deferrable, coalesce(k.condeferred, false) AS is_deferred,
       obj_description(x.oid, 'pg_class') AS comment, obj_description(k.oid, 'pg_constraint') AS constraint_comment,
       i.indisclustered AS is_clustered, i.indisreplident AS is_replica_identity,
       (SELECT jsonb_object_agg(a.attnum, a.attstattarget) FROM pg_attribute a
        WHERE a.attrelid = x.oid AND a.attstattarget >= 0) AS statistics,
       EXISTS (SELECT FROM pg_constraint f WHERE f.contype = 'f' AND f.conindid = x.oid)
           OR EXISTS (SELECT FROM pg_depend d WHERE d.refclassid = 'pg_constraint'::regclass AND d.refobjid = k.oid
                        AND d.deptype = 'n') AS is_referenced,
       i.indexprs IS NOT NULL OR i.indpred IS NOT NULL AS is_conditional
FROM pg_index i
JOIN pg_class x ON x.oid = i.indexrelid
JOIN pg_class c ON c.oid = i.indrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_tablespace s ON s.oid = x.reltablespace
LEFT JOIN pg_constraint k ON k.conindid = x.oid AND k.conrelid = c.oid AND k.contype IN ('p', 'u', 'x')
CROSS JOIN LATERAL (SELECT format('CREATE %%sINDEX %%I ON %%s%%I.%%I USING ',
    CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END, x.relname,
    CASE WHEN x.relkind = 'I' THEN 'ONLY ' ELSE '' END, n.nspname, c.relname) AS prefix) p
WHERE n.nspname = %(schema)s AND c.relname = %(table)s
ORDER BY NOT i.indisprimary, NOT i.indisunique, x.relname

-- name: table_foreign_keys
SELECT k.conname::text AS name, pg_get_constraintdef(k.oid) AS definition, k.convalidated AS is_valid,
       coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true) AS is_enforced,
       obj_description(k.oid, 'pg_constraint') AS comment
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(table)s AND k.contype = 'f' AND k.conparentid = 0
ORDER BY k.conname

-- name: note_post_data
INSERT INTO migration_status.post_data (
    table_id, target_schema, target_table, built_on, kind, name, built_as, definition, dropped_at)
VALUES (
    %(table_id)s, %(schema)s, %(table)s, %(built_on)s, %(kind)s, %(name)s, %(built_as)s, %(definition)s,
    CASE WHEN %(dropped)s THEN clock_timestamp() END)

-- name: next_post_data
-- Indexes side by side, then what takes the table for itself, then foreign keys, which are quicker with indexes. One
-- that another session builds is passed over.
SELECT post_data_id, kind, name, built_as, definition, built_at IS NOT NULL AS is_built, attempts
FROM migration_status.post_data d
WHERE target_schema = %(schema)s AND target_table = %(table)s AND built_on = %(built_on)s
  AND attached_at IS NULL AND failed_at IS NULL
  AND (kind = 'index' AND built_at IS NULL OR NOT EXISTS (
      SELECT FROM migration_status.post_data x
      WHERE x.target_schema = %(schema)s AND x.target_table = %(table)s AND x.built_on = %(built_on)s
        AND x.kind = 'index' AND x.attached_at IS NULL AND x.failed_at IS NULL
        AND (x.built_at IS NULL OR d.kind = 'foreign_key')))
ORDER BY kind DESC, built_at IS NOT NULL, post_data_id
LIMIT 1
FOR UPDATE OF d SKIP LOCKED

-- name: build_progress
SELECT phase, CASE WHEN tuples_total > 0 THEN tuples_done::float8 / tuples_total
                   WHEN blocks_total > 0 THEN blocks_done::float8 / blocks_total END
FROM pg_stat_progress_create_index WHERE pid = %(pid)s

-- name: built_post_data
UPDATE migration_status.post_data SET built_at = clock_timestamp() WHERE post_data_id = %(id)s

-- name: attached_post_data
UPDATE migration_status.post_data SET attached_at = clock_timestamp(), error_message = NULL WHERE post_data_id = %(id)s

-- name: attempted_post_data
UPDATE migration_status.post_data
SET attempts = attempts + 1, error_message = %(error)s,
    failed_at = CASE WHEN %(failed)s THEN clock_timestamp() END
WHERE post_data_id = %(id)s AND attached_at IS NULL

-- name: open_post_data
SELECT kind, name, failed_at IS NOT NULL AS failed, error_message, built_at IS NOT NULL AS is_built
FROM migration_status.post_data
WHERE target_schema = %(schema)s AND target_table = %(table)s AND built_on = %(built_on)s AND attached_at IS NULL
ORDER BY post_data_id

-- name: reopen_post_data
UPDATE migration_status.post_data SET failed_at = NULL, attempts = 0
WHERE target_schema = %(schema)s AND target_table = %(table)s AND attached_at IS NULL AND failed_at IS NOT NULL

-- name: forget_post_data
-- Of a table that is gone before it took its target's place; what was dropped from a target stays.
DELETE FROM migration_status.post_data
WHERE target_schema = %(schema)s AND built_on = %(built_on)s AND dropped_at IS NULL

-- name: missing_post_data
-- What was dropped from a target and is not back, unless a live worker is about it.
SELECT p.target_schema, p.target_table, array_agg(p.name ORDER BY p.post_data_id) AS names,
       EXISTS (SELECT FROM migration_status.load l JOIN migration_status.run r USING (run_id)
               JOIN migration_status.worker w USING (run_id)
               WHERE l.target_schema = p.target_schema AND l.target_table = p.target_table
                 AND l.completed_at IS NULL AND r.ending IS NULL
                 AND w.ended_at IS NULL AND w.heartbeat_at > clock_timestamp() - w.lease) AS in_use
FROM migration_status.post_data p
WHERE p.dropped_at IS NOT NULL AND p.attached_at IS NULL AND p.built_on = p.target_table
GROUP BY p.target_schema, p.target_table
ORDER BY p.target_schema, p.target_table

-- name: give_up_post_data
-- What was dropped from a target and is not to come back. A row that a builder holds is its own.
WITH going AS (
    SELECT post_data_id FROM migration_status.post_data
    WHERE target_schema = %(schema)s AND target_table = %(table)s AND built_on = %(table)s AND attached_at IS NULL
      AND (cardinality(%(names)s::text[]) = 0 OR name = ANY(%(names)s::text[]))
    FOR UPDATE SKIP LOCKED)
DELETE FROM migration_status.post_data WHERE post_data_id IN (SELECT post_data_id FROM going)
RETURNING name, definition

-- name: noted_indexes
-- By the names that they have in their target, and on the table that is loaded in its stead; those that failed too.
SELECT name, built_as FROM migration_status.post_data
WHERE target_schema = %(schema)s AND built_on = %(built_on)s AND kind = 'index'
ORDER BY post_data_id

-- name: failed_post_data
SELECT post_data_id, kind, name, built_as, definition FROM migration_status.post_data
WHERE target_schema = %(schema)s AND target_table = %(table)s AND built_on = %(built_on)s
  AND failed_at IS NOT NULL AND attached_at IS NULL
ORDER BY post_data_id

-- name: forget_failed
DELETE FROM migration_status.post_data WHERE post_data_id = %(id)s

-- name: columns_of
SELECT a.attname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE n.nspname = %(schema)s AND c.relname = %(table)s
ORDER BY a.attnum

-- name: note_disabled
UPDATE migration_status.load SET indexes_disabled = true, indexes_restored = false WHERE table_id = %(table_id)s

-- name: note_restored
UPDATE migration_status.load SET indexes_restored = true
WHERE indexes_disabled AND NOT indexes_restored AND target_schema = %(schema)s AND target_table = %(table)s

-- name: note_furnished
UPDATE migration_status.load SET furnished_at = clock_timestamp() WHERE table_id = %(table_id)s
