"""Works a run's chunks off: claims, moves, retries, finishes tables, stops when told."""

from __future__ import annotations

import logging
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol

from snowmelt.errors import (
    ClaimLost,
    FatalError,
    RetriableError,
    RunError,
    SnowmeltError,
    TableError,
)
from snowmelt.model import Claim, LoadTable, Outcome, TableStatus, TargetTable
from snowmelt.ports import Claims, Loads, OpenSource, Settled, Source, Target
from snowmelt.retry import backoff_seconds
from snowmelt.worker import move

_log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
"""Between two looks for a chunk when all that is left is in other hands or waits out a backoff."""


class Observer(Protocol):
    """Told what happens, from worker threads; must be quick and must not raise."""

    def begins(self, tables: Sequence[TableStatus]) -> None: ...

    def moved(self, table: LoadTable, claim: Claim, rows: int, bytes: int) -> None: ...

    def completed(self, table: LoadTable, claim: Claim, outcome: Outcome) -> None: ...

    def gave_up(self, table: LoadTable, claim: Claim, error: SnowmeltError) -> None: ...

    def finished(self, table: LoadTable) -> None: ...

    def failed(self, table: LoadTable, error: SnowmeltError) -> None: ...


class Silence:
    """The observer for those who ask nothing."""

    def begins(self, tables: Sequence[TableStatus]) -> None:
        pass

    def moved(self, table: LoadTable, claim: Claim, rows: int, bytes: int) -> None:
        pass

    def completed(self, table: LoadTable, claim: Claim, outcome: Outcome) -> None:
        pass

    def gave_up(self, table: LoadTable, claim: Claim, error: SnowmeltError) -> None:
        pass

    def finished(self, table: LoadTable) -> None:
        pass

    def failed(self, table: LoadTable, error: SnowmeltError) -> None:
        pass


