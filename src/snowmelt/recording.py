"""The beginning of a run: it is written to the ledgers, and its targets are made ready."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from uuid import UUID

from snowmelt.choices import Mode
from snowmelt.database import Database
from snowmelt.deadline import RECENT, Pace
from snowmelt.errors import Refused
from snowmelt.hands import TableWork
from snowmelt.matching import is_named, is_same, place_of
from snowmelt.model import LoadTable, StoredLoad, TableJob, Tag, into
from snowmelt.modes import rows_refusals
from snowmelt.origin import Origins
from snowmelt.plan import Plan, Refusal, TablePlan
from snowmelt.postgres.locks import refusing_blocked
from snowmelt.postgres.preparing import Wishes
from snowmelt.situation import Situation
from snowmelt.survey import Choice, Survey
from snowmelt.truncation import Action

_log = logging.getLogger(__name__)


class Recording:
    """Writes a plan to the ledgers of its databases, and hands out the work."""

    def __init__(self, survey: Survey, origins: Origins, databases: Mapping[str, Database]) -> None:
        self._survey = survey
        self._origins = origins
        self._databases = databases

    def record(self, plan: Plan, choice: Choice, database: Database) -> None:
        """Write the run and its tables to a ledger, all or nothing: what is refused leaves no run behind.

        One run at a time, so that of two which planned the same empty table the second is refused here.
        """
        forgotten: list[StoredLoad] = []
        added: list[TablePlan] = []
        with database.session.transaction(durable=True):
            database.runs.open(
                plan.run_id, plan.identity, len(plan.tables), {"snowmelt": _version()}
            )
            stored = database.loads.of(plan.run_id)
            for table in plan.tables:
                if self._databases[table.job.target.database] is not database:
                    continue
                _log_decision(table)
                _log_columns(table)
                if table.resumes is not None:
                    _require_stored(table, stored)
                    continue
                mine = next((load for load in stored if is_same(load, table.job)), None)
                if mine is not None and not is_named(table.job, choice.restart):
                    continue  # another process of this run was first
                if mine is not None:
                    database.loads.forget(plan.run_id, mine.table_id)
                    forgotten.append(mine)
                situation = self._survey.situation(table.job, plan.run_id, (), choice)
                if refusals := rows_refusals(table.job, situation, table.truncation):
                    raise Refused(refused([(table, refusal) for refusal in refusals]))
                _require_same_mark(table, situation)
                database.loads.add(plan.run_id, table)
                added.append(table)
            # Last, so that no table is locked while others are written down.
            emptied = [
                table
                for table in added
                if table.truncation.action is Action.TRUNCATE and not table.job.replace
            ]
            database.loads.truncate(
                plan.run_id, {table.job.target: table.truncation.rows for table in emptied}
            )
        for load in forgotten:
            name = database.server.database
            self._origins.tidy_quietly(Tag(plan.run_id, name, load.table_id), [load])

    def enter(self, plan: Plan) -> list[TableWork]:
        """Reopen what had failed, create what is to be created, and hand out the work."""
        work = []
        for name, database in self._databases.items():
            loads = {
                place_of(load.source_name, load): load for load in database.loads.of(plan.run_id)
            }
            mine = [table for table in plan.tables if table.job.target.database == name]
            open_loads = [loads[place_of(t.job.source_name, t.job)] for t in mine]
            database.loads.reopen(plan.run_id, [load.table_id for load in open_loads])
            for table, load in zip(mine, open_loads, strict=True):
                _prepare(database, table, load)
                begun = self._table_work(plan.run_id, table.job, load)
                begun.pace = Pace(reversed(database.loads.chunk_seconds(load.table_id, RECENT)))
                work.append(begun)
        return work

    def _table_work(self, run_id: UUID, job: TableJob, load: StoredLoad) -> TableWork:
        database = job.target.database
        job = replace(job, source=replace(job.source, window=load.window))
        table = LoadTable(
            load.table_id,
            job,
            load.columns,
            load.snapshot,
            load.key,
            Tag(run_id, database, load.table_id),
            load.planned_rows,
            load.chunk_rows,
            load.shadow,
        )
        return TableWork(table, database, self._origins.open(job.source_name))


def _prepare(database: Database, table: TablePlan, load: StoredLoad) -> None:
    """Create the target, or add the columns that it lacks, where the load is to begin; or make the table that is
    loaded in its stead. Indexes go that are built again at the end."""
    job = table.job
    added = [column for column in load.columns if column.name in load.added]
    if load.create and not load.completed and load.shadow is None:
        merges = load.mode is not Mode.APPEND
        unique = into(load.columns, job.uniqueness_columns) if merges else ()
        primary = load.unique_is_primary
        database.target.create(
            job.target, load.columns, unique, primary=primary, comment=load.comment
        )
    elif added and not load.completed_chunks and load.shadow is None:
        # Not once rows are there: a column that was dropped since would be back without their values.
        database.target.add_columns(job.target, added)
    wishes = Wishes(
        load.columns,
        tuple(added),
        load.comment,
        into(load.columns, job.uniqueness_columns),
        disable_index=job.disable_index,
        any_rows=bool(table.truncation.facts.allowed),
    )
    with refusing_blocked():
        database.loads.prepare(load.table_id, wishes)


def _require_stored(table: TablePlan, stored: Sequence[StoredLoad]) -> None:
    """Raise Refused where the load that is to go on was removed since it was planned to."""
    if any(is_same(load, table.job) for load in stored):
        return
    raise Refused(
        "the run that was to go on was removed from the ledger just now",
        table=str(table.job.target),
        remedy="run again: it is planned anew",
    )


def _require_same_mark(table: TablePlan, situation: Situation) -> None:
    """Raise Refused where another run has moved the mark since the window was planned by it."""
    window, mark = table.job.source.window, situation.mark
    if window is None or table.mark == mark or not situation.target.has_rows:
        return
    raise Refused(
        "the mark of the table has moved since it was planned",
        table=str(table.job.target),
        remedy="run again: it is planned anew",
    )


def _log_decision(table: TablePlan) -> None:
    """Of rows that were to go and stay a person is told without asking: no later load removes them."""
    decision, target = table.truncation, str(table.job.target)
    stay = decision.row in ("lost-resume", "foreign-rows")
    text = "%s: the rows are preserved, %s; to remove them run once with --allow-truncate"
    _log.log(
        logging.WARNING if stay else logging.INFO,
        text if stay else "%s: truncation decision, %s",
        target,
        decision.reason,
        extra={
            "action": decision.action.value,
            "table": target,
            "decision": decision.row,
            "reason": decision.reason,
        },
    )


def _log_columns(table: TablePlan) -> None:
    """Columns that nobody reads are told without asking."""
    if table.left_out:
        names = ", ".join(f'"{column.name}"' for column in table.left_out)
        text = "%s: columns of the source that the target lacks are left out: %s"
        _log.warning(
            text,
            table.job.target,
            names,
            extra={"action": "columns_left_out", "table": str(table.job.target)},
        )


def refused(refusals: Sequence[tuple[TablePlan, Refusal]], of_run: Sequence[Refusal] = ()) -> str:
    """What a person is told where nothing was started."""
    lines = [*map(str, of_run), *(f"{table.job}: {refusal}" for table, refusal in refusals)]
    return "\n".join(["nothing was started:", *lines])


def _version() -> str:
    return version("snowmelt")
