-- Statements over what has ended. Parameters are psycopg's. A worker lives while its lease is not over; what is
-- settled is final: a load that is completed, and all loads of a run that is completed or aborted.

-- name: staging_in_use
-- A worker that slept through the end of a run which is not final may commit its chunk yet.
SELECT l.table_id, left(replace(w.worker_id::text, '-', ''), 12)
FROM migration_status.load l
JOIN migration_status.run r USING (run_id)
JOIN migration_status.worker w USING (run_id)
WHERE l.completed_at IS NULL AND r.ending IS DISTINCT FROM 'completed' AND r.ending IS DISTINCT FROM 'aborted'
  AND w.ended_at IS NULL AND w.heartbeat_at > clock_timestamp() - w.lease

-- name: silent_workers
SELECT w.worker_id, w.host || ':' || w.pid AS process,
       r.ending IS NOT NULL
           AND w.heartbeat_at + w.lease < clock_timestamp() - make_interval(secs => %(kept_hours)s * 3600.0) AS goes
FROM migration_status.worker w JOIN migration_status.run r USING (run_id)
WHERE r.ending IS NOT NULL
      AND w.heartbeat_at + w.lease < clock_timestamp() - make_interval(secs => %(kept_hours)s * 3600.0)
   OR w.ended_at IS NULL
      AND w.heartbeat_at + w.lease < clock_timestamp() - make_interval(secs => %(silent_hours)s * 3600.0)
ORDER BY w.started_at, w.worker_id

-- name: mark_silent_workers
-- With the time when the lease was over, by which a heartbeat knows that the worker did not end itself.
UPDATE migration_status.worker SET ended_at = heartbeat_at + lease
WHERE worker_id = ANY (%(ids)s) AND ended_at IS NULL AND heartbeat_at + lease < clock_timestamp()

-- name: remove_workers
-- What they knew of when their run was active last stays: a resume asks for it.
WITH removed AS (
    DELETE FROM migration_status.worker
    WHERE worker_id = ANY (%(ids)s) AND heartbeat_at + lease < clock_timestamp()
    RETURNING run_id, heartbeat_at)
UPDATE migration_status.run r SET active_at = last.heartbeat_at
FROM (SELECT run_id, max(heartbeat_at) AS heartbeat_at FROM removed GROUP BY run_id) last
WHERE r.run_id = last.run_id AND r.active_at < last.heartbeat_at

-- name: old_runs
-- With their loads that can go, and whether that is all of them. The newest load of a target stays: by it a full
-- refresh knows the rows as its own.
WITH old AS (
    SELECT r.run_id, r.started_at
    FROM migration_status.run r LEFT JOIN migration_status.worker w USING (run_id)
    WHERE %(run_id)s::uuid IS NULL OR r.run_id = %(run_id)s
    GROUP BY r.run_id
    HAVING coalesce(r.ended_at, greatest(r.active_at, max(w.heartbeat_at)))
               < clock_timestamp() - make_interval(days => %(days)s::int)
       AND (r.ending IN ('completed', 'aborted')
            OR greatest(r.active_at, max(w.heartbeat_at))
               < clock_timestamp() - make_interval(secs => %(resume_hours)s * 3600.0))
       AND NOT coalesce(bool_or(w.ended_at IS NULL AND w.heartbeat_at > clock_timestamp() - w.lease), false))
SELECT o.run_id, coalesce(bool_and(l.goes), true) AS whole,
       coalesce(array_agg(l.table_id ORDER BY l.table_id) FILTER (WHERE l.goes), '{}') AS table_ids,
       coalesce(array_agg(l.target ORDER BY l.table_id) FILTER (WHERE l.goes), '{}') AS targets
FROM old o LEFT JOIN LATERAL (
    SELECT one.table_id, one.target_schema || '.' || one.target_table AS target,
           NOT one.table_id = ANY (%(kept)s) AND EXISTS (
               SELECT FROM migration_status.load newer
               WHERE newer.target_schema = one.target_schema AND newer.target_table = one.target_table
                 AND newer.table_id > one.table_id) AS goes
    FROM migration_status.load one WHERE one.run_id = o.run_id) l ON true
GROUP BY o.run_id, o.started_at
HAVING coalesce(bool_or(l.goes), true)
ORDER BY o.started_at, o.run_id

-- name: remove_loads
DELETE FROM migration_status.load WHERE table_id = ANY (%(table_ids)s)

-- name: remove_run
DELETE FROM migration_status.run WHERE run_id = %(run_id)s

-- name: unreleased
-- Snapshots that nobody reads any more, of loads that are settled or about to be removed.
SELECT l.table_id, l.run_id, l.source_name, l.source_database, l.source_schema, l.source_table, l.snapshot,
       coalesce(l.plan ->> 'connection', l.plan -> 'facts' ->> 'connection', '') AS connection,
       l.completed_at IS NOT NULL OR coalesce(r.ending IN ('completed', 'aborted'), false) AS settled
FROM migration_status.load l JOIN migration_status.run r USING (run_id)
WHERE l.snapshot <> '{}' AND NOT l.metadata ? 'released_at'
  AND (l.completed_at IS NOT NULL OR r.ending IN ('completed', 'aborted') OR l.table_id = ANY (%(table_ids)s))
  AND NOT EXISTS (SELECT FROM migration_status.worker w
                  WHERE w.run_id = r.run_id AND w.ended_at IS NULL
                    AND w.heartbeat_at > clock_timestamp() - w.lease)
ORDER BY l.table_id

-- name: note_released
UPDATE migration_status.load SET metadata = metadata || jsonb_build_object('released_at', clock_timestamp())
WHERE table_id = %(table_id)s
