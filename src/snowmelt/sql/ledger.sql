-- The statements of the ledger, by name. Parameters are psycopg's. Times are the server's clock throughout.

-- name: ledger_version
SELECT max(version) FROM migration_status.ledger_version

-- name: record_version
INSERT INTO migration_status.ledger_version (version) VALUES (%(version)s)

-- name: find_run
SELECT r.run_id
FROM migration_status.run r
LEFT JOIN LATERAL (
    SELECT max(heartbeat_at) AS heartbeat_at FROM migration_status.worker WHERE run_id = r.run_id
) w ON true
WHERE r.execution_hash = %(execution_hash)s
  AND r.ending IS DISTINCT FROM 'completed' AND r.ending IS DISTINCT FROM 'aborted'
  AND greatest(r.active_at, w.heartbeat_at) > clock_timestamp() - make_interval(secs => %(max_age_hours)s * 3600.0)
ORDER BY r.started_at DESC
LIMIT 1

-- name: lock_recording
SELECT pg_advisory_xact_lock(hashtextextended('snowmelt recording', 0))

-- name: open_run
INSERT INTO migration_status.run (run_id, config_hash, execution_hash, source_names, total_tables, metadata)
VALUES (%(run_id)s, %(config_hash)s, %(execution_hash)s, %(source_names)s, %(total_tables)s, %(metadata)s)
ON CONFLICT (run_id) DO UPDATE
SET ending = NULL, ended_at = NULL, error_message = NULL, active_at = clock_timestamp(),
    given_up_at = CASE WHEN run.ending = 'failed' THEN clock_timestamp() ELSE run.given_up_at END,
    total_tables = greatest(run.total_tables, excluded.total_tables)
WHERE run.ending IS DISTINCT FROM 'aborted'
RETURNING run_id

-- name: reopen_loads
UPDATE migration_status.load SET failed_at = NULL, error_message = NULL
WHERE run_id = %(run_id)s AND failed_at IS NOT NULL AND table_id = ANY (%(table_ids)s)

-- name: reopen_chunks
UPDATE migration_status.chunk c
SET failed_at = NULL, attempts = 0, not_before = NULL, token = NULL, worker_id = NULL
FROM migration_status.load l
WHERE l.table_id = c.table_id AND l.run_id = %(run_id)s AND l.table_id = ANY (%(table_ids)s)
  AND c.failed_at IS NOT NULL

-- name: add_load
INSERT INTO migration_status.load (
    run_id, source_name, source_database, source_schema, source_table,
    target_database, target_schema, target_table,
    table_hash, snapshot, columns, plan, truncation, planned_rows)
VALUES (
    %(run_id)s, %(source_name)s, %(source_database)s, %(source_schema)s, %(source_table)s,
    %(target_database)s, %(target_schema)s, %(target_table)s,
    %(table_hash)s, %(snapshot)s, %(columns)s, %(plan)s, %(truncation)s, %(planned_rows)s)
ON CONFLICT DO NOTHING
RETURNING table_id

-- name: copy_chunks
COPY migration_status.chunk (table_id, chunk_id, range, planned_rows) FROM STDIN

-- name: loads
SELECT table_id, source_name, source_database, source_schema, source_table, target_schema, target_table,
       table_hash, snapshot, columns, plan, planned_rows, l.completed_at IS NOT NULL AS completed,
       c.chunks, c.completed_chunks, c.completed_rows
FROM migration_status.load l
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE retired_at IS NULL) AS chunks,
           count(*) FILTER (WHERE completed_at IS NOT NULL) AS completed_chunks,
           coalesce(sum(rows_written), 0)::bigint AS completed_rows
    FROM (
        SELECT completed_at, rows_written,
               -- A ledger of an older release, which only `migrate` upgrades, does not have it.
               to_jsonb(k) ->> 'retired_at' AS retired_at
        FROM migration_status.chunk k WHERE table_id = l.table_id) k) c
WHERE run_id = %(run_id)s

