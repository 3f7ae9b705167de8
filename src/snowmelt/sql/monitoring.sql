-- Questions to the ledger, for people and dashboards. Each statement runs as it is, in psql too; its limits stand in
-- `params` at its top. They ask the views that carry the running system's names, and answer of its runs as well.

-- name: progress
-- How far are the runs that are running, table by table, and when will each be done?
SELECT p.run_id, p.source_name, p.target_schema || '.' || p.target_table AS target, p.status,
       p.completed_chunks, p.total_chunks, p.percent_completed, p.total_rows_copied,
       round(p.total_rows_copied / nullif(extract(epoch FROM clock_timestamp() - p.started_at), 0)) AS rows_per_second,
       CASE WHEN p.completed_chunks > 0 AND p.status = 'in_progress'
            THEN p.started_at + (clock_timestamp() - p.started_at) * p.total_chunks / p.completed_chunks
       END AS expected_end
FROM migration_status.v_active_migrations a
JOIN migration_status.v_table_progress p USING (run_id)
ORDER BY a.started_at, p.table_id;

-- name: stuck_chunks
-- Which chunks have been in progress for long, by which worker, and is it alive?
WITH params AS (SELECT interval '30 minutes' AS longest)
SELECT c.run_id, c.target_schema || '.' || c.target_table AS target, c.chunk_id, c.started_at,
       clock_timestamp() - c.started_at AS running_for, c.retry_count,
       w.host || ':' || w.pid AS worker,
       coalesce(w.ended_at IS NULL AND w.heartbeat_at > clock_timestamp() - w.lease, false) AS worker_is_alive
FROM params, migration_status.migration_chunk_status c
LEFT JOIN migration_status.worker w USING (worker_id)
WHERE c.status = 'in_progress' AND c.started_at < clock_timestamp() - params.longest
ORDER BY c.started_at;

-- name: failed_chunks
-- Which chunks failed, and why?
SELECT run_id, source_name, source_table, target_schema || '.' || target_table AS target, chunk_id, chunk_range,
       retry_count, started_at, error_message
FROM migration_status.migration_chunk_status
WHERE status = 'failed'
ORDER BY started_at DESC NULLS LAST, run_id, chunk_id;

-- name: failed_tables
-- Which tables failed, how far had they come, and why?
SELECT run_id, source_name, source_table, target_schema || '.' || target_table AS target, completed_chunks,
       total_chunks, failed_chunks, total_rows_copied, started_at, error_message
FROM migration_status.migration_table_status
WHERE status = 'failed'
ORDER BY started_at DESC NULLS LAST;

-- name: retried_chunks
-- Which chunks needed more than one attempt?
SELECT run_id, target_schema || '.' || target_table AS target, chunk_id, status, retry_count, started_at,
       completed_at, error_message
FROM migration_status.migration_chunk_status
WHERE retry_count > 0
ORDER BY retry_count DESC, started_at DESC NULLS LAST
LIMIT 100;

-- name: slowest_chunks
-- Which chunks took longest, and how many rows a second did they make?
SELECT run_id, target_schema || '.' || target_table AS target, chunk_id, rows_copied,
       completed_at - started_at AS took,
       round(rows_copied / nullif(extract(epoch FROM completed_at - started_at), 0)) AS rows_per_second
FROM migration_status.migration_chunk_status
WHERE status = 'completed'
ORDER BY took DESC NULLS LAST
LIMIT 100;

-- name: throughput
-- How fast was each run, from its first chunk to its last?
SELECT r.run_id, r.status, r.started_at, r.completed_at, r.completed_tables, r.failed_tables, r.total_rows_copied,
       c.last_at - c.first_at AS took,
       round(r.total_rows_copied / nullif(extract(epoch FROM c.last_at - c.first_at), 0)) AS rows_per_second,
       round(c.bytes / 1e6 / nullif(extract(epoch FROM c.last_at - c.first_at), 0), 1) AS megabytes_per_second
FROM migration_status.migration_runs r
LEFT JOIN (
    SELECT run_id, min(started_at) AS first_at, max(completed_at) AS last_at, sum(bytes) AS bytes
    FROM migration_status.migration_chunk_status GROUP BY run_id) c USING (run_id)
ORDER BY r.started_at DESC;

-- name: throughput_by_hour
-- How many rows and chunks were committed in each hour?
SELECT run_id, date_trunc('hour', completed_at) AS hour, count(*) AS chunks, sum(rows_copied)::bigint AS rows,
       round(sum(rows_copied) / 3600) AS rows_per_second
FROM migration_status.migration_chunk_status
WHERE status = 'completed'
GROUP BY run_id, hour
ORDER BY hour DESC, run_id;

