-- The ledger: facts in tables, summaries in views. The views carry the names and columns of the ledger that the
-- running system kept, so that dashboards and queries over it go on working.
--
-- A ledger that the running system made is taken over here: its tables step aside, their rows become facts
-- (times without zone are UTC), and who could read the tables can read the views.

DO $$
DECLARE
    dependant text;
BEGIN
    IF (SELECT relkind FROM pg_class WHERE oid = to_regclass('migration_status.migration_runs')) = 'r' THEN
        SELECT string_agg(DISTINCT view.oid::regclass::text, ', ') INTO dependant
        FROM pg_depend d
        JOIN pg_rewrite r ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
        JOIN pg_class view ON view.oid = r.ev_class
        JOIN pg_class base ON base.oid = d.refobjid AND d.refclassid = 'pg_class'::regclass
        WHERE base.relnamespace = 'migration_status'::regnamespace
          AND view.oid <> base.oid
          AND NOT (view.relnamespace = 'migration_status'::regnamespace
                   AND view.relname IN ('v_active_migrations', 'v_table_progress'));
        IF dependant IS NOT NULL THEN
            RAISE EXCEPTION 'views depend on the tables of the old ledger: %', dependant
                USING ERRCODE = 'dependent_objects_still_exist',
                      HINT = 'save their definitions, drop them, run again, create them again over the new views';
        END IF;
        LOCK TABLE migration_status.migration_runs, migration_status.migration_table_status,
                   migration_status.migration_chunk_status IN ACCESS EXCLUSIVE MODE;
        CREATE TABLE migration_status.old_grant AS
            SELECT c.relname::text AS relname, a.grantee
            FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a
            WHERE c.relnamespace = 'migration_status'::regnamespace AND a.privilege_type = 'SELECT'
              AND c.relname IN ('migration_runs', 'migration_table_status', 'migration_chunk_status',
                                'v_active_migrations', 'v_table_progress');
        DROP VIEW IF EXISTS migration_status.v_active_migrations, migration_status.v_table_progress;
        ALTER TABLE migration_status.migration_runs RENAME TO old_runs;
        ALTER TABLE migration_status.migration_table_status RENAME TO old_table_status;
        ALTER TABLE migration_status.migration_chunk_status RENAME TO old_chunk_status;
    END IF;
END $$;

CREATE TABLE migration_status.run (
    run_id          uuid PRIMARY KEY,
    config_hash     text NOT NULL,
    execution_hash  text NOT NULL,
    source_names    text[] NOT NULL,
    total_tables    integer NOT NULL,
    created_by      text NOT NULL DEFAULT current_user,
    started_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    active_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at        timestamptz,
    ending          text CHECK (ending IN ('completed', 'failed', 'partial', 'aborted')),
    error_message   text,
    metadata        jsonb NOT NULL DEFAULT '{}',
    CHECK ((ended_at IS NULL) = (ending IS NULL))
);
COMMENT ON COLUMN migration_status.run.ending IS
    'How the run ended; NULL while it may go on. Only a resume takes an ending back, and never "aborted".';
COMMENT ON COLUMN migration_status.run.active_at IS
    'Last start, heartbeat or finish by the clock of this server; resume_max_age counts from here.';
CREATE INDEX ON migration_status.run (execution_hash, active_at DESC);

CREATE TABLE migration_status.load (
    table_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id          uuid NOT NULL REFERENCES migration_status.run ON DELETE CASCADE,
    source_name     text NOT NULL,
    source_database text NOT NULL,
    source_schema   text NOT NULL,
    source_table    text NOT NULL,
    target_database text NOT NULL,
    target_schema   text NOT NULL,
    target_table    text NOT NULL,
    table_hash      text NOT NULL,
    snapshot        jsonb NOT NULL DEFAULT '{}',
    columns         jsonb NOT NULL DEFAULT '[]',
    plan            jsonb NOT NULL DEFAULT '{}',
    truncation      jsonb NOT NULL DEFAULT '{}',
    planned_rows    bigint,
    planned_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    completed_at    timestamptz,
    failed_at       timestamptz,
    skipped_at      timestamptz,
    error_message   text,
    indexes_disabled boolean NOT NULL DEFAULT false,
    indexes_restored boolean NOT NULL DEFAULT false,
    metadata        jsonb NOT NULL DEFAULT '{}',
    taken_over      jsonb NOT NULL DEFAULT '{}',
    CHECK (num_nonnulls(completed_at, failed_at, skipped_at) <= 1),
    UNIQUE (run_id, source_name, source_database, source_schema, source_table,
            target_database, target_schema, target_table)
);
COMMENT ON TABLE migration_status.load IS
    'One table of a run, with its plan. Two loads of a run may share a source table if their targets differ.';
COMMENT ON COLUMN migration_status.load.taken_over IS
    'What the running system had counted for a table that it moved. It stands over what is counted here: not every
such table has chunks.';
CREATE INDEX ON migration_status.load (target_schema, target_table);

