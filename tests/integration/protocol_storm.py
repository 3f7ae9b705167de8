"""What may befall the workers of a `World`, and the calm after it: all of it must still end well."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence

import psycopg
from psycopg.types.json import Jsonb

from snowmelt.demo.postgres import StopMode
from snowmelt.errors import ConnectionLost, RetriableError
from snowmelt.postgres.loads import PostgresLoads
from snowmelt.postgres.queries import query
from snowmelt.postgres.runs import PostgresRuns
from tests.integration.protocol import LEASE_SECONDS, World
from tests.integration.protocol_line import Call, Fate, Limit, call
from tests.integration.protocol_parts import Process, Stage, Worker, expect

LEAP_SECONDS = 2 * LEASE_SECONDS
LAST_WORDS = {"because": None, "peak_memory": None}

# A row that a stalled transaction holds keeps its time: the test must not wait for it.
_AGE_CHUNKS = """
    UPDATE migration_status.chunk c
    SET claimed_at = c.claimed_at - make_interval(secs => %(leap)s),
        not_before = c.not_before - make_interval(secs => %(leap)s)
    FROM (SELECT table_id, chunk_id FROM migration_status.chunk WHERE table_id = %(table_id)s
          FOR UPDATE SKIP LOCKED) free
    WHERE c.table_id = free.table_id AND c.chunk_id = free.chunk_id
"""
_AGE_WORKERS = """
    UPDATE migration_status.worker SET heartbeat_at = heartbeat_at - make_interval(secs => %(leap)s)
    WHERE run_id = %(run_id)s
"""
_END_BACKENDS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
_DROP_STAGING = """
    DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT relname FROM pg_class WHERE relnamespace = 'migration_status'::regnamespace
        AND relname LIKE 'stage!_%' ESCAPE '!' AND relkind = 'r' LOOP
        EXECUTE format('DROP TABLE migration_status.%I', name);
    END LOOP; END $$
