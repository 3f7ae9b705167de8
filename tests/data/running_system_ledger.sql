-- The ledger of the running system that snowmelt takes over: its tables and views, and rows as it left them.
-- Times have no zone and are UTC.

CREATE SCHEMA migration_status;

CREATE TABLE migration_status.migration_runs (
    run_id              UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    started_at          TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    completed_at        TIMESTAMP,
    status              VARCHAR(20) NOT NULL DEFAULT 'running'
                        CHECK (status IN ('running', 'completed', 'failed', 'partial')),
    config_hash         VARCHAR(64),
    total_sources       INTEGER DEFAULT 0,
    total_tables        INTEGER DEFAULT 0,
    completed_tables    INTEGER DEFAULT 0,
    failed_tables       INTEGER DEFAULT 0,
    total_rows_copied   BIGINT DEFAULT 0,
    error_message       TEXT,
    metadata            JSONB,
    created_by          VARCHAR(255) DEFAULT CURRENT_USER
);
CREATE INDEX idx_migration_runs_status ON migration_status.migration_runs (status);
CREATE INDEX idx_migration_runs_started_at ON migration_status.migration_runs (started_at DESC);

CREATE TABLE migration_status.migration_table_status (
    run_id              UUID NOT NULL REFERENCES migration_status.migration_runs (run_id) ON DELETE CASCADE,
    source_name         VARCHAR(255),
    source_database     VARCHAR(255) NOT NULL,
    source_schema       VARCHAR(255) NOT NULL,
    source_table        VARCHAR(255) NOT NULL,
    target_database     VARCHAR(255),
    target_schema       VARCHAR(255),
    target_table        VARCHAR(255),
    status              VARCHAR(20) NOT NULL DEFAULT 'pending'
                        CHECK (status IN ('pending', 'in_progress', 'completed', 'failed', 'skipped')),
    started_at          TIMESTAMP,
    completed_at        TIMESTAMP,
    total_chunks        INTEGER DEFAULT 0,
    completed_chunks    INTEGER DEFAULT 0,
    failed_chunks       INTEGER DEFAULT 0,
    total_rows_copied   BIGINT DEFAULT 0,
    indexes_disabled    BOOLEAN DEFAULT FALSE,
    indexes_restored    BOOLEAN DEFAULT FALSE,
    error_message       TEXT,
    metadata            JSONB,
    PRIMARY KEY (run_id, source_database, source_schema, source_table)
);
CREATE INDEX idx_table_status_run ON migration_status.migration_table_status (run_id, status);

CREATE TABLE migration_status.migration_chunk_status (
    run_id              UUID NOT NULL,
    source_database     VARCHAR(255) NOT NULL,
    source_schema       VARCHAR(255) NOT NULL,
    source_table        VARCHAR(255) NOT NULL,
    chunk_id            INTEGER NOT NULL,
    chunk_range         JSONB,
    status              VARCHAR(20) NOT NULL DEFAULT 'pending'
                        CHECK (status IN ('pending', 'in_progress', 'completed', 'failed')),
    rows_copied         BIGINT DEFAULT 0,
    started_at          TIMESTAMP,
    completed_at        TIMESTAMP,
    retry_count         INTEGER DEFAULT 0,
    error_message       TEXT,
    PRIMARY KEY (run_id, source_database, source_schema, source_table, chunk_id),
    FOREIGN KEY (run_id, source_database, source_schema, source_table)
        REFERENCES migration_status.migration_table_status (run_id, source_database, source_schema, source_table)
        ON DELETE CASCADE
);
CREATE INDEX idx_chunk_status_run ON migration_status.migration_chunk_status (run_id, status);

CREATE VIEW migration_status.v_active_migrations AS
SELECT r.run_id, r.started_at, r.status, r.total_tables, r.completed_tables, r.failed_tables,
       r.total_rows_copied, r.created_by,
       count(t.source_table) FILTER (WHERE t.status = 'in_progress') AS tables_in_progress
FROM migration_status.migration_runs r
LEFT JOIN migration_status.migration_table_status t USING (run_id)
WHERE r.status = 'running'
GROUP BY r.run_id;

CREATE VIEW migration_status.v_table_progress AS
SELECT t.run_id, t.source_name, t.source_table, t.target_table, t.status,
       t.total_chunks, t.completed_chunks, t.failed_chunks, t.total_rows_copied,
       count(c.chunk_id) FILTER (WHERE c.status = 'in_progress') AS chunks_in_progress
FROM migration_status.migration_table_status t
LEFT JOIN migration_status.migration_chunk_status c USING (run_id, source_database, source_schema, source_table)
GROUP BY t.run_id, t.source_database, t.source_schema, t.source_table;

