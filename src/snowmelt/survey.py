"""What exists and what was done, for every table of a config -> a plan."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any
from uuid import UUID, uuid4

from snowmelt.config import Config
from snowmelt.config.checks import unknown_name
from snowmelt.database import Database
from snowmelt.errors import (
    ConnectionLost,
    Refused,
    RetriableError,
    TableError,
    TooHeavy,
    UnknownName,
)
from snowmelt.estimates.circumstances import circumstances
from snowmelt.identity import identity, table_facts, table_hash
from snowmelt.matching import is_named, is_same, names_of
from snowmelt.model import Mark, StoredLoad, TableJob, Writer
from snowmelt.origin import Origins
from snowmelt.plan import Plan, TablePlan
from snowmelt.planner import plan_table, unplannable
from snowmelt.ports import Source
from snowmelt.postgres.server import look_at_server
from snowmelt.postgres.surroundings import look
from snowmelt.preflight.server import server_problems
from snowmelt.refusals import room_refusals
from snowmelt.situation import Situation

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """How a run is found or begun. `restart` names tables, by source or target, that are planned anew."""

    resume: bool = True
    run_id: UUID | None = None
    restart: tuple[str, ...] = ()
    values: bool = False
    """Whether one query per table measures that its values fit: it reads the columns in question whole."""
    allow_truncate: bool = False
    """Whether rows of unknown origin may be truncated where a table is to be emptied."""
    join: bool = False
    """Whether only a run under way is taken part in: nothing is begun, and nothing that no worker is about."""
    deadline_seconds: float | None = None
    """How long this process may run, where something ends it: chunks are made small enough for that."""
    begin_as: UUID | None = None
    """The id of the run if one is begun. A run that has it is gone on with, completed or not: who asks twice,
    since the first answer was lost, gets what was begun the first time."""


ANEW_OR_RESUMED = Choice()
"""The run that is unfinished, if there is one."""


class Survey:
    """Looks at sources, targets and ledgers; changes nothing."""

    def __init__(
        self,
        config: Config,
        jobs: Sequence[TableJob],
        origins: Origins,
        databases: Mapping[str, Database],
    ) -> None:
        self._config = config
        self._jobs = jobs
        self._sources = {source.source_name: source for source in config.sources}
        self._origins = origins
        self._databases = databases

    def plan(self, choice: Choice) -> Plan:
        """What a run would do. A table that can't be planned is refused in it; what concerns all raises."""
        known = sorted({name for job in self._jobs for name in names_of(job)})
        for name in choice.restart:
            if name not in known:
                raise unknown_name("table", name, known)
        servers = [look_at_server(database.session) for database in self._databases.values()]
        found = [server_problems(server, self._connections()) for server in servers]
        who = identity(self._config)
        whole = Plan(
            choice.begin_as or uuid4(),
            who,
            False,
            (),
            self._config.warnings,
            notes=tuple(dict.fromkeys(note for one in found for note in one.notes)),
            run_refusals=tuple(refusal for one in found for refusal in one.refusals),
        )
        try:
            run_id, stored = self._unfinished(choice)
        except TableError:
            if whole.run_refusals:
                return whole  # who may not read the ledger is told what is lacking
            raise
        tables = []
        with ExitStack() as stack:
            open_sources: dict[str, Source] = {}
            for job in self._jobs:
                if job.source_name not in open_sources:
                    source = self._origins.open(job.source_name)()
                    stack.callback(source.close)
                    open_sources[job.source_name] = source
                tables.append(
                    self._planned(job, open_sources[job.source_name], run_id, stored, choice)
                )
        planned = dataclasses.replace(
            whole,
            run_id=run_id or whole.run_id,
            resumed=run_id is not None,
            tables=tuple(tables),
            circumstances=circumstances(self._config, self._databases, servers),
        )
        refusals = (*planned.run_refusals, *room_refusals(planned))
        return dataclasses.replace(planned, run_refusals=refusals)

    def _connections(self) -> int:
        """What a run opens to one database at most: one for each worker, one for itself, one for its heartbeat."""
        return max((job.parallel_threads for job in self._jobs), default=0) + 2

    def _planned(
        self,
        job: TableJob,
        source: Source,
        run_id: UUID | None,
        stored: Sequence[StoredLoad],
        choice: Choice,
    ) -> TablePlan:
        try:
            situation = self.situation(job, run_id, stored, choice)
            mine = next((load for load in stored if is_same(load, job)), None)
            left = _left(mine if situation.restarts else None, situation.writers)
            decides = job.refreshes and situation.resumes is None
            if decides and situation.target.has_rows and left is not None:
                database = self._databases[job.target.database]
                situation = dataclasses.replace(situation, **_counted(database, job, left))
            return plan_table(job, source, situation, values=choice.values)
        except (TableError, TooHeavy) as error:
            return unplannable(job, error)
        except MemoryError:
            lack = TableError(
                "planning it takes more memory than there is",
                remedy="give the process more, or leave the table out",
            )
            return unplannable(job, lack)

    def _unfinished(self, choice: Choice) -> tuple[UUID | None, list[StoredLoad]]:
        """The run to go on with, and its tables as every database has them."""
        ledgers = [database for database in self._databases.values() if database.has_ledger]
        run_id = choice.run_id or _begun(choice, ledgers)
        who = identity(self._config)
        if run_id is None and choice.resume:
            age = self._config.resume_max_age
            candidates = (database.runs.find(who, age) for database in ledgers)
            run_id = next((run for run in candidates if run is not None), None)
        if run_id is None and choice.join:
            raise Refused("no run is under way to join", remedy="begin one: leave --join out")
        if run_id is None:
            return None, []
        found = {database: database.runs.status(run_id) for database in ledgers}
        known = [database for database in ledgers if found[database]]
        if not known:
            raise UnknownName(
                f"no run {run_id} in the target's ledger", remedy="see: snowmelt runs"
            )
        if choice.join and not any(run.live_workers for runs in found.values() for run in runs):
            raise Refused(
                f"run {run_id} has no live worker to join", remedy="resume it: leave --join out"
            )
        theirs = found[known[0]][0].source_names
        if theirs != who.source_names:
            raise Refused(
                f"run {run_id} is a run of {', '.join(theirs)}",
                remedy="name the same sources to resume it",
            )
        return run_id, [load for database in known for load in database.loads.of(run_id)]

    def situation(
        self,
        job: TableJob,
        run_id: UUID | None,
        stored: Sequence[StoredLoad],
        choice: Choice = ANEW_OR_RESUMED,
    ) -> Situation:
        """What stands around the planning of one table, with the tables of a run as they are stored."""
        database = self._databases[job.target.database]
        facts = table_facts(job, self._config.origin(self._sources[job.source_name]))
        writers = database.loads.writers(job.target) if database.has_ledger else ()
        surroundings = look(database.session, job.target)
        target = database.target.inspect(job.target)
        if run_id is not None and stored and not target.has_rows:
            # Another worker of the run may just have emptied it, to read it again: its ledger first.
            stored = database.loads.of(run_id)
        mine = next((load for load in stored if is_same(load, job)), None)
        restarts = mine is not None and is_named(job, choice.restart)
        beside = mine is not None and not restarts and not mine.completed and mine.shadow
        loaded = database.target.inspect(beside) if beside else target
        others = tuple(writer for writer in writers if writer.run_id != run_id)
        return Situation(
            table_hash=table_hash(facts),
            facts=facts,
            target=target,
            loaded=loaded,
            writers=others,
            resumes=None if restarts else mine,
            resume_hours=self._config.resume_max_age,
            surroundings=surroundings,
            deadline_seconds=choice.deadline_seconds,
            mark=self._mark(job, facts, database),
            last=database.loads.last(str(facts["connection"]), job.source, job.target)
            if database.has_ledger
            else None,
            allowed=_allowed(job, choice),
            restarts=restarts,
            restarted_rows=mine.completed_rows if restarts and mine and not mine.completed else 0,
        )

    def _mark(self, job: TableJob, facts: Mapping[str, object], database: Database) -> Mark | None:
        if not job.incremental or not database.has_marks:
            return None
        return database.loads.mark(str(facts["connection"]), job.source, job.target)