-- name: writers
SELECT l.table_id, l.run_id, coalesce(r.ending, 'running') AS ending,
       greatest(r.active_at, (SELECT max(heartbeat_at) FROM migration_status.worker WHERE run_id = r.run_id))
           AS active_at,
       coalesce(l.completed_at IS NOT NULL, false) AS completed, r.created_by,
       -- A ledger of an older release, which only `migrate` upgrades, does not have it, and gets what its migration sets.
       CASE WHEN to_jsonb(l) ? 'target_rows' THEN (to_jsonb(l) ->> 'target_rows')::bigint
            WHEN l.completed_at IS NOT NULL AND l.taken_over = '{}'
            THEN (SELECT coalesce(sum(rows_written), 0)::bigint FROM migration_status.chunk c
                  WHERE c.table_id = l.table_id) END AS target_rows,
       (SELECT coalesce(sum(rows_written), 0)::bigint FROM migration_status.chunk c WHERE c.table_id = l.table_id)
           AS written_rows,
       ARRAY(SELECT w.host || ':' || w.pid FROM migration_status.worker w
             WHERE w.run_id = r.run_id AND w.ended_at IS NULL AND w.heartbeat_at > clock_timestamp() - w.lease
             ORDER BY w.started_at) AS workers,
       coalesce(jsonb_typeof(l.plan -> 'replaces') = 'object', false) AS beside,
       to_jsonb(l) ->> 'rolled_back_at' IS NOT NULL AS rolled_back
FROM migration_status.load l JOIN migration_status.run r USING (run_id)
WHERE l.target_schema = %(schema)s AND l.target_table = %(table)s
ORDER BY l.table_id DESC
LIMIT 20

-- name: last_columns
SELECT columns, plan FROM migration_status.load
WHERE completed_at IS NOT NULL AND target_schema = %(target_schema)s AND target_table = %(target_table)s
  AND source_database = %(source_database)s AND source_schema = %(source_schema)s AND source_table = %(source_table)s
  AND coalesce(plan ->> 'connection', plan -> 'facts' ->> 'connection') = %(connection)s
ORDER BY table_id DESC
LIMIT 1

-- name: claim_open
UPDATE migration_status.chunk c
SET token = %(token)s, worker_id = %(worker_id)s, claimed_at = clock_timestamp(),
    attempts = c.attempts + 1, not_before = NULL
FROM (
    SELECT table_id, chunk_id FROM migration_status.chunk
    WHERE table_id = %(table_id)s AND completed_at IS NULL AND failed_at IS NULL AND retired_at IS NULL
      AND token IS NULL
      AND (not_before IS NULL OR not_before <= clock_timestamp())
      AND EXISTS (SELECT 1 FROM migration_status.load l JOIN migration_status.run r USING (run_id)
                  WHERE l.table_id = %(table_id)s AND l.failed_at IS NULL AND r.ending IS NULL)
    -- Parts of what was resized last come first: whether they are too heavy as well is then known soon.
    ORDER BY parent_id DESC NULLS LAST, chunk_id
    LIMIT 1
    FOR UPDATE SKIP LOCKED
) next
WHERE c.table_id = next.table_id AND c.chunk_id = next.chunk_id
RETURNING c.chunk_id, c.range, c.planned_rows, c.attempts, c.overran_seconds

-- name: expired_claim
SELECT c.chunk_id, c.token
FROM migration_status.chunk c
JOIN migration_status.load l USING (table_id)
JOIN migration_status.run r USING (run_id)
LEFT JOIN migration_status.worker w ON w.worker_id = c.worker_id
WHERE c.table_id = %(table_id)s AND c.completed_at IS NULL AND c.failed_at IS NULL AND c.retired_at IS NULL
  AND c.token IS NOT NULL AND l.failed_at IS NULL AND r.ending IS NULL
  AND (w.worker_id IS NULL
       OR w.ended_at IS NOT NULL
       OR w.heartbeat_at < clock_timestamp() - w.lease
       -- A live process whose thread hangs, as the process itself tells.
       OR (w.claims ->> c.token::text)::float8 > extract(epoch FROM w.stall)
       -- A claim that its owner no longer knows: the server crashed and took the asynchronous commit with it.
       OR (c.worker_id = %(worker_id)s AND NOT c.token = ANY (%(active)s))
       OR (NOT w.claims ? c.token::text AND c.claimed_at < w.heartbeat_at - w.lease))