-- name: comparison
-- How does each load of a table compare with the one before?
SELECT run_id, target, started_at, status, rows, took, rows_per_second,
       rows - lag(rows) OVER before AS more_rows,
       round(100.0 * rows_per_second / nullif(lag(rows_per_second) OVER before, 0) - 100, 1) AS faster_percent
FROM (
    SELECT run_id, target_schema || '.' || target_table AS target, started_at, status, total_rows_copied AS rows,
           completed_at - started_at AS took,
           round(total_rows_copied / nullif(extract(epoch FROM completed_at - started_at), 0)) AS rows_per_second
    FROM migration_status.migration_table_status) t
WINDOW before AS (PARTITION BY target ORDER BY started_at)
ORDER BY target, started_at DESC NULLS LAST;

-- name: skipped_rows
-- Where were rows skipped, chunks cut again, digits below the microsecond dropped, or NUL characters taken out?
SELECT run_id, target_schema || '.' || target_table AS target, total_rows_copied, rows_skipped, resized_chunks,
       values_floored, values_changed
FROM migration_status.migration_table_status
WHERE rows_skipped > 0 OR resized_chunks > 0 OR values_floored > 0 OR values_changed > 0
ORDER BY started_at DESC NULLS LAST;

-- name: truncations
-- Which targets were emptied, of how many rows, when, by whom, and why was that allowed?
SELECT run_id, target_schema || '.' || target_table AS target, (truncation ->> 'rows_removed')::bigint AS rows_removed,
       (truncation ->> 'at')::timestamptz AS at, truncation ->> 'by' AS by, truncation ->> 'role' AS role,
       truncation ->> 'reason' AS reason, truncation ->> 'allowed_by' AS allowed_by
FROM migration_status.load
WHERE truncation ? 'rows_removed'
ORDER BY at DESC;

-- name: marks
-- How far is each incremental table, and since when?
SELECT source_table, target_schema || '.' || target_table AS target, watermark, value ->> 1 AS mark, set_at,
       clock_timestamp() - set_at AS age, set_by, run_id IS NULL AS adopted
FROM migration_status.high_water_mark
ORDER BY set_at;

-- name: index_builds
-- Which indexes and foreign keys are missing until they are built, and how far is the server with each?
SELECT p.target_schema || '.' || p.target_table AS target, p.kind, p.name,
       CASE WHEN p.failed_at IS NOT NULL THEN 'failed' WHEN k.pid IS NOT NULL THEN 'building'
            WHEN p.built_at IS NOT NULL THEN 'built' ELSE 'waiting' END AS status,
       k.pid, p.begun_at, g.phase, round((100 * CASE WHEN g.tuples_total > 0 THEN g.tuples_done::numeric / g.tuples_total
                                  WHEN g.blocks_total > 0 THEN g.blocks_done::numeric / g.blocks_total END), 1)
           AS percent_of_phase,
       p.dropped_at, p.attempts, p.error_message
FROM migration_status.post_data p
LEFT JOIN pg_locks k ON k.locktype = 'advisory' AND k.granted AND k.objsubid = 1
    AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (k.classid::bigint << 32 | k.objid::bigint)
        = hashtextextended(format('snowmelt build %s', p.post_data_id), 0)
LEFT JOIN pg_stat_progress_create_index g ON g.pid = k.pid
WHERE p.attached_at IS NULL
ORDER BY p.post_data_id;

-- name: replaced_tables
-- Which tables that were replaced are kept, under which name, and until when?
SELECT target_schema || '.' || target_table AS target, previous, replaced_at, keep_until, rolled_back_at, rolled_back_by
FROM migration_status.replacement
WHERE dropped_at IS NULL
ORDER BY replaced_at DESC;

-- name: slices
-- What did each process do of the runs of the last days, how long had it, why did it leave, and with how much memory?
WITH params AS (SELECT interval '7 days' AS back)
SELECT w.run_id, w.host || ':' || w.pid AS worker, w.started_at, w.ended_at, w.deadline,
       count(c.chunk_id) AS chunks, coalesce(sum(c.rows_written), 0)::bigint AS rows,
       round(sum(c.rows_written) / nullif(extract(epoch FROM coalesce(w.ended_at, w.heartbeat_at) - w.started_at), 0))
           AS rows_per_second,
       pg_size_pretty(w.peak_memory) AS peak_memory, pg_size_pretty(w.memory_limit) AS memory_limit,
       CASE WHEN w.ended_at IS NULL AND w.heartbeat_at < clock_timestamp() - w.lease THEN 'nothing is heard of it'
            ELSE w.stopped_because END AS stopped_because
FROM params, migration_status.worker w
LEFT JOIN migration_status.chunk c ON c.worker_id = w.worker_id AND c.completed_at IS NOT NULL
WHERE w.started_at > clock_timestamp() - params.back
GROUP BY w.worker_id
ORDER BY w.started_at DESC
LIMIT 100;
