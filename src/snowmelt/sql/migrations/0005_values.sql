-- Values that were not loaded as they were.

ALTER TABLE migration_status.chunk ADD values_changed bigint;
COMMENT ON COLUMN migration_status.chunk.values_changed IS
    'Values whose NUL characters were taken out or replaced, as nul_characters says.';

-- The view as it was, with a column more at the end.

CREATE OR REPLACE VIEW migration_status.migration_table_status AS
SELECT l.run_id, l.source_name, l.source_database, l.source_schema, l.source_table,
       l.target_database, l.target_schema, l.target_table,
       CASE WHEN l.completed_at IS NOT NULL THEN 'completed'
            WHEN l.skipped_at IS NOT NULL THEN 'skipped'
            WHEN l.failed_at IS NOT NULL THEN 'failed'
            WHEN o.status IS NOT NULL THEN o.status
            WHEN c.started_at IS NOT NULL THEN 'in_progress'
            ELSE 'pending' END AS status,
       coalesce(o.started_at, c.started_at) AS started_at,
       l.completed_at,
       coalesce(o.total_chunks, c.total_chunks) AS total_chunks,
       coalesce(o.completed_chunks, c.completed_chunks) AS completed_chunks,
       coalesce(o.failed_chunks, c.failed_chunks) AS failed_chunks,
       coalesce(o.total_rows_copied, c.total_rows_copied) AS total_rows_copied,
       l.indexes_disabled, l.indexes_restored, l.error_message, l.metadata,
       l.table_id, l.planned_rows, c.in_progress_chunks, c.retries, c.bytes, c.values_floored, c.resized_chunks,
       c.rows_skipped, c.values_changed
FROM migration_status.load l
CROSS JOIN LATERAL jsonb_to_record(l.taken_over) AS o(
    status text, started_at timestamptz, total_chunks bigint, completed_chunks bigint, failed_chunks bigint,
    total_rows_copied bigint)
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE retired_at IS NULL) AS total_chunks,
           count(*) FILTER (WHERE completed_at IS NOT NULL) AS completed_chunks,
           count(*) FILTER (WHERE failed_at IS NOT NULL) AS failed_chunks,
           count(*) FILTER (WHERE token IS NOT NULL AND completed_at IS NULL) AS in_progress_chunks,
           coalesce(sum(rows_written), 0)::bigint AS total_rows_copied,
           coalesce(sum(bytes), 0)::bigint AS bytes,
           coalesce(sum(greatest(attempts - 1, 0)), 0)::bigint AS retries,
           min(claimed_at) AS started_at,
           coalesce(sum(values_floored), 0)::bigint AS values_floored,
           count(retired_at) AS resized_chunks,
           coalesce(sum(rows_skipped), 0)::bigint AS rows_skipped,
           coalesce(sum(values_changed), 0)::bigint AS values_changed
    FROM migration_status.chunk WHERE table_id = l.table_id
) c;