ORDER BY c.parent_id DESC NULLS LAST, c.chunk_id
LIMIT 1

-- name: take_over
UPDATE migration_status.chunk
SET token = %(token)s, worker_id = %(worker_id)s, claimed_at = clock_timestamp(), attempts = attempts + 1
WHERE table_id = %(table_id)s AND chunk_id = %(chunk_id)s AND token = %(old_token)s
  AND completed_at IS NULL AND failed_at IS NULL
RETURNING chunk_id, range, planned_rows, attempts, overran_seconds

-- name: lock_chunk
SELECT pg_try_advisory_xact_lock(hashtextextended(format('snowmelt chunk %%s %%s', %(table_id)s::bigint, %(chunk_id)s::int), 0))

-- name: share_finish
SELECT pg_try_advisory_xact_lock_shared(
    hashtextextended(format('snowmelt chunk %%s %%s', %(table_id)s::bigint, %(chunk_id)s::int), 0))

-- name: await_finish
SELECT pg_advisory_xact_lock(
    hashtextextended(format('snowmelt chunk %%s %%s', %(table_id)s::bigint, %(chunk_id)s::int), 0))

-- name: evict_chunk
SELECT pg_terminate_backend(pid)
FROM pg_locks
WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid() AND objsubid = 1
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (classid::bigint << 32 | objid::bigint)
      = hashtextextended(format('snowmelt chunk %%s %%s', %(table_id)s::bigint, %(chunk_id)s::int), 0)

-- name: owns_claim
SELECT EXISTS (
    SELECT 1 FROM migration_status.chunk
    WHERE table_id = %(table_id)s AND chunk_id = %(chunk_id)s AND token = %(token)s
      AND completed_at IS NULL AND failed_at IS NULL)

-- name: is_staged
SELECT staged_at IS NOT NULL FROM migration_status.load WHERE table_id = %(table_id)s

-- name: stage_load
UPDATE migration_status.load SET staged_at = clock_timestamp()
WHERE table_id = %(table_id)s AND staged_at IS NULL

-- name: complete_chunk
UPDATE migration_status.chunk
SET completed_at = clock_timestamp(), rows_read = %(rows_read)s, rows_written = %(rows_written)s,
    rows_skipped = %(rows_skipped)s, bytes = %(bytes)s, values_floored = %(values_floored)s,
    values_changed = %(values_changed)s, error_message = NULL
WHERE table_id = %(table_id)s AND chunk_id = %(chunk_id)s AND token = %(token)s
  AND completed_at IS NULL AND failed_at IS NULL
  AND NOT EXISTS (SELECT 1 FROM migration_status.load l JOIN migration_status.run r USING (run_id)
                  WHERE l.table_id = %(table_id)s AND r.ending = 'aborted')

-- name: add_chunks
INSERT INTO migration_status.chunk (table_id, chunk_id, range, planned_rows, parent_id, claimed_at, completed_at,
                                    rows_read, rows_written, rows_skipped, bytes)
SELECT %(table_id)s,
       coalesce((SELECT max(chunk_id) FROM migration_status.chunk WHERE table_id = %(table_id)s), %(after)s)
           + row_number() OVER (ORDER BY new.place),
       new.chunk -> 'range', (new.chunk ->> 'planned_rows')::bigint, %(parent_id)s,
       CASE WHEN (new.chunk ->> 'done')::bool THEN clock_timestamp() END,
       CASE WHEN (new.chunk ->> 'done')::bool THEN clock_timestamp() END,
       CASE WHEN (new.chunk ->> 'done')::bool THEN (new.chunk ->> 'planned_rows')::bigint END,
       CASE WHEN (new.chunk ->> 'done')::bool THEN (new.chunk ->> 'planned_rows')::bigint END,
       CASE WHEN (new.chunk ->> 'done')::bool THEN 0 END,
       CASE WHEN (new.chunk ->> 'done')::bool THEN 0 END