-- Run a1: completed. One of its tables was never cut into chunks, one was skipped, and one is recorded as
-- completed although one of its chunks failed, as that system did.
-- Run b2: partial, ended by its own finish; every state of a table and of a chunk.
-- Run c3: running, as a kill left it; from a time before runs knew their source names.
-- Run d4: failed before it had any table; all that may be NULL is NULL, and its metadata is a JSON null.

INSERT INTO migration_status.migration_runs VALUES
('a1a1a1a1-0000-4000-8000-000000000001', '2025-12-14 20:00:00.000001', '2025-12-15 06:30:00.5', 'completed',
 '0cc175b9c0f1b6a831c399e269772661', 2, 4, 3, 0, 2500120, NULL,
 '{"source_names": ["analytics", "conflict"], "execution_hash": "92eb5ffee6ae2fec3ad71c777531578f", "threads": 10}',
 'etl'),
('b2b2b2b2-0000-4000-8000-000000000002', '2025-12-15 22:10:00', '2025-12-16 10:14:07.25', 'partial',
 '4a8a08f09d37b73795649038408b5f33', 1, 4, 1, 1, 1000500, 'FACT_VISITS: 1 chunk failed',
 '{"source_names": ["analytics"], "execution_hash": "8277e0910d750195b448797616e091ad"}', 'lambda'),
('c3c3c3c3-0000-4000-8000-000000000003', '2025-11-30 01:00:00', NULL, 'running',
 'e1671797c52e15f763380b45e841ec32', 1, 2, 0, 0, 0, NULL, '{"threads": 15}', 'etl'),
('d4d4d4d4-0000-4000-8000-000000000004', '2025-11-29 23:59:59.999999', '2025-11-30 00:00:01', 'failed',
 NULL, NULL, NULL, NULL, NULL, NULL, 'could not connect to Snowflake: "bad" password', 'null', NULL);

INSERT INTO migration_status.migration_table_status VALUES
('a1a1a1a1-0000-4000-8000-000000000001', 'analytics', 'ANALYTICS', 'BI', 'FACT_VISITS', 'dwh', 'analytics',
 'factvisits', 'completed', '2025-12-14 20:00:05', '2025-12-15 06:00:00', 3, 3, 0, 2000000, TRUE, TRUE, NULL,
 '{"strategy": "DateRangeStrategy"}'),
('a1a1a1a1-0000-4000-8000-000000000001', 'analytics', 'ANALYTICS', 'BI', 'DIM_PAYER', 'dwh', 'analytics',
 'dimpayer', 'completed', '2025-12-15 06:00:01', '2025-12-15 06:00:02', 0, 0, 0, 120, FALSE, FALSE, NULL, NULL),
('a1a1a1a1-0000-4000-8000-000000000001', 'conflict', 'CONFLICT', 'BI', 'FACT_VISITS', 'dwh', 'conflict',
 'factvisits', 'completed', '2025-12-15 06:00:03', '2025-12-15 06:29:59', 2, 1, 1, 500000, FALSE, FALSE, NULL, NULL),
('a1a1a1a1-0000-4000-8000-000000000001', 'conflict', 'CONFLICT', 'BI', 'Old "names"', 'dwh', 'conflict',
 'old names', 'skipped', NULL, NULL, 0, 0, 0, 0, FALSE, FALSE, NULL, '{"why": "empty"}'),
('b2b2b2b2-0000-4000-8000-000000000002', 'analytics', 'ANALYTICS', 'BI', 'FACT_VISITS', 'dwh', 'analytics',
 'factvisits', 'in_progress', '2025-12-15 22:10:03', NULL, 5, 2, 1, 1000000, TRUE, FALSE, NULL, NULL),
('b2b2b2b2-0000-4000-8000-000000000002', 'analytics', 'ANALYTICS', 'BI', 'DIM_PAYER', 'dwh', 'analytics',
 'dimpayer', 'completed', '2025-12-16 09:00:00', '2025-12-16 09:00:02', 1, 1, 0, 500, NULL, NULL, NULL, 'null'),
('b2b2b2b2-0000-4000-8000-000000000002', 'analytics', 'ANALYTICS', 'BI', 'DIM_DEVICE', 'dwh', 'analytics',
 'dimdevice', 'failed', '2025-12-16 09:00:03', NULL, 1, 0, 1, 0, FALSE, FALSE, 'relation "dimdevice" does not exist', NULL),
