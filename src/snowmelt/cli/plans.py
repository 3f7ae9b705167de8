"""A plan for a person: facts table by table, or a line for each where there are many; the problems last."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console
from rich.table import Table
from rich.text import Text

from snowmelt.estimates.estimate import RunEstimate, TableEstimate
from snowmelt.formats import counted, size, span
from snowmelt.plan import Plan, TablePlan
from snowmelt.plan_text import (
    Fact,
    Tone,
    plain,
    run_facts,
    table_facts,
)

MOST_BLOCKS = 3
"""With more tables than that each gets a line, unless all is asked for."""
MOST_NAMES = 3
"""Of tables that one note is for; more are counted."""
_STYLES = {Tone.PLAIN: "", Tone.WARNING: "yellow", Tone.REFUSAL: "red"}
_WAYS = {"ResultSetStrategy": "one query", "none": ""}


def planned(console: Console, plan: Plan, *, chosen: bool = False, details: bool = False) -> None:
    """What would happen. `chosen` says that the tables were named one by one; `details` asks for all there is."""
    whole = plan.estimate()
    console.print(plan.headline, style="bold", markup=False)
    for warning in plan.warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False)
    if chosen or details or len(plan.tables) <= MOST_BLOCKS:
        for table, part in zip(plan.tables, whole.tables, strict=True):
            console.print()
            console.print(str(table.job), style="bold", markup=False)
            _facts(console, _without_refusals(table_facts(table, part)), details)
    else:
        console.print()
        console.print(_overview(plan.tables, whole.tables))
        _told(console, plan, whole)
    console.print()
    console.print("all tables", style="bold")
    _facts(console, run_facts(whole, plan.circumstances, plan.notes), details)
    _refused(console, plan)


def _without_refusals(facts: Sequence[Fact]) -> list[Fact]:
    """They stand at the end, for all tables together."""
    return [fact for fact in facts if fact.tone is not Tone.REFUSAL]


def _facts(console: Console, facts: Sequence[Fact], details: bool) -> None:
    """Labels and what they say: folded to a terminal's width, a line each anywhere else."""
    if not console.is_terminal:
        for line in plain(facts, details=details):
            console.print(line, markup=False)
        return
    grid = Table.grid(padding=(0, 1))
    grid.add_column(style="dim", no_wrap=True, min_width=11)
    grid.add_column(overflow="fold")
    for fact in facts:
        if details or not fact.detail:
            grid.add_row(Text(f"  {fact.label}"), Text(fact.text, style=_STYLES[fact.tone]))
    console.print(grid)


def _overview(tables: Sequence[TablePlan], parts: Sequence[TableEstimate]) -> Table:
    """A line for each table."""
    grid = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    grid.add_column("table", overflow="fold", min_width=12)
    grid.add_column("by", no_wrap=True)
    for name in ("rows", "size", "chunks"):
        grid.add_column(name, justify="right", no_wrap=True)
    grid.add_column("how even", no_wrap=True)
    grid.add_column("largest", justify="right", no_wrap=True)
    grid.add_column("time", no_wrap=True)
    grid.add_column("", no_wrap=True)
    for table, part in zip(tables, parts, strict=True):
        grid.add_row(*_line(table, part))
    return grid


def _line(table: TablePlan, part: TableEstimate) -> tuple[str | Text, ...]:
    state = Text("")
    if table.refusals:
        state = Text("refused", style="red")
    elif table.resumes is not None:
        state = Text("resumes", style="cyan")
    elif table.create:
        state = Text("creates", style="dim")
    way = _WAYS.get(table.strategy, table.strategy.removesuffix("RangeStrategy"))
    return (
        Text(str(table.job.target)),
        Text(way),
        "" if part.rows is None else f"{part.rows:,}",
        "" if part.bytes is None else size(part.bytes),
        "" if part.chunks is None else f"{part.chunks:,}",
        part.sizes.bars if len(part.sizes.bins) != 1 else "even",
        "" if part.sizes.largest is None else f"{part.sizes.largest:,}",
        "" if part.seconds is None else span(part.seconds.low, part.seconds.high),
        state,
    )


def _told(console: Console, plan: Plan, whole: RunEstimate) -> None:
    """What an overview has no column for, once for all tables that it is the same for."""
    tables_of: defaultdict[Fact, list[str]] = defaultdict(list)
    for table, part in zip(plan.tables, whole.tables, strict=True):
        for fact in _without_refusals(table_facts(table, part)):
            if fact.label == "note" or fact.tone is Tone.WARNING:
                tables_of[fact].append(str(table.job.target))
    if tables_of:
        console.print()
    for fact, names in tables_of.items():
        where = ", ".join(names) if len(names) <= MOST_NAMES else counted(len(names), "table")
        _facts(console, [replace(fact, text=f"{where}: {fact.text}")], details=False)
    console.print()
    console.print("-v, or --table NAME, tells more of each table", style="dim")


def _refused(console: Console, plan: Plan) -> None:
    """Every problem with its remedy."""
    if not plan.refused:
        return
    console.print()
    console.print("nothing would be started:", style="bold red")
    for refusal in plan.run_refusals:
        console.print(str(refusal), style="red", markup=False)
    for table, refusal in plan.refusals:
        console.print(f"{table.job}: {refusal}", style="red", markup=False)