FROM jsonb_array_elements(%(chunks)s) WITH ORDINALITY AS new(chunk, place)

-- name: retire_chunk
UPDATE migration_status.chunk
SET token = NULL, retired_at = clock_timestamp(), error_message = %(reason)s
WHERE table_id = %(table_id)s AND chunk_id = %(chunk_id)s AND token = %(token)s
  AND completed_at IS NULL AND failed_at IS NULL
  AND NOT EXISTS (SELECT 1 FROM migration_status.load l JOIN migration_status.run r USING (run_id)
                  WHERE l.table_id = %(table_id)s AND r.ending = 'aborted')

-- name: has_open_batches
-- An abort ends the run by an UPDATE of the same row: it is seen here, or waits.
SELECT r.ending IS DISTINCT FROM 'aborted' AND l.failed_at IS NULL AND l.completed_at IS NULL
       AND EXISTS (SELECT 1 FROM migration_status.chunk
                   WHERE table_id = %(table_id)s AND completed_at IS NULL AND retired_at IS NULL
                     AND range ->> 'query_id' = %(query_id)s) AS stands
FROM migration_status.load l JOIN migration_status.run r USING (run_id)
WHERE l.table_id = %(table_id)s
FOR SHARE OF r

-- name: remove_chunks
WITH removed AS (DELETE FROM migration_status.chunk WHERE table_id = %(table_id)s RETURNING *)
SELECT coalesce(max(chunk_id), -1) AS last_chunk_id, coalesce(sum(rows_written), 0)::bigint AS rows_written,
       coalesce(array_agg(chunk_id) FILTER (WHERE token IS NOT NULL AND completed_at IS NULL), '{}') AS held
FROM removed

-- name: record_replan
UPDATE migration_status.load
SET replanned = replanned || jsonb_build_object(
        'at', clock_timestamp(), 'query_id', %(query_id)s::text,
        'rows_kept', %(rows_kept)s::bigint, 'rows_removed', %(rows_removed)s::bigint)
WHERE table_id = %(table_id)s

-- name: release_chunk
UPDATE migration_status.chunk
SET token = NULL, worker_id = NULL, error_message = %(error)s,
    overran_seconds = coalesce(%(overran_seconds)s::float8, overran_seconds),
    not_before = clock_timestamp() + make_interval(secs => %(backoff_seconds)s)
WHERE table_id = %(table_id)s AND chunk_id = %(chunk_id)s AND token = %(token)s AND completed_at IS NULL

-- name: fail_chunk
UPDATE migration_status.chunk
SET token = NULL, failed_at = clock_timestamp(), error_message = %(error)s
WHERE table_id = %(table_id)s AND chunk_id = %(chunk_id)s AND completed_at IS NULL
  -- Or this process has failed it already and asks again, because the answer was lost.
  AND (token = %(token)s OR token IS NULL AND failed_at IS NOT NULL AND worker_id = %(worker_id)s)

-- name: is_completed
SELECT completed_at IS NOT NULL FROM migration_status.chunk
WHERE table_id = %(table_id)s AND chunk_id = %(chunk_id)s AND token = %(token)s

-- name: work_left
SELECT count(c.chunk_id) FILTER (WHERE c.failed_at IS NULL) AS open_chunks,
       count(c.chunk_id) FILTER (WHERE c.failed_at IS NOT NULL) AS failed_chunks,
       coalesce(bool_or(l.completed_at IS NOT NULL OR l.failed_at IS NOT NULL OR l.skipped_at IS NOT NULL
                        OR r.ending IS NOT NULL), true) AS closed,
       coalesce(bool_or(l.completed_at IS NOT NULL), false) AS completed
