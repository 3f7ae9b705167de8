-- Load modes: what was in the target before, what was skipped, and how far a source table is in a target table.

ALTER TABLE migration_status.load
    ADD staged_at timestamptz,
    ADD target_rows bigint;
COMMENT ON COLUMN migration_status.load.staged_at IS
    'Since when chunks go through a staging table: a row of an insert_only load was found to be there.';
COMMENT ON COLUMN migration_status.load.target_rows IS
    'All rows of the target when the load was completed; NULL where they are not all of this load.';

-- Until now a load began with an empty target and appended: what it wrote was all that was there.
UPDATE migration_status.load l
SET target_rows = (SELECT coalesce(sum(rows_written), 0) FROM migration_status.chunk c WHERE c.table_id = l.table_id)
WHERE completed_at IS NOT NULL AND taken_over = '{}';

CREATE TABLE migration_status.high_water_mark (
    connection      text NOT NULL,
    source_database text NOT NULL,
    source_schema   text NOT NULL,
    source_table    text NOT NULL,
    target_schema   text NOT NULL,
    target_table    text NOT NULL,
    watermark       text NOT NULL,
    value           jsonb NOT NULL,
    source_filter   text,
    run_id          uuid,
    set_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    set_by          text NOT NULL DEFAULT current_user,
    PRIMARY KEY (target_schema, target_table, connection, source_database, source_schema, source_table)
);
COMMENT ON TABLE migration_status.high_water_mark IS
    'Every row of the source table whose watermark is at most value is in the target table. Of no run: a config that
changes, and runs that are removed, leave it as it is. run_id is NULL where a person adopted it.';

CREATE INDEX ON migration_status.load (target_schema, target_table, table_id DESC);

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
       c.rows_skipped
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
           coalesce(sum(rows_skipped), 0)::bigint AS rows_skipped
    FROM migration_status.chunk WHERE table_id = l.table_id
) c;
