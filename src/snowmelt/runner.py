"""Works a run's chunks off: claims, moves, retries, finishes tables, stops when told."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from enum import IntEnum, auto
from functools import partial

from snowmelt.attempts import Expanded, Resized, attempt, given_up, labelled
from snowmelt.chunking.chunks import ResultBatches
from snowmelt.deadline import Deadline
from snowmelt.errors import (
    Blocked,
    ClaimLost,
    FatalError,
    Interrupted,
    ResultGone,
    RetriableError,
    RunError,
    SnowmeltError,
    TableError,
    unforeseen,
)
from snowmelt.extraction import replan
from snowmelt.formats import duration
from snowmelt.gate import Answer, Gate
from snowmelt.hands import Hands, Kit, OpenHands, TableWork
from snowmelt.in_flight import InFlight
from snowmelt.model import Claim, LoadTable, Outcome, TargetTable
from snowmelt.observer import Observer
from snowmelt.ports import Claims, QuerySource, Settled
from snowmelt.retry import backoff_seconds
from snowmelt.stop import Stop

_log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
"""Between two looks for a chunk when all that is left is in other hands or waits out a backoff. What a worker of
this process does is heard of at once."""


class Crew:
    """The workers of one process. `work` is what each thread runs until nothing is left to do."""

    def __init__(
        self,
        tables: Sequence[TableWork],
        open_hands: OpenHands,
        observer: Observer,
        stop: Stop,
        gates: Mapping[str, Gate],
        deadline: Deadline | None = None,
    ) -> None:
        """`gates`: for each target database, where workers wait while its server suffers. `deadline`: when what
        is in flight will be cut off, which somebody else sees to."""
        self._tables = tuple(tables)
        self._open_hands = open_hands
        self._observer = observer
        self._stop = stop
        self._gates = gates
        self._deadline = deadline
        self.in_flight = InFlight()
        self.too_late: dict[TargetTable, float] = {}
        """Tables of which no chunk was begun any more, with what one takes, in seconds."""
        self._news = threading.Event()
        self._errors: Counter[tuple[TargetTable, int]] = Counter()
        self._blocked: Counter[tuple[TargetTable, int]] = Counter()
        self._random = random.Random()

    def cut(self) -> None:
        """End what is in flight: nothing of it is kept, and other processes may begin with it at once."""
        self._stop("the time of this process was up")
        self.in_flight.cut()

    def work(self) -> None:
        """Take chunks until every table is closed or the run is stopped."""
        with ExitStack() as stack:
            kit = Kit(self._open_hands, stack)
            for gate in self._gates.values():
                stack.callback(gate.leave, kit)
            while not self._stop.event.is_set():
                try:
                    step = self._step(kit)
                except RetriableError as error:
                    # Between chunks: nothing is claimed, the session comes back by itself.
                    if not self.in_flight.is_cut:
                        _log.warning("%s", error, extra={"action": "ledger_retry"})
                    step = _Step.WAIT
                except RunError as error:
                    self._stop("the run can't go on", error)
                    return
                if step in (_Step.DONE, _Step.TOO_LATE):
                    return
                if step is _Step.WAIT and not self._stop.event.is_set():
                    self._news.wait(POLL_SECONDS)
                    self._news.clear()

    def _step(self, kit: Kit) -> _Step:
        """Move one chunk, or finish one table, or find that there is nothing to do now or ever."""
        step = _Step.DONE
        for work in self._tables:
            if work.closed:
                continue
            if self._held_up(kit, work.database):
                step = _Step.WAIT
                continue
            if not work.slots.acquire(blocking=False):
                step = _Step.WAIT
                continue
            try:
                hands = kit.hands(work.database)
                too_late = self._is_too_late(work)
                claim = None if too_late else hands.claims.claim(work.table.table_id)
                if claim is not None:
                    self._attempt(kit, hands, work, claim)
                    return _Step.GO
                step = max(step, self._close(kit, hands, work, too_late))
            finally:
                work.slots.release()
        return step

    def _is_too_late(self, work: TableWork) -> bool:
        """Whether the time that is left is not enough for another chunk of the table."""
        if self._deadline is None or self._deadline.allows(work.pace):
            return False
        self.too_late[work.table.job.target] = work.pace.seconds or 0.0
        return True

    def _held_up(self, kit: Kit, database: str) -> bool:
        """Whether the worker may take nothing of the database's now, for its server's sake."""
        answer = self._gates[database].ask(kit)
        if answer is Answer.REST:
            kit.rest(database)
        return answer is not Answer.GO

    def _attempt(self, kit: Kit, hands: Hands, work: TableWork, claim: Claim) -> None:
        started = time.monotonic()
        try:
            with self.in_flight.holding(kit, work, claim):
                done = attempt(
                    claim,
                    work.table,
                    kit.source(work),
                    hands.claims,
                    hands.target,
                    self._moving(hands.claims, work.table),
                    self._deadline.working if self._deadline else None,
                )
        except ClaimLost:
            hands.claims.drop(claim)
        except Exception as error:  # noqa: BLE001
            if self.in_flight.is_cut:
                self._give_back(hands, work, claim, time.monotonic() - started)
            else:
                self._go_wrong(kit, hands, work, claim, error)
        else:
            hands.claims.drop(claim)
            self._news.set()
            if isinstance(done, Outcome):
                work.pace.note(time.monotonic() - started)
            self._tell(work.table, claim, done)

    def _go_wrong(
        self, kit: Kit, hands: Hands, work: TableWork, claim: Claim, error: Exception
    ) -> None:
        """Do after an attempt what its error asks for."""
        match error:
            case ResultGone() if isinstance(claim.chunk.range, ResultBatches):
                self._begin_again(kit, hands, work, claim, error)
            case RetriableError():
                self._retry(hands, work, claim, error)
            case RunError():
                hands.claims.settle(claim, str(error), 0)
                self._stop("the run can't go on", error)
            case SnowmeltError():
                self._fail(hands, work, claim, error)
            case _:
                # Not foreseen, so not known to be harmless: the table stops. What it says may be a secret.
                _log.debug("unforeseen error", extra={"action": "unforeseen"}, exc_info=error)
                self._fail(hands, work, claim, _unforeseen(error))

    def _give_back(self, hands: Hands, work: TableWork, claim: Claim, seconds: float) -> None:
        """Let others have what was cut off; it is no failed attempt, whatever it ended in."""
        too_long = self._deadline is not None and self._deadline.is_too_long(seconds)
        error = Interrupted(f"cut off after {duration(seconds)}: the time of its process was up")
        settled = hands.claims.settle(claim, str(error), 0, seconds if too_long else None)
        self._tell_settled(work, claim, settled, error)

    def _tell(self, table: LoadTable, claim: Claim, done: Outcome | Expanded | Resized) -> None:
        match done:
            case Outcome():
                self._observer.completed(table, claim, done)
            case Expanded(chunks):
                self._observer.expanded(table, claim, chunks)
            case Resized(chunks):
                self._observer.resized(table, claim, chunks)

    def _begin_again(
        self, kit: Kit, hands: Hands, work: TableWork, claim: Claim, gone: ResultGone
    ) -> None:
        """Plan the table's chunks again: the result that they are parts of is kept no more."""
        tried, found = (work.table.job.target, _TRIED), (work.table.job.target, _FOUND_GONE)
        self._errors[tried] += 1
        pause = backoff_seconds(self._errors[tried], self._random)
        if hands.claims.settle(claim, str(gone), pause) is not Settled.CLOSED:
            return
        self._observer.gave_up(work.table, claim, gone)
        try:
            if self._errors[found] >= max(work.table.job.max_retry_attempts, 1):
                raise TableError(
                    f"the result of the table's query was gone {self._errors[found] + 1} times",
                    remedy="load the table with extraction: query_per_chunk",
                )
            with self.in_flight.holding(kit, work, claim):
                with labelled(kit.source(work), work.table, claim):
                    again = replan(work.table, kit.source(work))
                done = hands.loads.replan(work.table.table_id, gone.query_id, again)
            if done is not None:
                self._errors[found] += 1
                self._errors[tried] = 0
                self._observer.replanned(work.table, done)
        except RetriableError as error:
            # Such as a reader that holds the target: what was to be done again is still to be done.
            target = str(work.table.job.target)
            if not self.in_flight.is_cut:
                about = {"action": "replan_retry", "table": target}
                _log.warning("%s: %s", target, error, extra=about)
        except RunError:
            raise
        except SnowmeltError as error:
            self.in_flight.check()
            error.located(table=str(work.table.job.target))
            self._fail_table(hands, work, error)

    def _moving(self, claims: Claims, table: LoadTable) -> Callable[[Claim, int, int], None]:
        def moving(claim: Claim, rows: int, bytes: int) -> None:
            self.in_flight.check()
            claims.beat(claim)
            self._observer.moved(table, claim, rows, bytes)

        return moving

    def _retry(self, hands: Hands, work: TableWork, claim: Claim, error: RetriableError) -> None:
        chunk = (work.table.job.target, claim.chunk.id)
        if isinstance(error, Blocked):
            self._blocked[chunk] += 1
            pause = backoff_seconds(self._blocked[chunk], self._random)
            error.located(table=str(work.table.job.target), chunk=claim.chunk.id)
            _log.warning("%s", error, extra={"action": "blocked", "seconds": pause})
        else:
            self._blocked[chunk] = 0
            self._errors[chunk] += 1
            attempts = self._errors[chunk]
            if attempts > work.table.job.max_retry_attempts:
                self._fail(hands, work, claim, given_up(error, attempts, claim.chunk, work.table))
                return
            pause = backoff_seconds(attempts, self._random)
        self._tell_settled(work, claim, hands.claims.settle(claim, str(error), pause), error)

    def _tell_settled(
        self, work: TableWork, claim: Claim, settled: Settled, error: SnowmeltError
    ) -> None:
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

    def _close(self, kit: Kit, hands: Hands, work: TableWork, too_late: bool) -> _Step:
        """Build and finish what all chunks are committed of; DONE if nothing is left to do in the table here."""
        left = hands.claims.work(work.table.table_id)
        if not left.closed and left.open_chunks:
            return _Step.TOO_LATE if too_late else _Step.WAIT
        if left.closed or left.failed_chunks:
            work.closed = True
            if left.completed:
                self._tidy(kit, work)
            return _Step.DONE
        try:
            with self.in_flight.holding(kit, work):
                closed = not self._build(hands, work) and self._finish(kit, hands, work)
        except FatalError as error:
            if isinstance(error, RunError):
                raise
            self.in_flight.check()
            self._fail_table(hands, work, error)
            return _Step.DONE
        return _Step.DONE if closed else _Step.WAIT

    def _finish(self, kit: Kit, hands: Hands, work: TableWork) -> bool:
        if not work.finishing.acquire(blocking=False):
            return False
        try:
            if hands.loads.finish(work.table.table_id):
                work.closed = True
                self._news.set()
                self._observer.finished(work.table)
                self._tidy(kit, work)
        finally:
            work.finishing.release()
        return work.closed

    def _build(self, hands: Hands, work: TableWork) -> bool:
        """Build something of the table; the others of this process hear that there may be more to do."""
        tell = partial(self._observer.building, work.table)
        goes_on = self._deadline is not None
        built = hands.loads.build(work.table.table_id, tell, goes_on=goes_on)
        if built:
            self._news.set()
        return built

    def _tidy(self, kit: Kit, work: TableWork) -> None:
        """End what is left of a completed table at its source. Its rows are safe: nothing here fails it."""
        try:
            source = kit.source(work)
            if isinstance(source, QuerySource):
                source.cancel(work.table.job.source, work.table.tag)
                source.release(work.table.job.source, work.table.snapshot)
        except SnowmeltError as error:
            _log.warning(
                "the table is completed, but its source was not tidied up: %s",
                error,
                extra={"action": "tidy_failed", "table": str(work.table.job.target)},
            )


_TRIED, _FOUND_GONE = -1, -2
"""Where it is counted how often a table was to be planned again, and how often it was; no chunk has these
numbers."""


def _unforeseen(error: Exception) -> TableError:
    return TableError(
        unforeseen(error), remedy="run again with --debug to see it whole, and report it"
    )


class _Step(IntEnum):
    """What a worker does next; of several tables the greatest counts."""

    DONE = auto()
    TOO_LATE = auto()
    WAIT = auto()
    GO = auto()