FROM migration_status.load l
JOIN migration_status.run r USING (run_id)
LEFT JOIN migration_status.chunk c
    ON c.table_id = l.table_id AND c.completed_at IS NULL AND c.retired_at IS NULL
WHERE l.table_id = %(table_id)s

-- name: lock_load
SELECT completed_at IS NOT NULL AS completed, planned_rows, plan, target_schema, target_table, run_id,
       furnished_at IS NOT NULL AS furnished
FROM migration_status.load WHERE table_id = %(table_id)s FOR UPDATE

-- name: read_load
SELECT completed_at IS NOT NULL AS completed, planned_rows, plan, target_schema, target_table, run_id,
       furnished_at IS NOT NULL AS furnished
FROM migration_status.load WHERE table_id = %(table_id)s

-- name: recount
SELECT count(*) FILTER (WHERE completed_at IS NULL AND retired_at IS NULL) AS open_chunks,
       count(*) FILTER (WHERE failed_at IS NOT NULL) AS failed_chunks,
       coalesce(sum(rows_read), 0)::bigint AS rows_read,
       coalesce(sum(rows_written), 0)::bigint AS rows_written
FROM migration_status.chunk WHERE table_id = %(table_id)s

-- name: complete_load
UPDATE migration_status.load l SET completed_at = clock_timestamp(), failed_at = NULL, error_message = NULL
WHERE table_id = %(table_id)s
  AND NOT EXISTS (SELECT 1 FROM migration_status.run r WHERE r.run_id = l.run_id AND r.ending = 'aborted')

-- name: note_rows
UPDATE migration_status.load SET target_rows = %(rows)s WHERE table_id = %(table_id)s

-- name: note_truncation
UPDATE migration_status.load
SET truncation = truncation || jsonb_build_object(
        'rows_removed', %(rows)s::bigint, 'by', %(by)s::text, 'role', current_user, 'at', clock_timestamp())
WHERE run_id = %(run_id)s AND target_schema = %(schema)s AND target_table = %(table)s

-- name: mark
SELECT watermark, value, source_filter, run_id, set_at, set_by
FROM migration_status.high_water_mark
WHERE connection = %(connection)s AND source_database = %(source_database)s AND source_schema = %(source_schema)s
  AND source_table = %(source_table)s AND target_schema = %(target_schema)s AND target_table = %(target_table)s

-- name: adopt_mark
INSERT INTO migration_status.high_water_mark (
    connection, source_database, source_schema, source_table, target_schema, target_table,
    watermark, value, source_filter)
VALUES (
    %(connection)s, %(source_database)s, %(source_schema)s, %(source_table)s, %(target_schema)s, %(target_table)s,
    %(watermark)s, %(value)s, %(source_filter)s)
ON CONFLICT DO NOTHING

-- name: advance_mark
INSERT INTO migration_status.high_water_mark (
    connection, source_database, source_schema, source_table, target_schema, target_table,
    watermark, value, source_filter, run_id)
SELECT %(connection)s, source_database, source_schema, source_table, target_schema, target_table,
       %(watermark)s, %(value)s, %(source_filter)s, run_id
FROM migration_status.load WHERE table_id = %(table_id)s
ON CONFLICT (target_schema, target_table, connection, source_database, source_schema, source_table) DO UPDATE
SET watermark = excluded.watermark, value = excluded.value, source_filter = excluded.source_filter,
    run_id = excluded.run_id, set_at = excluded.set_at, set_by = excluded.set_by

-- name: forget_marks
DELETE FROM migration_status.high_water_mark WHERE target_schema = %(schema)s AND target_table = %(table)s

-- name: fail_load
UPDATE migration_status.load SET failed_at = clock_timestamp(), error_message = %(error)s
WHERE table_id = %(table_id)s AND completed_at IS NULL

-- name: abandon_load
DELETE FROM migration_status.load WHERE table_id = %(table_id)s AND run_id = %(run_id)s

