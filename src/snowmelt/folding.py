"""What the ledgers say of a run, as one report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from snowmelt.memory.budget import MemoryUse
from snowmelt.plan import Plan
from snowmelt.slices import Slice
from snowmelt.status import Report, RunStatus, State, TableStatus
from snowmelt.stop import ABORTED, Stop


def folded(
    plan: Plan,
    ended: Sequence[RunStatus],
    slice: Slice,
    stop: Stop,
    memory: MemoryUse | None = None,
) -> Report:
    """What the ledgers say of the run, and of the tables that this process was asked for."""
    tables = statuses_of(plan, ended)
    errors = [str(stop.error)] if stop.error else []
    errors += [table.error for table in tables if table.error and table.state is State.FAILED]
    if stop.reason == ABORTED or not errors:  # an abort is known from the ledger, heard of or not
        errors += [f"run {run.run_id}: {run.error}" for run in ended if run.error]
    states = {run.state for run in ended}
    if errors or State.FAILED in states:
        state = State.FAILED
    else:
        state = State.COMPLETED if states == {State.COMPLETED} else State.PARTIAL
    if state is not State.PARTIAL:
        slice = replace(slice, reason=None)
    return Report(
        plan.run_id, state, tables, slice.seconds, plan.resumed, tuple(errors), slice, memory
    )


def statuses_of(plan: Plan, runs: Sequence[RunStatus]) -> tuple[TableStatus, ...]:
    """The tables of the plan, out of all that the run has in its ledgers."""
    mine = {(table.job.target.database, str(table.job.target)) for table in plan.tables}
    return tuple(
        table for run in runs for table in run.tables if (table.database, table.target) in mine
    )