CREATE TABLE migration_status.worker (
    worker_id       uuid PRIMARY KEY,
    run_id          uuid NOT NULL REFERENCES migration_status.run ON DELETE CASCADE,
    host            text NOT NULL,
    pid             integer NOT NULL,
    lease           interval NOT NULL,
    stall           interval NOT NULL,
    started_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    heartbeat_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at        timestamptz,
    claims          jsonb NOT NULL DEFAULT '{}'
) WITH (fillfactor = 50);
COMMENT ON COLUMN migration_status.worker.claims IS
    'At the last heartbeat: token of each claim that the process works on -> seconds since it last moved a byte.';
CREATE INDEX ON migration_status.worker (run_id);

CREATE TABLE migration_status.chunk (
    table_id        bigint NOT NULL REFERENCES migration_status.load ON DELETE CASCADE,
    chunk_id        integer NOT NULL,
    range           jsonb NOT NULL,
    planned_rows    bigint,
    token           uuid,
    worker_id       uuid,
    claimed_at      timestamptz,
    not_before      timestamptz,
    attempts        integer NOT NULL DEFAULT 0,
    completed_at    timestamptz,
    failed_at       timestamptz,
    rows_read       bigint,
    rows_written    bigint,
    rows_skipped    bigint,
    bytes           bigint,
    error_message   text,
    PRIMARY KEY (table_id, chunk_id),
    CHECK (completed_at IS NULL OR (failed_at IS NULL AND rows_read = rows_written + rows_skipped))
) WITH (fillfactor = 70);
COMMENT ON COLUMN migration_status.chunk.token IS
    'Fence: only the transaction that still finds its own token here may mark the chunk completed.';
CREATE INDEX chunk_open ON migration_status.chunk (table_id, chunk_id)
    WHERE completed_at IS NULL AND failed_at IS NULL;

CREATE VIEW migration_status.migration_chunk_status AS
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
       c.table_id, c.planned_rows, c.rows_read, c.rows_skipped, c.bytes, c.worker_id
FROM migration_status.chunk c
JOIN migration_status.load l USING (table_id);

CREATE VIEW migration_status.migration_table_status AS
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
       l.table_id, l.planned_rows, c.in_progress_chunks, c.retries, c.bytes
FROM migration_status.load l
CROSS JOIN LATERAL jsonb_to_record(l.taken_over) AS o(
    status text, started_at timestamptz, total_chunks bigint, completed_chunks bigint, failed_chunks bigint,
    total_rows_copied bigint)
CROSS JOIN LATERAL (
    SELECT count(*) AS total_chunks,
           count(*) FILTER (WHERE completed_at IS NOT NULL) AS completed_chunks,
           count(*) FILTER (WHERE failed_at IS NOT NULL) AS failed_chunks,
           count(*) FILTER (WHERE token IS NOT NULL AND completed_at IS NULL) AS in_progress_chunks,
           coalesce(sum(rows_written), 0)::bigint AS total_rows_copied,
           coalesce(sum(bytes), 0)::bigint AS bytes,
           coalesce(sum(greatest(attempts - 1, 0)), 0)::bigint AS retries,
           min(claimed_at) AS started_at
    FROM migration_status.chunk WHERE table_id = l.table_id
) c;

CREATE VIEW migration_status.migration_runs AS
SELECT r.run_id, r.started_at,
       r.ended_at AS completed_at,
       CASE r.ending WHEN 'aborted' THEN 'failed' ELSE coalesce(r.ending, 'running') END AS status,
       r.config_hash,
       cardinality(r.source_names) AS total_sources,
       r.total_tables,
       t.completed_tables, t.failed_tables, t.total_rows_copied,
       r.error_message,
       r.metadata || jsonb_build_object('source_names', r.source_names,
                                        'execution_hash', r.execution_hash) AS metadata,
       r.created_by, r.active_at
FROM migration_status.run r
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE status = 'completed') AS completed_tables,
           count(*) FILTER (WHERE status = 'failed') AS failed_tables,
           coalesce(sum(total_rows_copied), 0)::bigint AS total_rows_copied
    FROM migration_status.migration_table_status WHERE run_id = r.run_id
) t;

CREATE VIEW migration_status.v_active_migrations AS
SELECT r.*, clock_timestamp() - r.started_at AS running_for,
       (SELECT count(*) FROM migration_status.worker w
        WHERE w.run_id = r.run_id AND w.ended_at IS NULL
          AND w.heartbeat_at > clock_timestamp() - w.lease) AS live_workers
FROM migration_status.migration_runs r WHERE r.status = 'running';

CREATE VIEW migration_status.v_table_progress AS
SELECT t.*, round(100.0 * t.completed_chunks / nullif(t.total_chunks, 0), 1) AS percent_completed
FROM migration_status.migration_table_status t;

-- The running system's facts, taken over.

DO $$
DECLARE
    grants record;