-- name: end_run
UPDATE migration_status.run SET
    ended_at = clock_timestamp(), active_at = clock_timestamp(),
    error_message = coalesce(%(error)s, (
        SELECT string_agg(l.source_table || ': ' || l.error_message, E'\n' ORDER BY l.table_id)
        FROM migration_status.load l WHERE l.run_id = run.run_id AND l.failed_at IS NOT NULL)),
    ending = CASE
        WHEN %(error)s::text IS NOT NULL THEN 'failed'
        WHEN EXISTS (SELECT 1 FROM migration_status.load l
                     WHERE l.run_id = run.run_id AND l.failed_at IS NOT NULL) THEN 'failed'
        WHEN EXISTS (SELECT 1 FROM migration_status.load l
                     WHERE l.run_id = run.run_id AND l.completed_at IS NULL AND l.skipped_at IS NULL) THEN 'partial'
        ELSE 'completed' END
WHERE run_id = %(run_id)s AND ending IS NULL
  AND (NOT EXISTS (SELECT 1 FROM migration_status.worker w
                   WHERE w.run_id = run.run_id AND w.ended_at IS NULL
                     AND w.heartbeat_at > clock_timestamp() - w.lease)
       OR NOT EXISTS (SELECT 1 FROM migration_status.load l
                      WHERE l.run_id = run.run_id AND l.completed_at IS NULL AND l.skipped_at IS NULL))
RETURNING ending

-- name: abort_run
UPDATE migration_status.run
SET ending = 'aborted', ended_at = clock_timestamp(), active_at = clock_timestamp(),
    error_message = 'aborted by ' || current_user
WHERE run_id = %(run_id)s AND ending IS DISTINCT FROM 'completed' AND ending IS DISTINCT FROM 'aborted'
RETURNING run_id

-- name: held_chunks
SELECT c.table_id, c.chunk_id, c.token
FROM migration_status.chunk c JOIN migration_status.load l USING (table_id)
WHERE l.run_id = %(run_id)s AND c.token IS NOT NULL AND c.completed_at IS NULL
UNION ALL
-- The finish of a table holds a lock of the same kind, under a number that no chunk has.
SELECT table_id, -1, NULL FROM migration_status.load WHERE run_id = %(run_id)s AND completed_at IS NULL

-- name: end_workers
UPDATE migration_status.worker SET ended_at = clock_timestamp()
WHERE run_id = %(run_id)s AND ended_at IS NULL

-- name: start_worker
INSERT INTO migration_status.worker (worker_id, run_id, host, pid, lease, stall, deadline, memory_limit)
VALUES (%(worker_id)s, %(run_id)s, %(host)s, %(pid)s,
        make_interval(secs => %(lease_seconds)s), make_interval(secs => %(stall_seconds)s),
        make_interval(secs => %(deadline_seconds)s::float8), %(memory_limit)s)
ON CONFLICT (worker_id) DO UPDATE SET heartbeat_at = clock_timestamp(), ended_at = NULL

-- name: heartbeat
-- A worker that was marked as ended because nothing was heard of it is back.
UPDATE migration_status.worker
SET heartbeat_at = clock_timestamp(), claims = %(claims)s,
    peak_memory = greatest(%(peak_memory)s::bigint, peak_memory),
    ended_at = CASE WHEN ended_at IS DISTINCT FROM heartbeat_at + lease THEN ended_at END
WHERE worker_id = %(worker_id)s
RETURNING EXISTS (SELECT 1 FROM migration_status.run r WHERE r.run_id = worker.run_id AND r.ending = 'aborted')

-- name: end_worker
UPDATE migration_status.worker
SET ended_at = clock_timestamp(), claims = '{}', stopped_because = %(because)s,
    peak_memory = greatest(%(peak_memory)s::bigint, peak_memory)
WHERE worker_id = %(worker_id)s

-- name: has_open_loads
SELECT EXISTS (SELECT 1 FROM migration_status.load
               WHERE run_id = %(run_id)s AND completed_at IS NULL AND failed_at IS NULL AND skipped_at IS NULL)