class Stop:
    """Told once, heard by everyone: start nothing new. The first reason stays."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.reason: str | None = None
        self.error: SnowmeltError | None = None

    def __call__(self, reason: str, error: SnowmeltError | None = None) -> None:
        if not self.event.is_set():
            self.reason, self.error = reason, error
            self.event.set()


@dataclass(frozen=True, slots=True)
class Hands:
    """What one worker thread works with: sessions of its own to one ledger and target."""

    claims: Claims
    loads: Loads
    target: Target


@dataclass(slots=True)
class TableWork:
    """A table of the run and what is known of its progress in this process."""

    table: LoadTable
    database: str
    open_source: OpenSource
    slots: threading.Semaphore = field(init=False)
    finishing: threading.Lock = field(default_factory=threading.Lock)
    closed: bool = False

    def __post_init__(self) -> None:
        self.slots = threading.Semaphore(self.table.job.parallel_threads)


OpenHands = Callable[[str], AbstractContextManager[Hands]]
"""Opens the sessions of a worker thread to the ledger and target in the database of that name."""


class Crew:
    """The workers of one process. `work` is what each thread runs until nothing is left to do."""

    def __init__(
        self,
        tables: Sequence[TableWork],
        open_hands: OpenHands,
        observer: Observer,
        stop: Stop,
    ) -> None:
        self._tables = tuple(tables)
        self._open_hands = open_hands
        self._observer = observer
        self._stop = stop
        self._errors: Counter[tuple[TargetTable, int]] = Counter()
        self._random = random.Random()

    def work(self) -> None:
        """Take chunks until every table is closed or the run is stopped."""
        with ExitStack() as stack:
            kit = _Kit(self._open_hands, stack)
            while not self._stop.event.is_set():
                try:
                    step = self._step(kit)
                except RetriableError as error:
                    # Between chunks: nothing is claimed, the session comes back by itself.
                    _log.warning(str(error), extra={"action": "ledger_retry"})
                    step = _Step.WAIT
                except RunError as error:
                    self._stop("the run can't go on", error)
                    return
                if step is _Step.DONE:
                    return
                if step is _Step.WAIT:
                    self._stop.event.wait(POLL_SECONDS)

    def _step(self, kit: _Kit) -> _Step:
        """Move one chunk, or finish one table, or find that there is nothing to do now or ever."""
        step = _Step.DONE
        for work in self._tables:
            if work.closed:
                continue
            if not work.slots.acquire(blocking=False):
                step = _Step.WAIT
                continue
            try:
                hands = kit.hands(work.database)
                claim = hands.claims.claim(work.table.table_id)
                if claim is not None:
                    self._attempt(kit, hands, work, claim)
                    return _Step.GO
                if not self._close(hands, work):
                    step = _Step.WAIT
            finally:
                work.slots.release()
        return step

    def _attempt(self, kit: _Kit, hands: Hands, work: TableWork, claim: Claim) -> None:
        try:
            source = kit.source(work)
            outcome = move(
                claim, work.table, source, hands.target, self._moving(hands.claims, work.table)
            )
        except ClaimLost:
            hands.claims.drop(claim)
        except RetriableError as error:
            self._retry(hands, work, claim, error)
        except RunError as error:
            hands.claims.settle(claim, str(error), 0)
            self._stop("the run can't go on", error)
        except SnowmeltError as error:
            self._fail(hands, work, claim, error)
        except Exception as error:  # noqa: BLE001
            # Not foreseen, so not known to be harmless: the table stops, and the traceback is logged.
            _log.exception("unforeseen error", extra={"action": "unforeseen"})
            self._fail(hands, work, claim, TableError(f"{type(error).__name__}: {error}"))
        else:
            hands.claims.drop(claim)
            self._observer.completed(work.table, claim, outcome)

    def _moving(self, claims: Claims, table: LoadTable) -> Callable[[Claim, int, int], None]:
        def moving(claim: Claim, rows: int, bytes: int) -> None:
            claims.beat(claim)
            self._observer.moved(table, claim, rows, bytes)

        return moving

    def _retry(self, hands: Hands, work: TableWork, claim: Claim, error: RetriableError) -> None:
        chunk = (work.table.job.target, claim.chunk.id)
        self._errors[chunk] += 1
        attempts = self._errors[chunk]
        if attempts > work.table.job.max_retry_attempts:
            gone = TableError(
                f"gave up after {attempts} attempts: {error.what}",
                sqlstate=error.sqlstate,
                remedy="mend the cause, then run again: it resumes",
            )
            self._fail(hands, work, claim, gone)
            return
        settled = hands.claims.settle(claim, str(error), backoff_seconds(attempts, self._random))
        if settled is Settled.COMPLETED:
            planned = claim.chunk.planned_rows or 0
            outcome = Outcome(claim.table_id, claim.chunk.id, planned, planned, 0, 0)
            self._observer.completed(work.table, claim, outcome)
        elif settled is Settled.CLOSED:
            self._observer.gave_up(work.table, claim, error)

    def _fail(self, hands: Hands, work: TableWork, claim: Claim, error: SnowmeltError) -> None:
        """Close chunk and table as failed, unless the chunk is not ours to judge any more."""
        error.located(table=str(work.table.job.target), chunk=claim.chunk.id)
        if hands.claims.fail(claim, str(error)) is Settled.CLOSED:
            self._observer.gave_up(work.table, claim, error)
            self._fail_table(hands, work, error)

    def _fail_table(self, hands: Hands, work: TableWork, error: SnowmeltError) -> None:
        work.closed = True
        hands.loads.fail(work.table.table_id, str(error))
        self._observer.failed(work.table, error)

    def _close(self, hands: Hands, work: TableWork) -> bool:
        """Finish the table if all its chunks are committed; whether nothing is left to do in it here."""
        left = hands.claims.work(work.table.table_id)
        if not left.closed and left.open_chunks:
            return False
        if left.closed or left.failed_chunks:
            work.closed = True
            return True
        if not work.finishing.acquire(blocking=False):
            return False
        try:
            if hands.loads.finish(work.table.table_id):
                work.closed = True
                self._observer.finished(work.table)
        except FatalError as error:
            self._fail_table(hands, work, error)
        finally:
            work.finishing.release()
        return work.closed


class _Step(Enum):
    GO = auto()
    WAIT = auto()
    DONE = auto()


class _Kit:
    """The sessions of one worker thread, opened when first needed and closed together."""

    def __init__(self, open_hands: OpenHands, stack: ExitStack) -> None:
        self._open_hands = open_hands
        self._stack = stack
        self._hands: dict[str, Hands] = {}
        self._sources: dict[str, Source] = {}

    def hands(self, database: str) -> Hands:
        if database not in self._hands:
            self._hands[database] = self._stack.enter_context(self._open_hands(database))
        return self._hands[database]

    def source(self, work: TableWork) -> Source:
        name = work.table.job.source_name
        if name not in self._sources:
            source = work.open_source()
            self._stack.callback(source.close)
            self._sources[name] = source
        return self._sources[name]
