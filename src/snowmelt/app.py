"""The composition root: a config becomes adapters, and adapters become a Mover."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from types import TracebackType
from typing import Self
from uuid import UUID

from snowmelt.config import Config
from snowmelt.cutoff import cut_off, ended_in_time, in_time
from snowmelt.database import Database, server_of
from snowmelt.deadline import LAST_SECONDS, Deadline
from snowmelt.errors import Refused, SnowmeltError, UnknownName
from snowmelt.estimates.circumstances import governor_of
from snowmelt.executors.threads import Threads
from snowmelt.folding import folded, statuses_of
from snowmelt.hands import TableWork
from snowmelt.model import Tag, TargetTable
from snowmelt.observer import Observer, Silence, Together
from snowmelt.origin import Origins
from snowmelt.plan import Plan
from snowmelt.ports import Executor
from snowmelt.postgres.claims import Pulse
from snowmelt.postgres.connect import Session
from snowmelt.postgres.heartbeat import Life
from snowmelt.postgres.migrations import migrate_ledger
from snowmelt.postgres.upkeep import drop_staging
from snowmelt.recording import Recording, refused
from snowmelt.restoration import log_restored, restore
from snowmelt.runner import Crew
from snowmelt.slices import IDLE_LIMIT, ServerBuild, Slice, reason_of, stuck
from snowmelt.staffing import Staffing
from snowmelt.status import PARTIAL, Report, RunStatus, State
from snowmelt.stop import ABORTED, Stop
from snowmelt.survey import ANEW_OR_RESUMED, Choice, Survey
from snowmelt.tally import Tally
from snowmelt.upkeep import Upkeep

_log = logging.getLogger(__name__)


class Mover:
    """Plans and runs what a config asks for. A context manager: leaving it closes every session."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.jobs = config.jobs()
        self._sources = {source.source_name: source for source in config.sources}
        self.memory = governor_of(config)
        self._origins = Origins(config, self.memory)
        self._left: str | None = None
        """Why the process leaves without waiting for its work."""
        names = [config.target_database(source) for source in config.sources]
        self._databases = {name: Database(server_of(config, name)) for name in dict.fromkeys(names)}
        self._staff = Staffing(
            self._databases,
            lease_seconds=config.lease_seconds,
            stall_seconds=config.stall_seconds,
        )
        self._survey = Survey(config, self.jobs, self._origins, self._databases)
        self.upkeep = Upkeep(config, self._origins, self._databases, self._survey)
        """What is done to ledgers between runs."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for database in self._databases.values():
            database.session.close()

    def plan(self, choice: Choice = ANEW_OR_RESUMED) -> Plan:
        """What a run would do, without changing anything. Raises SnowmeltError for what can't be planned."""
        return self._survey.plan(choice)

    def run(
        self,
        plan: Plan,
        *,
        choice: Choice = ANEW_OR_RESUMED,
        executor: Executor | None = None,
        observer: Observer | None = None,
        stop: Stop | None = None,
        deadline: Deadline | None = None,
    ) -> Report:
        """Carry the plan out, or go on with it, until it is done, fails, or is stopped.

        What is in flight when the deadline's buffer begins is cut off. A process that has not ended shortly
        before the deadline, whatever it is about, exits on the spot, as after a second signal.

        Raises Refused before anything moved, and Interrupted where a server is away when the time is up; what
        fails later is in the report.
        """
        if plan.refused:
            raise Refused(refused(plan.refusals, plan.run_refusals))
        with ended_in_time(deadline, self._leave):
            return self._run(
                plan, choice, executor or Threads(), observer or Silence(), stop or Stop(), deadline
            )

    def _run(
        self,
        plan: Plan,
        choice: Choice,
        executor: Executor,
        observer: Observer,
        stop: Stop,
        deadline: Deadline | None,
    ) -> Report:
        started = time.monotonic()
        recording = Recording(self._survey, self._origins, self._databases)
        for database in self._databases.values():
            migrate_ledger(database.session)
            recording.record(plan, choice, database)
        try:
            work = recording.enter(plan)
        except SnowmeltError:
            # What of some tables was dropped already comes back.
            self._end(plan, stop)
            targets = {table.job.target for table in plan.tables}
            self._give_back(targets, executor, deadline=deadline)
            raise
        tally = Tally()
        observer = Together(tally, observer)
        observer.begins(statuses_of(plan, self.status(plan.run_id)))
        reason = None
        try:
            self._idle(plan, stop, deadline)
            if stop.error is None:
                reason = self._work(plan, work, observer, executor, stop, deadline)
        except BaseException:
            self._end(plan, stop)
            raise
        idle, ended = self._judge(plan, stop, deadline, reason)
        mine = Slice(
            time.monotonic() - started,
            tally.chunks,
            tally.rows,
            tally.bytes,
            tally.errors,
            tally.progress if idle is None else not idle,
            reason,
            idle or 0,
        )
        if any(run.state is State.FAILED for run in ended):
            targets = {table.job.target for table in plan.tables}
            self._give_back(targets, executor, stop.event, deadline)
        if stop.reason == ABORTED:
            # A worker of this process may have asked its source for something after the abort had looked there.
            for database in self._databases.values():
                self._origins.tidy_quietly(Tag(plan.run_id), database.loads.of(plan.run_id))
        return folded(plan, ended, mine, stop, self.memory.use())

    def _work(
        self,
        plan: Plan,
        work: Sequence[TableWork],
        observer: Observer,
        executor: Executor,
        stop: Stop,
        deadline: Deadline | None,
    ) -> str | None:
        """Let a crew work until it can't or may not go on; returns why it left what is not done."""
        pulses = {name: Pulse() for name in self._databases}
        reasons: list[str] = []
        limit = self.memory.budget.limit
        life = Life(
            deadline_seconds=deadline.seconds if deadline else None,
            memory_limit=limit.bytes if limit else None,
            peak_memory=lambda: self.memory.use().peak_bytes,
            because=lambda: "; ".join(reasons) or self._left,
        )
        threads = max((one.table.job.parallel_threads for one in work), default=1)
        with (
            self._staff.beating(plan.run_id, pulses, stop, life),
            self._staff.gates() as gates,
            self.memory.running(threads, stop.event),
        ):
            hands = self._staff.hands(pulses, stop.event)
            crew = Crew(work, hands, observer, stop, gates, deadline)
            with cut_off(deadline, crew.cut):
                executor.run(crew.work, threads)
            if not all(one.closed for one in work):
                waited = [gate.reason for gate in gates.values() if gate.reason]
                late = ((str(table), seconds) for table, seconds in crew.too_late.items())
                builds = self._server_builds(plan, stop)
                reasons.append(reason_of(stop.reason, crew.in_flight.cut_off, late, waited, builds))
        return "; ".join(reasons) or None

    def _judge(
        self, plan: Plan, stop: Stop, deadline: Deadline | None, reason: str | None
    ) -> tuple[int | None, list[RunStatus]]:
        """What came of the work: see `_idle`, and how the run ended in each ledger. Raises Interrupted."""
        try:
            idle = self._idle(plan, stop, deadline, reason)
            return idle, self._end(plan, stop)
        except SnowmeltError as error:
            raise in_time(deadline, error) from error

    def _idle(
        self, plan: Plan, stop: Stop, deadline: Deadline | None, reason: str | None = None
    ) -> int | None:
        """How many slices in a row have brought the run no further; too many fail it. None where that is not
        asked: nothing ends the process, nothing is left, or the run ends for another reason."""
        if deadline is None or stop.error or stop.reason == ABORTED:
            return None
        with self._ledgers(stop) as ledgers:
            runs = [one.runs for one in ledgers]
            if not any(one.is_open(plan.run_id) for one in runs):
                return None
            # A slice is in all of them, and one that moved something into one database has come further.
            builds = [build for one in runs for build in one.server_builds(plan.run_id)]
            idle = min(one.idle_slices(plan.run_id) for one in runs)
            if idle >= IDLE_LIMIT:
                for one in runs:
                    one.give_up(plan.run_id)
                stop.fail(stuck(str(plan.run_id), reason or "; ".join(map(str, builds))))
        return idle

    def _server_builds(self, plan: Plan, stop: Stop) -> list[ServerBuild]:
        """What the servers go on with for the run; nothing of one that can't be asked just now."""
        try:
            with self._ledgers(stop) as ledgers:
                return [one for each in ledgers for one in each.runs.server_builds(plan.run_id)]
        except SnowmeltError as error:
            _log.debug("builds are not known: %s", error, extra={"action": "builds_unknown"})
            return []

    def _leave(self) -> None:
        """Exit now. What the process was about is free again at once, or after a lease."""
        self._left = "the time was up, and what was cut off did not end"
        farewell = threading.Thread(target=self.let_go, daemon=True)
        farewell.start()
        farewell.join(LAST_SECONDS / 2)
        os._exit(PARTIAL)

    def _give_back(
        self,
        targets: Collection[TargetTable],
        executor: Executor,
        halt: threading.Event | None = None,
        deadline: Deadline | None = None,
    ) -> None:
        """Build what was dropped for loads that failed or were aborted; what can't be built is told."""
        halt = halt or threading.Event()
        sessions: list[Session] = []

        def cut() -> None:
            halt.set()
            for session in sessions:
                session.interrupt()

        threads = max((job.parallel_threads for job in self.jobs), default=1)
        with cut_off(deadline, cut):
            for database in self._databases.values():
                if not database.keeps_house:
                    continue
                try:
                    done = restore(
                        database,
                        executor,
                        threads=threads,
                        only=targets,
                        halt=halt,
                        sessions=sessions,
                        goes_on=deadline is not None,
                    )
                except SnowmeltError as error:
                    _log.warning("%s", error, extra={"action": "indexes_missing"})
                    continue
                for one in done:
                    log_restored(one)

    def _end(self, plan: Plan, stop: Stop) -> list[RunStatus]:
        """End the run in every ledger."""
        ended: list[RunStatus] = []
        with self._ledgers(stop) as ledgers:
            for database in ledgers:
                database.runs.end(plan.run_id, str(stop.error) if stop.error else None)
                ended.extend(database.runs.status(plan.run_id))
        return ended

    @contextmanager
    def _ledgers(self, stop: Stop) -> Iterator[list[Database]]:
        """Sessions of their own, in which a server that is away is not waited for once the process is to leave."""
        with ExitStack() as stack:
            ledgers = [Database(known.server, stop.event) for known in self._databases.values()]
            for database in ledgers:
                stack.callback(database.session.close)
            yield ledgers

    def let_go(self) -> None:
        """Give all claims of this process back at once, for a process that ends without waiting for them."""
        self._staff.let_go()

    def check(self) -> Iterator[tuple[str, SnowmeltError | None]]:
        """Try each connection: (what was tried, None or what is wrong). Nothing is changed."""
        for database in self._databases.values():
            yield f"PostgreSQL {database.server.address}", _outcome(database.connect)
        for name in self._sources:
            yield f"source {name}", _outcome(partial(self._try_source, name))

    def _try_source(self, name: str) -> None:
        self._origins.open(name)().close()

    def status(self, run_id: UUID | None = None, limit: int = 20) -> tuple[RunStatus, ...]:
        """Runs as the ledgers have them, newest first; one run when it is named.

        A run is there once for each target database that it writes to, and `limit` counts it once.
        Raises UnknownName for a run that no ledger has.
        """
        found = [
            status
            for database in self._databases.values()
            if database.has_ledger
            for status in database.runs.status(run_id, limit)
        ]
        if run_id is not None and not found:
            raise UnknownName(
                f"no run {run_id} in the target's ledger", remedy="see: snowmelt runs"
            )
        newest = sorted(found, key=lambda run: run.started_at, reverse=True)
        ids = list(dict.fromkeys(run.run_id for run in newest))[:limit]
        return tuple(run for id in ids for run in newest if run.run_id == id)

    def abort(self, run_id: UUID) -> bool:
        """End a run's workers and claims for good, and its queries and clones at the sources.

        False if it had ended. Raises UnknownName, and what kept a source from being tidied up.
        """
        self.status(run_id)
        ledgers = [database for database in self._databases.values() if database.has_ledger]
        aborted = [database.runs.abort(run_id) for database in ledgers]
        loads = [load for database in ledgers for load in database.loads.of(run_id)]
        for database in ledgers:
            drop_staging(database.session, [load.table_id for load in database.loads.of(run_id)])
            database.loads.drop_shadows(run_id)
            if database.keeps_house:
                database.loads.forget_noted(run_id)
        self._give_back({load.target for load in loads}, Threads())
        try:
            self._origins.tidy(Tag(run_id), loads)
        except SnowmeltError as error:
            error.what = f"run {run_id} is aborted, but its source was not tidied up: {error.what}"
            raise
        return any(aborted)


def open_mover(config: Config) -> Mover:
    """A Mover over the config's sources and targets; use it in a `with` statement."""
    return Mover(config)


def _outcome(attempt: Callable[[], object]) -> SnowmeltError | None:
    try:
        attempt()
    except SnowmeltError as error:
        return error
    return None
