"""The protocol of a chunk with everything that can go wrong in it, on the real classes and a real server.

A `World` is one run over one table with a few workers. Its methods are what may happen; `check` holds what
must be true between any two of them. Steps that a worker takes are those of `runner.Crew`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import psycopg

from snowmelt.choices import Mode
from snowmelt.chunking.chunks import Chunk
from snowmelt.demo.postgres import LocalPostgres
from snowmelt.errors import ClaimLost, ConnectionLost, RetriableError, SnowmeltError, TooHeavy
from snowmelt.model import Claim, Identity, LoadTable, SourceTable, TableJob, TargetTable
from snowmelt.ports import Settled
from snowmelt.postgres.connect import Server
from snowmelt.postgres.load import PostgresLoad
from snowmelt.postgres.loads import PostgresLoads
from snowmelt.postgres.queries import query
from snowmelt.postgres.runs import PostgresRuns
from snowmelt.postgres.target import PostgresTarget
from tests.integration.protocol_line import Call, Fate, Limit, Line, Stuck, Violation, call
from tests.integration.protocol_parts import (
    COLUMNS,
    Process,
    Row,
    Stage,
    Worker,
    batch_of,
    expect,
    halves,
    plan_table,
)

LEASE_SECONDS = 3_600
PROCESSES = (0, 0, 1)
"""The process of each worker: two threads share one, so that its pulse is shared as well."""

_CHUNKS = """
    SELECT c.chunk_id, c.token, c.completed_at IS NOT NULL, c.failed_at IS NOT NULL,
           c.rows_read, c.rows_written, coalesce(t.ids, '{{}}'), l.completed_at IS NOT NULL,
           c.parent_id, c.retired_at IS NOT NULL
    FROM migration_status.chunk c
    JOIN migration_status.load l USING (table_id)
    LEFT JOIN (SELECT chunk, array_agg(id ORDER BY id) AS ids FROM {} GROUP BY chunk) t
        ON t.chunk = c.chunk_id
    WHERE c.table_id = %(table_id)s ORDER BY c.chunk_id