def _begun(choice: Choice, ledgers: Sequence[Database]) -> UUID | None:
    """The run that was begun as the choice says, if it was."""
    run_id = choice.begin_as
    if run_id is None or not any(database.runs.status(run_id) for database in ledgers):
        return None
    return run_id


def _allowed(job: TableJob, choice: Choice) -> str | None:
    if choice.allow_truncate:
        return "--allow-truncate"
    return "allow_truncate of the table" if job.allow_truncate else None


def _left(restarted: StoredLoad | None, others: Sequence[Writer]) -> int | None:
    """How many rows the target had after the last that wrote it, if all of them are ours."""
    others = [
        writer for writer in others if writer.is_there and (writer.completed or not writer.beside)
    ]
    if restarted is not None and (restarted.shadow is None or restarted.completed):
        # Of an upsert they are fewer where it wrote a row twice, and then not known to be ours.
        return restarted.completed_rows if restarted.began_empty else None
    return others[0].target_rows if others and others[0].completed else None


def _counted(database: Database, job: TableJob, left: int) -> dict[str, Any]:
    """Whether as many rows are there still. What can't be counted is unknown, not nothing."""
    try:
        rows = database.target.count(job.target)
    except ConnectionLost:
        raise
    except (TableError, RetriableError) as error:
        _log.warning(
            "%s: %s", job.target, error, extra={"action": "count_failed", "table": str(job.target)}
        )
        return {"ours": None}
    return {"ours": rows == left, "target_rows": rows}