('b2b2b2b2-0000-4000-8000-000000000002', NULL, 'ANALYTICS', 'BI', 'DIM_SITE', NULL, NULL,
 NULL, 'pending', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
('c3c3c3c3-0000-4000-8000-000000000003', 'analytics', 'ANALYTICS', 'BI', 'FACT_VISITS', 'dwh', 'analytics',
 'factvisits', 'in_progress', '2025-11-30 01:00:04', NULL, 2, 0, 0, 0, FALSE, FALSE, NULL, NULL),
('c3c3c3c3-0000-4000-8000-000000000003', 'analytics', 'ANALYTICS', 'BI', 'DIM_PAYER', 'dwh', 'analytics',
 'dimpayer', 'in_progress', '2025-11-30 01:00:05', NULL, 0, 0, 0, 0, FALSE, FALSE, NULL, NULL);

INSERT INTO migration_status.migration_chunk_status VALUES
('a1a1a1a1-0000-4000-8000-000000000001', 'ANALYTICS', 'BI', 'FACT_VISITS', 0,
 '{"start_date": "2025-01-01", "end_date": "2025-05-31"}', 'completed', 900000,
 '2025-12-14 20:00:06', '2025-12-15 01:00:00.123456', 0, NULL),
('a1a1a1a1-0000-4000-8000-000000000001', 'ANALYTICS', 'BI', 'FACT_VISITS', 1,
 '{"start_date": "2025-06-01", "end_date": "2025-10-31"}', 'completed', 1000000,
 '2025-12-14 20:00:07', '2025-12-15 05:59:00', 2, NULL),
('a1a1a1a1-0000-4000-8000-000000000001', 'ANALYTICS', 'BI', 'FACT_VISITS', 2,
 '{"start_date": "2025-11-01", "end_date": null, "offset": 25000, "limit": 25000}', 'completed', 100000,
 '2025-12-15 01:00:01', '2025-12-15 05:59:59.999999', 0, NULL),
('a1a1a1a1-0000-4000-8000-000000000001', 'CONFLICT', 'BI', 'FACT_VISITS', 0, '{"where": "1=1"}', 'completed', 500000,
 '2025-12-15 06:00:04', '2025-12-15 06:20:00', 0, NULL),
('a1a1a1a1-0000-4000-8000-000000000001', 'CONFLICT', 'BI', 'FACT_VISITS', 1, '{"where": "1=1"}', 'failed', 0,
 '2025-12-15 06:20:01', NULL, 5, 'SSL connection has been closed unexpectedly'),
('b2b2b2b2-0000-4000-8000-000000000002', 'ANALYTICS', 'BI', 'FACT_VISITS', 0, '{"start_date": "2025-01-01"}',
 'completed', 600000, '2025-12-15 22:10:04', '2025-12-16 03:00:00', 0, NULL),
('b2b2b2b2-0000-4000-8000-000000000002', 'ANALYTICS', 'BI', 'FACT_VISITS', 1, '{"start_date": "2025-02-01"}',
 'completed', 400000, NULL, '2025-12-16 10:00:00', NULL, NULL),
('b2b2b2b2-0000-4000-8000-000000000002', 'ANALYTICS', 'BI', 'FACT_VISITS', 2, '{"start_date": "2025-03-01"}',
 'failed', NULL, NULL, NULL, 3, 'out of memory'),
('b2b2b2b2-0000-4000-8000-000000000002', 'ANALYTICS', 'BI', 'FACT_VISITS', 3, '{"start_date": "2025-04-01"}',
 'in_progress', 0, '2025-12-16 09:59:00', NULL, 1, NULL),
('b2b2b2b2-0000-4000-8000-000000000002', 'ANALYTICS', 'BI', 'FACT_VISITS', 4, NULL, 'pending', NULL, NULL, NULL, NULL, NULL),
('b2b2b2b2-0000-4000-8000-000000000002', 'ANALYTICS', 'BI', 'DIM_PAYER', 0, '{}', 'completed', 500,
 '2025-12-16 09:00:00', '2025-12-16 09:00:02', 0, NULL),
('b2b2b2b2-0000-4000-8000-000000000002', 'ANALYTICS', 'BI', 'DIM_DEVICE', 0, '{}', 'failed', 0,
 '2025-12-16 09:00:04', NULL, 0, 'relation "dimdevice" does not exist'),
('c3c3c3c3-0000-4000-8000-000000000003', 'ANALYTICS', 'BI', 'FACT_VISITS', 0, '{"start_date": "2025-01-01"}',
 'in_progress', 0, '2025-11-30 04:44:44', NULL, 0, NULL),
('c3c3c3c3-0000-4000-8000-000000000003', 'ANALYTICS', 'BI', 'FACT_VISITS', 1, '{"start_date": "2025-02-01"}',
 'pending', 0, NULL, NULL, 1, 'timed out, put back');