-- name: slices
-- Processes of a run that are alive, and those with a deadline that began after it last came any further and left it, or
-- vanished, with something to do. To split chunks is not to come further: it could be done for days. A table that was
-- planned anew has no chunks any more that tell what was done of it. A build that the server goes on with comes further
-- when it is seen to, and so does one that has ended: it is tried so often and no more.
SELECT w.deadline IS NOT NULL AS bounded, w.started_at,
       CASE WHEN v.vanished THEN w.heartbeat_at ELSE w.ended_at END AS ended_at
FROM migration_status.run r
CROSS JOIN LATERAL (
    SELECT max(greatest(l.planned_at, (l.replanned -> -1 ->> 'at')::timestamptz, l.completed_at, l.furnished_at,
                        l.advanced_at, c.moved_at, b.built_at)) AS moved_at
    FROM migration_status.load l
    CROSS JOIN LATERAL (SELECT max(completed_at) AS moved_at
                        FROM migration_status.chunk WHERE table_id = l.table_id) c
    CROSS JOIN LATERAL (SELECT max(greatest(dropped_at, built_at, attached_at, ended_at)) AS built_at
                        FROM migration_status.post_data WHERE table_id = l.table_id) b
    WHERE l.run_id = r.run_id) p
JOIN migration_status.worker w USING (run_id)
CROSS JOIN LATERAL (
    SELECT CASE WHEN w.ended_at IS NULL THEN w.heartbeat_at < clock_timestamp() - w.lease
                ELSE w.ended_at = w.heartbeat_at + w.lease END AS vanished) v
WHERE r.run_id = %(run_id)s
  AND (w.ended_at IS NULL AND NOT v.vanished
       OR w.deadline IS NOT NULL AND (v.vanished OR w.stopped_because IS NOT NULL)
          AND w.started_at > coalesce(greatest(p.moved_at, r.given_up_at), '-infinity'))

-- name: give_up
UPDATE migration_status.run SET given_up_at = clock_timestamp() WHERE run_id = %(run_id)s

-- name: chunk_seconds
-- What the last chunks of a table took.
SELECT extract(epoch FROM completed_at - claimed_at)::float8 FROM migration_status.chunk
WHERE table_id = %(table_id)s AND completed_at > claimed_at
ORDER BY completed_at DESC
LIMIT %(limit)s

-- name: run_status
SELECT r.run_id, coalesce(r.ending, 'running') AS ending, r.source_names, r.started_at, r.ended_at,
       greatest(r.active_at, max(w.heartbeat_at)) AS active_at, r.error_message,
       count(w.worker_id) FILTER (WHERE w.ended_at IS NULL AND w.heartbeat_at > clock_timestamp() - w.lease)
           AS live_workers
FROM migration_status.run r LEFT JOIN migration_status.worker w USING (run_id)
WHERE %(run_id)s::uuid IS NULL OR r.run_id = %(run_id)s
GROUP BY r.run_id
ORDER BY r.started_at DESC
LIMIT %(limit)s

-- name: table_status
SELECT table_id, source_name, concat_ws('.', nullif(source_database, ''), nullif(source_schema, ''), source_table)
           AS source,
       target_schema || '.' || target_table AS target,
       status, total_chunks, completed_chunks, in_progress_chunks, failed_chunks, retries,
       planned_rows, total_rows_copied, bytes,
       -- A ledger of an older release, which only `migrate` upgrades, does not have these.
       coalesce((to_jsonb(s) ->> 'values_floored')::bigint, 0) AS floored,
       coalesce((to_jsonb(s) ->> 'values_changed')::bigint, 0) AS changed,
       coalesce((to_jsonb(s) ->> 'resized_chunks')::bigint, 0) AS resized,
       coalesce((to_jsonb(s) ->> 'rows_skipped')::bigint, 0) AS skipped,
       started_at, completed_at, error_message
FROM migration_status.migration_table_status s
WHERE run_id = %(run_id)s
ORDER BY table_id
