-- Builds that the server goes on with when the process that began them is gone.

ALTER TABLE migration_status.post_data ADD begun_at timestamptz, ADD ended_at timestamptz;
COMMENT ON COLUMN migration_status.post_data.begun_at IS
    'Since when the server builds it for a process that may be gone before that is done; NULL again when the build has
ended, one way or the other.';
COMMENT ON COLUMN migration_status.post_data.ended_at IS 'When such a build last ended without having built it.';

ALTER TABLE migration_status.load ADD building jsonb, ADD advanced_at timestamptz;
COMMENT ON COLUMN migration_status.load.building IS
    'How far the server was with what it builds on the table when a process last looked.';
COMMENT ON COLUMN migration_status.load.advanced_at IS 'When it was last seen to be further than before.';