BEGIN
    IF to_regclass('migration_status.old_runs') IS NULL THEN
        RETURN;
    END IF;

    INSERT INTO migration_status.run (run_id, config_hash, execution_hash, source_names, total_tables,
                                      created_by, started_at, active_at, ended_at, ending, error_message, metadata)
    SELECT o.run_id, coalesce(o.config_hash, ''), coalesce(o.metadata ->> 'execution_hash', ''),
           CASE jsonb_typeof(o.metadata -> 'source_names')
                WHEN 'array' THEN ARRAY(SELECT jsonb_array_elements_text(o.metadata -> 'source_names'))
                ELSE ARRAY(SELECT DISTINCT t.source_name FROM migration_status.old_table_status t
                           WHERE t.run_id = o.run_id AND t.source_name IS NOT NULL ORDER BY 1) END,
           coalesce(o.total_tables, 0), coalesce(o.created_by, ''),
           o.started_at AT TIME ZONE 'UTC',
           coalesce(o.completed_at, seen.at) AT TIME ZONE 'UTC',
           -- No process of the running system can go on with a ledger of this shape: what ran has ended.
           coalesce(o.completed_at, seen.at) AT TIME ZONE 'UTC',
           CASE o.status WHEN 'running' THEN 'partial' ELSE o.status END,
           o.error_message,
           CASE jsonb_typeof(o.metadata) WHEN 'object' THEN o.metadata ELSE '{}' END
               || '{"made_by": "running system"}'
    FROM migration_status.old_runs o
    CROSS JOIN LATERAL (
        SELECT greatest(o.started_at, max(greatest(c.started_at, c.completed_at))) AS at
        FROM migration_status.old_chunk_status c WHERE c.run_id = o.run_id) seen;

    INSERT INTO migration_status.load (run_id, source_name, source_database, source_schema, source_table,
                                       target_database, target_schema, target_table, table_hash, planned_rows,
                                       planned_at, completed_at, failed_at, skipped_at, error_message,
                                       indexes_disabled, indexes_restored, metadata, taken_over)
    SELECT o.run_id, coalesce(o.source_name, ''), o.source_database, o.source_schema, o.source_table,
           coalesce(o.target_database, ''), coalesce(o.target_schema, ''), coalesce(o.target_table, ''),
           '', NULL,
           coalesce(o.started_at, r.started_at) AT TIME ZONE 'UTC',
           CASE WHEN o.status = 'completed' THEN coalesce(o.completed_at, o.started_at, r.started_at) AT TIME ZONE 'UTC' END,
           CASE WHEN o.status = 'failed' THEN coalesce(o.completed_at, o.started_at, r.started_at) AT TIME ZONE 'UTC' END,
           CASE WHEN o.status = 'skipped' THEN coalesce(o.completed_at, o.started_at, r.started_at) AT TIME ZONE 'UTC' END,
           o.error_message, coalesce(o.indexes_disabled, false), coalesce(o.indexes_restored, false),
           CASE jsonb_typeof(o.metadata) WHEN 'object' THEN o.metadata ELSE '{}' END,
           jsonb_build_object('status', o.status, 'started_at', o.started_at AT TIME ZONE 'UTC',
                              'total_chunks', o.total_chunks, 'completed_chunks', o.completed_chunks,
                              'failed_chunks', o.failed_chunks, 'total_rows_copied', o.total_rows_copied)
    FROM migration_status.old_table_status o JOIN migration_status.old_runs r USING (run_id);

    INSERT INTO migration_status.chunk (table_id, chunk_id, range, claimed_at, attempts, completed_at, failed_at,
                                        rows_read, rows_written, rows_skipped, error_message)
    SELECT l.table_id, o.chunk_id, coalesce(o.chunk_range, '{}'), o.started_at AT TIME ZONE 'UTC',
           -- The view counts retries as the attempts after the first.
           CASE WHEN o.started_at IS NULL AND coalesce(o.retry_count, 0) = 0 THEN 0 ELSE coalesce(o.retry_count, 0) + 1 END,
           CASE WHEN o.status = 'completed' THEN coalesce(o.completed_at, o.started_at, l.planned_at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' END,
           CASE WHEN o.status = 'failed' THEN coalesce(o.completed_at, o.started_at, l.planned_at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' END,
           coalesce(o.rows_copied, 0), coalesce(o.rows_copied, 0), 0, o.error_message
    FROM migration_status.old_chunk_status o
    JOIN migration_status.load l USING (run_id, source_database, source_schema, source_table);

    FOR grants IN
        SELECT g.relname, CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(u.rolname) END AS grantee
        FROM migration_status.old_grant g LEFT JOIN pg_roles u ON u.oid = g.grantee
    LOOP
        EXECUTE format('GRANT SELECT ON migration_status.%I TO %s', grants.relname, grants.grantee);
    END LOOP;
    DROP TABLE migration_status.old_chunk_status, migration_status.old_table_status,
               migration_status.old_runs, migration_status.old_grant;
END $$;