"""
_DROP_RUN = "DELETE FROM migration_status.run WHERE run_id = %(run_id)s"


class Storm(World):
    """A `World` where processes die, freeze and wake, time passes, and the server goes away."""

    def die(self, process: Process, *, polite: bool = False) -> None:
        """Every connection of a process ends without a word, or after its farewell; another one starts."""
        if process.frozen is not None:
            return
        if polite:
            self.observe(query("end_worker"), {"worker_id": process.pulse.worker_id, **LAST_WORDS})
        number = self.processes.index(process)
        self.processes[number] = self.start_process()
        for place, worker in enumerate(self.workers):
            if worker.process is process:
                worker.line.cut()
                self.workers[place] = self.start_worker(self.processes[number])

    def time_passes(self, beating: Collection[Process]) -> None:
        """Two leases go by, in which only some processes give a sign of life."""
        leap = {**self.fence, "leap": LEAP_SECONDS}
        self.observe(_AGE_CHUNKS, leap)
        self.observe(_AGE_WORKERS, leap)
        for process in self.processes:
            if process in beating and process.frozen is None:
                self.beat(process)
            else:
                process.expired = True
                self.shake(process)

    def beat(self, process: Process) -> None:
        self.observe(
            query("heartbeat"),
            {
                "worker_id": process.pulse.worker_id,
                "claims": Jsonb(dict(process.pulse.idle_seconds())),
                "peak_memory": None,
            },
        )
        process.expired = False

    def hang(self, worker: Worker) -> None:
        """A thread has moved no byte for longer than it may, as its own live process tells."""
        if worker.claim is None or worker.process.frozen is not None:
            return
        worker.process.pulse.moved_at[worker.held.token] -= LEAP_SECONDS
        worker.shaken = True
        self.beat(worker.process)

    def expire(self, worker: Worker, *, known_to: Worker) -> None:
        """A worker loses its lease while another one is well: its process is silent, or tells that it hangs."""
        if worker.process is known_to.process:
            self.hang(worker)
        else:
            self.time_passes(
                [process for process in self.processes if process is not worker.process]
            )

    def overtake(self, stale: Worker, other: Worker) -> None:
        """The stale worker's lease ends, and the other one claims its chunk, after all that are open."""
        self.expire(stale, known_to=other)
        claim = stale.claim
        while claim is not None and self.token(claim) == claim.token and self.advance(other):
            pass

    def shake(self, process: Process | None = None) -> None:
        for worker in self.workers:
            if process is None or worker.process is process:
                worker.shaken = True

    def restart(self, mode: StopMode) -> int:
        """Stop and start the server; returns how many acknowledged chunks an immediate stop took with it."""
        before = self.rows()
        self.look_away()
        self.postgres.stop(mode)
        self.postgres.restart()
        self.shake()
        after = self.rows()
        expect(len(before) == len(after), "a resize is gone with the server")
        for old, new in zip(before, after, strict=True):
            durable = (new.token, new.failed, new.retired, new.table_completed)
            expect(
                durable == (old.token, old.failed, old.retired, old.table_completed),
                f"a claim, a failure or a finish is gone with the server: {old} became {new}",
            )
            expect(mode == "immediate" or new == old, f"lost without a crash: {old} became {new}")
        gone = {row.chunk_id for row in before if row.completed}
        gone -= {row.chunk_id for row in after if row.completed}
        self.acknowledged -= gone
        self.lost += len(gone)
        return len(gone)

    def freeze(self, worker: Worker, *, finishing: bool = False) -> None:
        """The worker's whole process stops before the COMMIT of a claim, or of the table's finish."""
        process = worker.process
        if worker.stage is not Stage.IDLE or process.frozen is not None:
            return
        worker.line.freezes = True
        worker.shaken = False
        if finishing:
            table_id = self.table.table_id
            process.frozen = Call(lambda: PostgresLoads(worker.line).finish(table_id))
        else:
            process.frozen = Call(lambda: worker.claims.claim(self.table.table_id))
        while process.frozen.running and not worker.line.frozen.is_set():
            process.frozen.wait(0.001)
        if not process.frozen.running:
            worker.line.frozen.set()
            self.thaw(process)

    def thaw(self, process: Process) -> None:
        """The process goes on where it was stopped."""
        frozen, process.frozen = process.frozen, None
        if frozen is None:
            return
        worker = next(w for w in self.workers if w.process is process and w.line.frozen.is_set())
        worker.line.thawed.set()
        try:
            result = frozen.result()
        except RetriableError:
            result = None
        finally:
            worker.line.refreeze()
        if isinstance(result, bool):
            self.note_finish(result)
        else:
            shaken = worker.shaken  # while it was frozen
            self.claimed(worker, result)
            worker.shaken |= shaken

    def claim_at_once(self, workers: Sequence[Worker]) -> None:
        """Each asks for a chunk, and none writes to the ledger before all have read the same."""
        barrier = threading.Barrier(len(workers), timeout=Limit.seconds)
        for worker in workers:
            worker.line.barrier = barrier
        self.together(workers)
        for worker in workers:
            worker.line.barrier = None

    def deliver(self) -> None:
        """What was stuck on its way arrives."""
        while self.stuck:
            self.stuck.pop().deliver()

    def reopen(self) -> None:
        """Somebody resumes the run: failed chunks get their attempts back."""
        try:
            call(lambda: PostgresLoads(self.boss).reopen(self.run_id, [self.table.table_id]))
        except RetriableError:
            return

    def abort(self, fate: Fate = Fate.ANSWERED) -> None:
        """End the run for good; who does not get an answer asks again."""
        self.shake()
        self.boss.fate = fate
        while True:
            try:
                call(lambda: PostgresRuns(self.boss).abort(self.run_id))
                break
            except ConnectionLost:
                continue
        if self.completed_at_abort is None:
            rows = self.rows()
            self.completed_at_abort = {row.chunk_id for row in rows if row.completed}
            self.finished |= rows[0].table_completed

    def calm(self) -> None:
        """Everybody else expires, and one healthy worker does what is left. Then the others wake."""
        self.time_passes(())
        worker = self.start_worker(self.start_process())
        self.workers.append(worker)
        if self.completed_at_abort is None:
            self._drain(worker)
            self._check_target()
        else:
            for _ in range(3):
                self.claim(worker)
                expect(worker.claim is None, "a chunk was claimed after the abort")
            self.finish(worker)
        self.wake()

    def _drain(self, worker: Worker) -> None:
        deadline = time.monotonic() + Limit.seconds
        while not self.finish(worker):
            expect(time.monotonic() < deadline, "a healthy worker can't get the table done")
            self.reopen()
            self.advance(worker)
            while worker.stage is not Stage.IDLE:
                self.advance(worker)
            self.check()

    def _check_target(self) -> None:
        found = self.observe(f'SELECT id, payload FROM "{self.target.name}" ORDER BY id')
        ids = [id for chunk_id in range(len(self.sizes)) for id in self.source(chunk_id)]
        expect(found == [(id, f"row {id}") for id in ids], "target and source differ")

    def wake(self) -> None:
        """Whoever still believes in a claim of his goes on with it to the end, and changes nothing."""
        self.shake()
        for process in self.processes:
            self.thaw(process)
        for worker in self.workers:
            while worker.stage is not Stage.IDLE:
                self.advance(worker)
                self.check()
        self.deliver()
        self.check()

    def close(self) -> None:
        """Let go of every connection and thread, in whatever state, and of the table."""
        lines = [self.boss, *(worker.line for worker in self.workers)]
        with psycopg.connect(self.server.conninfo, autocommit=True) as connection:
            connection.execute(_END_BACKENDS)
            for stuck in self.stuck:
                stuck.drop()
            for line in lines:
                line.thawed.set()
            for process in self.processes:
                if process.frozen is not None:
                    process.frozen.wait(Limit.seconds)
            for line in lines:
                line.cut()
            self.look_away()
            connection.execute(f'DROP TABLE "{self.target.name}"'.encode())
            connection.execute(_DROP_RUN, self.fence)
            connection.execute(_DROP_STAGING.encode())
