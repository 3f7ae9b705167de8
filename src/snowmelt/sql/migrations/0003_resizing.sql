-- Chunks that proved too heavy are retired, and smaller ones stand in their places.

ALTER TABLE migration_status.chunk
    ADD retired_at timestamptz,
    ADD parent_id integer,
    ADD CHECK (parent_id < chunk_id),
    ADD CHECK (retired_at IS NULL
               OR num_nonnulls(token, completed_at, failed_at, rows_read, rows_written, rows_skipped, bytes) = 0);
COMMENT ON COLUMN migration_status.chunk.retired_at IS
    'When smaller chunks replaced it; error_message says why. From then on it is neither open nor completed nor failed.';
COMMENT ON COLUMN migration_status.chunk.parent_id IS
    'The retired chunk of the table that this one is a part of; NULL if it was not cut from another.';

-- What is claimed next is found by its order.
DROP INDEX migration_status.chunk_open;
CREATE INDEX chunk_open ON migration_status.chunk (table_id, parent_id DESC NULLS LAST, chunk_id)
    WHERE completed_at IS NULL AND failed_at IS NULL AND retired_at IS NULL;

-- The views as they were, with a column more at the end. The running system has no word for a chunk that is retired:
-- it is in none of its counts, and no row of its own.

CREATE OR REPLACE VIEW migration_status.migration_chunk_status AS
SELECT l.run_id, l.source_database, l.source_schema, l.source_table, c.chunk_id,
       c.range AS chunk_range,
       CASE WHEN c.completed_at IS NOT NULL THEN 'completed'
            WHEN c.failed_at IS NOT NULL THEN 'failed'
            WHEN c.token IS NOT NULL THEN 'in_progress'
            ELSE 'pending' END AS status,
       coalesce(c.rows_written, 0) AS rows_copied,
       c.claimed_at AS started_at,
       c.completed_at,
       greatest(c.attempts - 1, 0) AS retry_count,
       c.error_message,
       l.source_name, l.target_database, l.target_schema, l.target_table,
       c.table_id, c.planned_rows, c.rows_read, c.rows_skipped, c.bytes, c.worker_id, c.values_floored,
       c.parent_id
FROM migration_status.chunk c
JOIN migration_status.load l USING (table_id)
WHERE c.retired_at IS NULL;

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
       l.table_id, l.planned_rows, c.in_progress_chunks, c.retries, c.bytes, c.values_floored, c.resized_chunks
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
           -- Attempts at a chunk before it was replaced, and when the first was made, are facts of the table.
           coalesce(sum(greatest(attempts - 1, 0)), 0)::bigint AS retries,
           min(claimed_at) AS started_at,
           coalesce(sum(values_floored), 0)::bigint AS values_floored,
           count(retired_at) AS resized_chunks
    FROM migration_status.chunk WHERE table_id = l.table_id
) c;
