"""Answers as tables for a person."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from snowmelt.cleaning import Cleaned
from snowmelt.formats import counted
from snowmelt.model import Mark, TableJob
from snowmelt.plan import Refusal
from snowmelt.status import Report, RunStatus, State, TableStatus

_COLOURS = {State.COMPLETED: "green", State.FAILED: "red", State.PARTIAL: "yellow"}


def checked(
    console: Console,
    warnings: Sequence[str],
    tried: Sequence[tuple[str, str | None]],
    refusals: Sequence[tuple[str | None, Refusal]],
) -> None:
    """What `check` found."""
    for warning in warnings:
        console.print(f"warning: {warning}", markup=False)
    for what, error in tried:
        console.print(f"{what}: {error or 'ok'}", markup=False)
    for table, refusal in refusals:
        console.print(f"{table}: {refusal}" if table else str(refusal), markup=False)


def reported(console: Console, report: Report) -> None:
    """How a run ended."""
    _tables(console, report.tables)
    speed = report.rows / report.seconds if report.seconds else 0
    line = (
        f"run {report.run_id} {report.state.value}: {report.rows:,} rows in {report.seconds:,.1f} s"
    )
    if not report.resumed and report.rows:
        line += f" ({speed:,.0f} rows/s)"
    console.print(line, style=_COLOURS.get(report.state, ""), markup=False)
    for table in report.tables:
        if table.floored:
            console.print(
                f"{table.target}: {table.floored:,} times had digits below the microsecond, "
                "which PostgreSQL does not have; they were dropped",
                style="yellow",
                markup=False,
            )
        if table.changed:
            values = "1 value" if table.changed == 1 else f"{table.changed:,} values"
            console.print(
                f"{table.target}: {values} had NUL characters, which PostgreSQL does not have; "
                "they were taken out or replaced",
                style="yellow",
                markup=False,
            )
    if report.memory is not None and report.memory.fed:
        console.print(str(report.memory), markup=False)
    for error in report.errors:
        console.print(error, style="red", markup=False)
    if report.state is State.PARTIAL:
        if report.slice and report.slice.reason:
            console.print(report.slice.reason, markup=False)
        console.print("run again to resume", markup=False)


def statuses(console: Console, runs: Sequence[RunStatus]) -> None:
    """Runs with their tables."""
    if not runs:
        console.print("no runs yet")
    for run in runs:
        console.print(
            f"run {run.run_id} {run.state.value} in {run.database}, started {_time(run.started_at)}, "
            f"last active {_time(run.active_at)}, live workers {run.live_workers}",
            style=_COLOURS.get(run.state, ""),
            markup=False,
        )
        if run.error:
            console.print(run.error, style="red", markup=False)
        _tables(console, run.tables)


def adopted(console: Console, done: Sequence[tuple[TableJob, Mark | Refusal]]) -> None:
    """Which tables have a first mark now."""
    for job, outcome in done:
        if isinstance(outcome, Mark):
            told = f"begins at {outcome.value} of {outcome.column}"
        else:
            told = f"not adopted: {outcome}"
        console.print(f"{job}: {told}", markup=False)


def cleaned(console: Console, done: Sequence[Cleaned], *, dry_run: bool) -> None:
    """What was removed, a line for each kind, and what could not be."""
    would = "would be " if dry_run else ""
    for one in done:
        for what, verb, names in (
            ("staging table", "dropped", one.staging),
            ("worker", "marked as ended", one.ended),
            ("worker", "removed", one.workers),
            ("replaced table", "dropped", one.replaced),
            ("stand-in table", "dropped", one.shadows),
            ("clone", "dropped", one.clones),
            ("load", "removed", one.loads),
            ("run", "removed", one.runs),
        ):
            listed = f": {', '.join(names)}" if names else ""
            line = f"{one.database}: {counted(len(names), what)} {would}{verb}{listed}"
            console.print(line, markup=False)
        for name in one.elsewhere:
            told = f"{one.database}: clone {name} is of a source that the config does not have"
            console.print(told, markup=False)
        for left in one.left:
            line = f"{one.database}: {left.name} is left: {left.why}"
            console.print(line, style="red", markup=False)


def listed(console: Console, runs: Sequence[RunStatus]) -> None:
    """Runs, a line each."""
    if not runs:
        console.print("no runs yet")
        return
    table = _grid(
        "run", "status", "sources", "database", "started", "last active", "tables", "rows"
    )
    for run in runs:
        table.add_row(
            str(run.run_id),
            Text(run.state.value, style=_COLOURS.get(run.state, "")),
            ", ".join(run.source_names),
            run.database,
            _time(run.started_at),
            _time(run.active_at),
            f"{sum(t.state is State.COMPLETED for t in run.tables)}/{len(run.tables)}",
            f"{sum(t.rows for t in run.tables):,}",
        )
    console.print(table)


def _tables(console: Console, tables: Sequence[TableStatus]) -> None:
    grid = _grid(
        "table", "status", "chunks", "rows", "skipped", "planned", "MB", "retries", "resized"
    )
    for table in tables:
        grid.add_row(
            table.target,
            Text(table.state.value, style=_COLOURS.get(table.state, "")),
            f"{table.completed_chunks:,}/{table.chunks:,}",
            f"{table.rows:,}",
            f"{table.skipped:,}",
            "" if table.planned_rows is None else f"{table.planned_rows:,}",
            f"{table.bytes / 1e6:,.1f}",
            f"{table.retries:,}",
            f"{table.resized:,}",
        )
    console.print(grid)


def _grid(*names: str) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    numbers = {"rows", "skipped", "planned", "MB", "retries", "resized", "chunks", "tables"}
    for name in names:
        table.add_column(name, justify="right" if name in numbers else "left", no_wrap=True)
    return table


def _time(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
