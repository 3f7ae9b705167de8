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
-- that another session builds is passed over, and one that it has announced just now. What was not dropped from the
-- target is of one load alone.
SELECT post_data_id, kind, name, built_as, definition, built_at IS NOT NULL AS is_built, attempts
FROM migration_status.post_data d
WHERE target_schema = %(schema)s AND target_table = %(table)s AND built_on = %(built_on)s
  AND (dropped_at IS NOT NULL OR table_id = %(table_id)s::bigint)
  AND attached_at IS NULL AND failed_at IS NULL AND begun_at IS NULL
  AND (kind = 'index' AND built_at IS NULL OR NOT EXISTS (
      SELECT FROM migration_status.post_data x
      WHERE x.target_schema = %(schema)s AND x.target_table = %(table)s AND x.built_on = %(built_on)s
        AND (x.dropped_at IS NOT NULL OR x.table_id = %(table_id)s::bigint)
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
UPDATE migration_status.post_data SET built_at = clock_timestamp(), begun_at = NULL WHERE post_data_id = %(id)s

-- name: attached_post_data
UPDATE migration_status.post_data
SET attached_at = clock_timestamp(), begun_at = NULL, error_message = NULL
WHERE post_data_id = %(id)s

-- name: attempted_post_data
UPDATE migration_status.post_data
SET attempts = attempts + 1, error_message = %(error)s,
    failed_at = CASE WHEN %(failed)s THEN clock_timestamp() END
WHERE post_data_id = %(id)s AND attached_at IS NULL

-- name: begin_post_data
-- Announce a build, in a transaction before it: should its session be ended, it is known that there was one.
UPDATE migration_status.post_data SET begun_at = clock_timestamp() WHERE post_data_id = %(id)s RETURNING begun_at

-- name: begun_post_data
-- What was announced, unless somebody has taken it for ended meanwhile.
SELECT post_data_id FROM migration_status.post_data
WHERE post_data_id = %(id)s AND begun_at = %(begun_at)s
FOR UPDATE SKIP LOCKED

-- name: lock_build
-- By this lock it is found which backend builds what.
SELECT pg_advisory_xact_lock(hashtextextended(format('snowmelt build %%s', %(id)s::bigint), 0)), pg_backend_pid()

-- name: put_off_post_data
-- It says nothing of a build that a lock was not to be had.
UPDATE migration_status.post_data SET begun_at = NULL WHERE post_data_id = %(id)s

-- name: ended_post_data
-- What the server met in a build, as it noted it itself: SQLSTATE and text.
UPDATE migration_status.post_data
SET begun_at = NULL, ended_at = clock_timestamp(), attempts = attempts + 1, error_message = met.failure ->> 1,
    failed_at = CASE WHEN attempts + 1 < %(limit)s AND met.failure ->> 0 = ANY (%(passing)s::text[]) THEN NULL
                     ELSE clock_timestamp() END
FROM (SELECT current_setting('snowmelt.failure')::jsonb AS failure) met
WHERE post_data_id = %(id)s

-- name: lost_post_data
-- Builds that nobody holds any more, and of whose end nothing is noted. One that was announced just now may be about
-- to be sent.
UPDATE migration_status.post_data
SET begun_at = NULL, ended_at = clock_timestamp(), attempts = attempts + 1,
    failed_at = CASE WHEN attempts + 1 >= %(limit)s THEN clock_timestamp() END,
    error_message = 'the session that built it since ' || date_trunc('second', begun_at) || ' ended before it had: the server '
        || 'was restarted, or somebody or something between ended it; the server''s log tells'
WHERE post_data_id IN (
    SELECT post_data_id FROM migration_status.post_data
    WHERE target_schema = %(schema)s AND target_table = %(table)s AND built_on = %(built_on)s
      AND begun_at < clock_timestamp() - make_interval(secs => %(grace_seconds)s)
    FOR UPDATE SKIP LOCKED)
RETURNING name, error_message, failed_at IS NOT NULL AS failed

-- name: begun_builds
-- Where builds of a run were announced whose end is not noted.
SELECT DISTINCT d.target_schema, d.target_table, d.built_on
FROM migration_status.post_data d JOIN migration_status.load l USING (table_id)
WHERE l.run_id = %(run_id)s AND l.completed_at IS NULL AND d.begun_at IS NOT NULL

-- name: server_builds
-- What the server builds just now, of a run or on a table, and how far it is. Of a foreign key that is checked it does
-- not tell.
SELECT d.table_id, d.target_schema || '.' || d.target_table AS table, d.kind, d.name, k.pid,
       extract(epoch FROM clock_timestamp() - coalesce(d.begun_at, a.xact_start))::float8 AS seconds, g.phase,
       CASE WHEN g.tuples_total > 0 THEN g.tuples_done::float8 / g.tuples_total
            WHEN g.blocks_total > 0 THEN g.blocks_done::float8 / g.blocks_total END AS share,
       coalesce(a.wait_event_type = 'Lock', false) AS waits,
       jsonb_build_array(d.post_data_id, g.phase, g.blocks_done, g.tuples_done, g.partitions_done) AS place
FROM migration_status.post_data d
JOIN pg_locks k ON k.locktype = 'advisory' AND k.granted AND k.objsubid = 1
    AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (k.classid::bigint << 32 | k.objid::bigint)
        = hashtextextended(format('snowmelt build %%s', d.post_data_id), 0)
LEFT JOIN pg_stat_progress_create_index g ON g.pid = k.pid
LEFT JOIN pg_stat_activity a ON a.pid = k.pid
WHERE d.attached_at IS NULL
  AND (d.begun_at IS NOT NULL
           AND d.table_id IN (SELECT table_id FROM migration_status.load WHERE run_id = %(run_id)s::uuid)
       OR d.target_schema = %(schema)s AND d.target_table = %(table)s)
ORDER BY d.post_data_id

-- name: note_advance
UPDATE migration_status.load SET building = %(building)s, advanced_at = clock_timestamp()
WHERE table_id = %(table_id)s AND building IS DISTINCT FROM %(building)s

-- name: since_advance
SELECT extract(epoch FROM clock_timestamp() - advanced_at)::float8 FROM migration_status.load
WHERE table_id = %(table_id)s

-- name: open_post_data
SELECT kind, name, failed_at IS NOT NULL AS failed, error_message, built_at IS NOT NULL AS is_built
FROM migration_status.post_data
WHERE target_schema = %(schema)s AND target_table = %(table)s AND built_on = %(built_on)s AND attached_at IS NULL
  AND (dropped_at IS NOT NULL OR table_id = %(table_id)s::bigint)
ORDER BY post_data_id

-- name: reopen_post_data
-- For a run, what had failed before it was begun or taken up again: a failure since then may have been met by nobody,
-- and is told first.
UPDATE migration_status.post_data SET failed_at = NULL, attempts = 0
WHERE target_schema = %(schema)s AND target_table = %(table)s AND attached_at IS NULL AND failed_at IS NOT NULL
  AND (%(run_id)s::uuid IS NULL OR failed_at < (
      SELECT greatest(given_up_at, started_at) FROM migration_status.run WHERE run_id = %(run_id)s::uuid))

-- name: forget_post_data
-- Of a table that is gone before it took its target's place; what was dropped from a target stays.
DELETE FROM migration_status.post_data
WHERE target_schema = %(schema)s AND built_on = %(built_on)s AND dropped_at IS NULL

-- name: forget_noted
-- What was to be built on the targets of loads that are given up.
DELETE FROM migration_status.post_data p USING migration_status.load l
WHERE p.table_id = l.table_id AND l.run_id = %(run_id)s AND l.completed_at IS NULL
  AND (%(table_id)s::bigint IS NULL OR l.table_id = %(table_id)s::bigint)
  AND p.built_on = p.target_table AND p.dropped_at IS NULL AND p.attached_at IS NULL

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
  AND (dropped_at IS NOT NULL OR table_id = %(table_id)s::bigint)
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