"""

_numbers = itertools.count(1)


class World:
    """A run over one table. `unique`: the target has a unique key from the start, else it gets one at the end.
    `merges`: chunks go through staging, by that key."""

    def __init__(
        self,
        postgres: LocalPostgres,
        database: str,
        unique: bool,
        sizes: Sequence[int],
        merges: bool = False,
    ) -> None:
        self.postgres = postgres
        self.server = self.server_of(postgres, database)
        self.sizes = tuple(sizes)
        self.sources = {
            chunk: [chunk * 1_000 + number for number in range(size)]
            for chunk, size in enumerate(sizes)
        }
        self.run_id = uuid4()
        self.target = TargetTable(database, "public", f"t{next(_numbers)}")
        self.stuck: list[Stuck] = []
        self.boss = Line(self.server, self.stuck)
        self._observer: psycopg.Connection | None = None
        self.tokens: set[UUID] = set()
        self.given_up: set[UUID] = set()
        self.acknowledged: set[int] = set()
        self.finished = False
        self.completed_at_abort: set[int] | None = None
        self.lost = 0
        self.table = self._plan(unique, merges)
        self.fence = {"table_id": self.table.table_id, "run_id": self.run_id}
        self.processes = [self.start_process() for _ in range(max(PROCESSES) + 1)]
        self.workers = [self.start_worker(self.processes[number]) for number in PROCESSES]

    @staticmethod
    def server_of(postgres: LocalPostgres, database: str) -> Server:
        return Server.of({}, dsn=postgres.dsn(database, over_socket=True))

    def _plan(self, unique: bool, merges: bool) -> LoadTable:
        job = TableJob("s", SourceTable("", "", self.target.name), self.target)
        if merges:
            job = replace(job, mode=Mode.UPSERT, uniqueness_columns=("id",))
        PostgresRuns(self.boss).open(self.run_id, Identity("", "", ("s",)), 1, {})
        PostgresTarget(self.boss).create(self.target, COLUMNS)
        if unique:
            self.observe(f'ALTER TABLE "{self.target.name}" ADD UNIQUE (id)')
        loads = PostgresLoads(self.boss)
        loads.add(self.run_id, plan_table(job, self.sizes, unique=unique))
        (stored,) = loads.of(self.run_id)
        return LoadTable(stored.table_id, job, stored.columns, stored.snapshot, stored.key)

    def start_process(self) -> Process:
        """A process with its row in the ledger."""
        process = Process()
        self.observe(
            query("start_worker"),
            {
                "worker_id": process.pulse.worker_id,
                "run_id": self.run_id,
                "host": "",
                "pid": 0,
                "lease_seconds": LEASE_SECONDS,
                "stall_seconds": LEASE_SECONDS,
                "deadline_seconds": None,
                "memory_limit": None,
            },
        )
        return process

    def start_worker(self, process: Process) -> Worker:
        """A worker of the process, with a session of its own."""
        return Worker(process, Line(self.server, self.stuck))

    # --- what is committed ------------------------------------------------------------------------

    def observe(self, statement: str, parameters: object = None) -> list[Any]:
        """One statement in a transaction of its own. Raises Violation when it blocks."""
        if self._observer is None:
            self._observer = self.server.connect()
            timeout = f"SET statement_timeout = '{Limit.seconds}s'"
            self._observer.execute(timeout.encode())
        try:
            cursor = self._observer.execute(statement, parameters)  # type: ignore[call-overload]
        except psycopg.errors.QueryCanceled as error:
            raise Violation("a reader is blocked for ever") from error
        return cursor.fetchall() if cursor.description else []

    def look_away(self) -> None:
        """Close the observing connection; the next look opens another."""
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.close()

    def rows(self) -> list[Row]:
        text = _CHUNKS.format(f'"{self.target.name}"')
        rows = [Row(*row) for row in self.observe(text, self.fence)]
        for row in rows:
            if row.parent_id is not None and row.chunk_id not in self.sources:
                siblings = [one.chunk_id for one in rows if one.parent_id == row.parent_id]
                half = halves(self.sources[row.parent_id])[siblings.index(row.chunk_id)]
                self.sources[row.chunk_id] = half
        return rows

    def source(self, chunk_id: int) -> list[int]:
        """The rows of a chunk; those of a part are a half of the chunk that it was cut from."""
        if chunk_id not in self.sources:
            self.rows()
        return self.sources[chunk_id]

    def completed(self) -> set[int]:
        return {row.chunk_id for row in self.rows() if row.completed}

    def token(self, claim: Claim) -> UUID | None:
        return next(row.token for row in self.rows() if row.chunk_id == claim.chunk.id)

    def check(self) -> None:
        """What holds after every step. Raises Violation."""
        rows = self.rows()
        for row in rows:
            source = self.source(row.chunk_id)
            expect(row.ids == (source if row.completed else []), f"rows and record differ: {row}")
            if row.completed:
                counts = (row.rows_read, row.rows_written)
                expect(
                    counts == (len(source), len(source)), f"the record's counts are wrong: {row}"
                )
                expect(
                    row.token not in self.given_up, f"an attempt that was given up completed {row}"
                )
            parts = sum(one.parent_id == row.chunk_id for one in rows)
            expect(parts == (2 if row.retired else 0), f"resized in part: {row}")
        done = {row.chunk_id for row in rows if row.completed}
        expect(self.acknowledged <= done, "an acknowledged chunk is gone without a crash")
        if self.completed_at_abort is not None:
            expect(done == self.completed_at_abort, "completed after the abort")
            expect(rows[0].table_completed == self.finished, "finished after the abort")
        if self.finished:
            left = [row for row in rows if not (row.completed or row.retired)]
            expect(not left, "the table was finished, but chunks are open")
            expect(rows[0].table_completed, "the finish of the table is gone")
        for worker in self.workers:
            if worker.claim is not None and not worker.shaken:
                token = rows[worker.claim.chunk.id].token
                expect(
                    token == worker.claim.token,
                    "a live worker's claim does not stand in the ledger",
                )

    # --- what a worker does -----------------------------------------------------------------------

    def advance(self, worker: Worker, fate: Fate = Fate.ANSWERED) -> bool:
        """The natural next step, whose COMMIT has this fate; False if there is nothing to do for the worker."""
        if worker.process.frozen is not None:
            return False
        match worker.stage:
            case Stage.IDLE:
                self.claim(worker)
                return worker.claim is not None
            case Stage.CLAIMED:
                self._attempt(worker, self._begin)
            case Stage.LOADING if worker.sent < len(self.source(worker.held.chunk.id)):
                self._attempt(worker, self._write)
            case Stage.LOADING:
                self._attempt(worker, self._complete)
            case Stage.RECORDED:
                self._attempt(worker, lambda worker: self._commit(worker, fate), fate)
            case Stage.UNSURE:
                self.give_up(worker)
        return True

    def advance_to(self, worker: Worker, stage: Stage = Stage.RECORDED) -> None:
        """Up to a stage, if a chunk is to be had and nothing goes wrong. RECORDED: only COMMIT is left."""
        for _ in range(max(self.sizes) + 8):
            if worker.stage is stage or not self.advance(worker):
                return

    def claim(self, worker: Worker, fate: Fate = Fate.ANSWERED) -> None:
        """Ask for a chunk; `fate` is that of the claim's COMMIT."""
        if worker.stage is not Stage.IDLE or worker.process.frozen is not None:
            return
        worker.line.fate = fate
        try:
            claim = call(lambda: worker.claims.claim(self.table.table_id))
        except RetriableError:
            return  # the crew looks for a chunk again
        finally:
            worker.line.fate = Fate.ANSWERED
        self.claimed(worker, claim)

    def claimed(self, worker: Worker, claim: Claim | None) -> None:
        """Note what a claim brought."""
        if claim is not None:
            expect(claim.token not in self.tokens, "a token was given twice")
            self.tokens.add(claim.token)
            worker.stage, worker.claim, worker.sent = Stage.CLAIMED, claim, 0
            worker.shaken = worker.process.expired

    def _attempt(
        self, worker: Worker, step: Callable[[Worker], None], fate: Fate = Fate.ANSWERED
    ) -> None:
        """Take a step of the move; what goes wrong must have a cause that the world knows of."""
        try:
            step(worker)
        except SnowmeltError as error:
            failed = error
        else:
            return
        expect(
            isinstance(failed, ClaimLost | RetriableError), f"a move failed for good: {failed!r}"
        )
        expect(
            worker.shaken or (fate is not Fate.ANSWERED and isinstance(failed, ConnectionLost)),
            f"a healthy worker was disturbed: {failed!r}",
        )
        call(lambda: worker.leave(failed))
        if isinstance(failed, ClaimLost):
            worker.claims.drop(worker.held)
            worker.idle()
        else:
            worker.stage = Stage.UNSURE

    def _begin(self, worker: Worker) -> None:
        def begin() -> PostgresLoad:
            load = PostgresLoad(worker.line, worker.held, self.table, worker.staging)
            return load.__enter__()

        worker.load = call(begin)
        worker.stage = Stage.LOADING

    def _write(self, worker: Worker) -> None:
        """About half of the rows that are left."""
        load, source = worker.load, self.source(worker.held.chunk.id)
        assert load is not None
        ids = source[worker.sent : worker.sent + len(source) // 2 + 1]
        batch = batch_of(worker.held.chunk.id, ids)
        call(lambda: load.write(batch))
        worker.claims.beat(worker.held)
        worker.sent += len(ids)

    def _complete(self, worker: Worker) -> None:
        load = worker.load
        assert load is not None
        owner = self.token(worker.held)
        call(lambda: load.complete(worker.sent))
        expect(owner == worker.held.token, "a worker completed a chunk that it had lost")
        worker.stage = Stage.RECORDED

    def _commit(self, worker: Worker, fate: Fate) -> None:
        load = worker.load
        assert load is not None
        worker.line.misroute(worker.line.connection, fate)
        call(load.commit)
        worker.leave(None)
        self._acknowledge(worker)

    def _acknowledge(self, worker: Worker) -> None:
        self.acknowledged.add(worker.held.chunk.id)
        worker.claims.drop(worker.held)
        worker.idle()

    def give_up(self, worker: Worker, *, fails: bool = False, fate: Fate = Fate.ANSWERED) -> None:
        """Settle or fail the claim, after leaving the move if it is under way."""
        if worker.claim is None or worker.process.frozen is not None:
            return
        call(lambda: worker.leave(RetriableError("given up")))
        claim, claims = worker.held, worker.claims
        worker.line.fate = fate
        try:
            if fails:
                settled = call(lambda: claims.fail(claim, "failed"))
            else:
                settled = call(lambda: claims.settle(claim, "given up", 0))
        except RetriableError:
            worker.idle()  # its process does not know the claim any more and will take it over
            return
        finally:
            worker.line.fate = Fate.ANSWERED
        if settled is Settled.COMPLETED:
            self._acknowledge(worker)
            return
        # A release whose answer was lost finds nothing the second time; a failure must be told as one.
        lost = settled is Settled.LOST and not worker.shaken and (fails or fate is Fate.ANSWERED)
        expect(not lost, "a live worker lost its claim")
        self.given_up.add(claim.token)
        worker.idle()

    def resize(self, worker: Worker, fate: Fate = Fate.ANSWERED) -> None:
        """Replace the claimed chunk by its two halves, after leaving the move if it is under way."""
        if worker.stage in (Stage.IDLE, Stage.UNSURE) or worker.process.frozen is not None:
            return
        call(lambda: worker.leave(TooHeavy("too heavy")))
        claim, claims = worker.held, worker.claims
        parts = [
            Chunk(place, claim.chunk.range, len(half))
            for place, half in enumerate(halves(self.source(claim.chunk.id)))
        ]
        worker.line.fate = fate
        worker.shaken |= fate is not Fate.ANSWERED
        try:
            call(lambda: claims.resize(claim, parts, "too heavy"))
        except ClaimLost:
            expect(worker.shaken, "a live worker lost its claim")
        except RetriableError:
            worker.stage = Stage.UNSURE
            return
        finally:
            worker.line.fate = Fate.ANSWERED
        claims.drop(claim)
        self.given_up.add(claim.token)
        worker.idle()

    def together(self, workers: Iterable[Worker]) -> None:
        """A step of several workers at the same time."""
        steps = [Call(lambda worker=worker: self.advance(worker)) for worker in workers]  # type: ignore[misc]
        for step in steps:
            step.result()

    def finish(self, worker: Worker, fate: Fate = Fate.ANSWERED) -> bool:
        """Finish the table if it can be."""
        if worker.stage is not Stage.IDLE or worker.process.frozen is not None:
            return False
        worker.line.fate = fate
        try:
            finished = call(lambda: self._close(worker))
        except RetriableError:
            return False
        except SnowmeltError as error:
            raise Violation(f"a finish failed for good: {error!r}") from error
        finally:
            worker.line.fate = Fate.ANSWERED
        self.note_finish(finished)
        return finished

    def _close(self, worker: Worker) -> bool:
        """Build what the table lacks, then finish it, as a crew does."""
        loads, table_id = PostgresLoads(worker.line), self.table.table_id
        left = worker.claims.work(table_id)
        if not left.closed and not left.open_chunks and not left.failed_chunks:
            while loads.build(table_id, lambda _: None):
                pass
        return loads.finish(table_id)

    def note_finish(self, finished: bool) -> None:
        """What a finish told; after an abort it may only tell of an earlier one."""
        late = finished and not self.finished and self.completed_at_abort is not None
        expect(not late, "finished after the abort")
        self.finished |= finished
