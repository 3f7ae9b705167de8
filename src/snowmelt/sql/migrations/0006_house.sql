-- What surrounds the rows: indexes and foreign keys that are built after them, and tables that took another's place.

CREATE TABLE migration_status.post_data (
    post_data_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    table_id      bigint NOT NULL,
    target_schema text NOT NULL,
    target_table  text NOT NULL,
    built_on      text NOT NULL,
    kind          text NOT NULL CHECK (kind IN ('index', 'foreign_key')),
    name          text NOT NULL,
    built_as      text NOT NULL,
    definition    jsonb NOT NULL,
    noted_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    dropped_at    timestamptz,
    built_at      timestamptz,
    attached_at   timestamptz,
    failed_at     timestamptz,
    attempts      integer NOT NULL DEFAULT 0,
    error_message text
);
COMMENT ON TABLE migration_status.post_data IS
    'Indexes and foreign keys of target tables that are built when the rows are there. What has dropped_at and no
attached_at is missing in its table; it stays here until it is back, whatever becomes of its load.';
COMMENT ON COLUMN migration_status.post_data.built_on IS
    'The table of target_schema that it is built on: target_table, or the one that is loaded in its stead.';
CREATE INDEX ON migration_status.post_data (target_schema, target_table);

CREATE TABLE migration_status.replacement (
    table_id       bigint PRIMARY KEY,
    target_schema  text NOT NULL,
    target_table   text NOT NULL,
    previous       text NOT NULL,
    names          jsonb NOT NULL DEFAULT '{}',
    replaced_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    keep_until     timestamptz NOT NULL,
    rolled_back_at timestamptz,
    rolled_back_by text,
    dropped_at     timestamptz
);
COMMENT ON TABLE migration_status.replacement IS
    'Tables that a load replaced and that are kept for a while, under the name `previous`; names gives the names that
its indexes and the like have by those that they had.';
CREATE INDEX ON migration_status.replacement (target_schema, target_table);

ALTER TABLE migration_status.load ADD furnished_at timestamptz, ADD rolled_back_at timestamptz;
COMMENT ON COLUMN migration_status.load.furnished_at IS
    'Since when all rows are there and it is noted what is to be built on the table.';
COMMENT ON COLUMN migration_status.load.rolled_back_at IS
    'Since when the rows of the load are not in the target any more, but those that it had replaced.';
