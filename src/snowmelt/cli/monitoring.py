"""Questions to the ledger as tables for a person."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from rich.console import Console
from rich.table import Table
from rich.text import Text

from snowmelt.postgres.monitoring import Answer, Question


def listed(console: Console, questions: Iterable[Question]) -> None:
    """What can be asked."""
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("question", no_wrap=True)
    table.add_column("asks")
    for one in questions:
        table.add_row(one.name, one.asks)
    console.print(table)


def answered(console: Console, answers: Sequence[Answer]) -> None:
    """A table for each database."""
    for answer in answers:
        if len(answers) > 1:
            console.print(answer.database, style="bold", markup=False)
        if not answer.rows:
            console.print("nothing", style="dim")
            continue
        table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
        for place, name in enumerate(answer.columns):
            numbers = all(isinstance(row[place], int | Decimal | None) for row in answer.rows)
            table.add_column(name, justify="right" if numbers else "left")
        for row in answer.rows:
            table.add_row(*(Text(_shown(value)) for value in row))
        console.print(table)


def answers_json(answers: Sequence[Answer]) -> list[dict[str, object]]:
    """The rows of each database as `snowmelt monitoring --json` prints them."""
    return [
        {
            "database": answer.database,
            "rows": [
                dict(zip(answer.columns, map(_plain, row), strict=True)) for row in answer.rows
            ],
        }
        for answer in answers
    ]


def _shown(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case int() | Decimal():
            return f"{value:,}"
        case datetime():
            return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        case timedelta():
            return str(timedelta(seconds=round(value.total_seconds())))
    return str(value)


def _plain(value: object) -> object:
    match value:
        case datetime():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case Decimal():
            return float(value)
        case UUID():
            return str(value)
    return value
