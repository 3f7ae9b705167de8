-- Processes that have only so long: what they left undone for want of time, and what they tell of themselves.

ALTER TABLE migration_status.chunk ADD overran_seconds double precision;
COMMENT ON COLUMN migration_status.chunk.overran_seconds IS
    'So long it had been under way when the time of its process was up; a worker with no more time splits it.';

ALTER TABLE migration_status.worker
    ADD deadline interval, ADD stopped_because text, ADD peak_memory bigint, ADD memory_limit bigint;
COMMENT ON COLUMN migration_status.worker.deadline IS
    'How long the process had, from its start to being ended; NULL where nothing ends it.';
COMMENT ON COLUMN migration_status.worker.stopped_because IS 'Why it left the run before the run had ended.';
COMMENT ON COLUMN migration_status.worker.peak_memory IS 'Bytes that it had resident at most, until its last heartbeat.';

ALTER TABLE migration_status.run ADD given_up_at timestamptz;
COMMENT ON COLUMN migration_status.run.given_up_at IS
    'When it was last failed because slices in a row moved nothing, or was taken up again after it had failed. Slices
before that count no more.';
