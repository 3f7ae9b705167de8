"""A run while it runs: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from snowmelt.errors import SnowmeltError
from snowmelt.model import Claim, LoadTable, Outcome
from snowmelt.ports import Building, Replanned
from snowmelt.status import TableStatus

LINE_SECONDS = 10.0
"""Between two plain lines about a table that moves."""


@dataclass(slots=True)
class Gauge:
    """One table's progress as this process sees it. `base` is what earlier runs had committed."""

    name: str
    planned_rows: int | None
    chunks: int
    base_rows: int
    completed_chunks: int
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None
    rows: int = 0
    bytes: int = 0
    retries: int = 0
    resized: int = 0
    state: str = "waiting"
    doing: str = ""
    """What it is about after its rows."""
    in_flight: dict[UUID, int] = field(default_factory=dict)
    said: float = 0.0

    @property
    def seconds(self) -> float:
        return max((self.ended or time.monotonic()) - self.started, 1e-6)

    @property
    def done_rows(self) -> int:
        return self.base_rows + self.rows + sum(self.in_flight.values())

    @property
    def what(self) -> str:
        return self.doing if self.state == "building" else self.state

    @property
    def seconds_left(self) -> float | None:
        """By the mean speed of this process so far; None before anything moved."""
        moved = self.done_rows - self.base_rows
        if not moved or self.planned_rows is None or self.state != "loading":
            return None
        return max(self.planned_rows - self.done_rows, 0) / (moved / self.seconds)


class Gauges:
    """`runner.Observer`: counts what the workers tell, table by table."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gauges: dict[tuple[str, str], Gauge] = {}

    def begins(self, tables: Sequence[TableStatus]) -> None:
        self._gauges = {
            (table.database, table.target): Gauge(
                table.target,
                table.planned_rows,
                table.chunks,
                table.rows + table.skipped,
                table.completed_chunks,
            )
            for table in tables
        }

    def moved(self, table: LoadTable, claim: Claim, rows: int, bytes: int) -> None:
        with self._lock:
            gauge = self._gauge(table)
            if gauge.state == "waiting":
                gauge.state, gauge.started = "loading", time.monotonic()
            gauge.in_flight[claim.token] = gauge.in_flight.get(claim.token, 0) + rows
            gauge.bytes += bytes

    def completed(self, table: LoadTable, claim: Claim, outcome: Outcome) -> None:
        with self._lock:
            gauge = self._gauge(table)
            gauge.in_flight.pop(claim.token, None)
            gauge.rows += outcome.rows_read
            gauge.completed_chunks += 1

    def gave_up(self, table: LoadTable, claim: Claim, error: SnowmeltError) -> None:
        with self._lock:
            gauge = self._gauge(table)
            gauge.in_flight.pop(claim.token, None)
            gauge.retries += 1

    def expanded(self, table: LoadTable, claim: Claim, chunks: int) -> None:
        with self._lock:
            gauge = self._gauge(table)
            gauge.chunks += chunks
            gauge.completed_chunks += 1

    def resized(self, table: LoadTable, claim: Claim, chunks: int) -> None:
        with self._lock:
            gauge = self._gauge(table)
            gauge.in_flight.pop(claim.token, None)
            gauge.chunks += chunks - 1
            gauge.resized += 1

    def replanned(self, table: LoadTable, done: Replanned) -> None:
        with self._lock:
            gauge = self._gauge(table)
            gauge.chunks, gauge.completed_chunks = done.chunks, done.completed_chunks
            gauge.base_rows, gauge.rows = done.rows, 0
            gauge.started, gauge.bytes = time.monotonic(), 0

    def building(self, table: LoadTable, progress: Building) -> None:
        share = "" if progress.share is None else f" {100 * progress.share:.0f}%"
        with self._lock:
            gauge = self._gauge(table)
            gauge.state = "building"
            gauge.doing = f"builds {progress.name}{share}"

    def finished(self, table: LoadTable) -> None:
        self._end(table, "completed")

    def failed(self, table: LoadTable, error: SnowmeltError) -> None:
        self._end(table, "failed")

    def _end(self, table: LoadTable, state: str) -> None:
        with self._lock:
            gauge = self._gauge(table)
            gauge.state, gauge.ended = state, time.monotonic()

    def _gauge(self, table: LoadTable) -> Gauge:
        target = table.job.target
        return self._gauges[target.database, str(target)]

    def snapshot(self) -> list[Gauge]:
        return list(self._gauges.values())


@contextmanager
def shown(gauges: Gauges, console: Console, *, quiet: bool) -> Iterator[None]:
    """Show the gauges until the block ends."""
    if quiet:
        yield
    elif console.is_terminal:
        live = Live(console=console, get_renderable=lambda: bars(gauges), refresh_per_second=5)
        with live:
            yield
    else:
        with _lines(gauges, console):
            yield


@contextmanager
def _lines(gauges: Gauges, console: Console) -> Iterator[None]:
    ended = threading.Event()

    def speak() -> None:
        while not ended.wait(LINE_SECONDS / 10):
            _say(gauges, console)

    thread = threading.Thread(target=speak, name="snowmelt-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        _say(gauges, console)


def _say(gauges: Gauges, console: Console) -> None:
    for gauge in gauges.snapshot():
        now = time.monotonic()
        ending = gauge.state in ("completed", "failed") and gauge.said >= 0
        moving = (
            gauge.state in ("loading", "building")
            and now - max(gauge.said, gauge.started) > LINE_SECONDS
        )
        if ending or moving:
            gauge.said = -1.0 if ending else now
            console.print(line(gauge), markup=False)


def line(gauge: Gauge) -> str:
    """One plain line about a table."""
    left = gauge.seconds_left
    parts = [
        f"{gauge.name}: {gauge.what}",
        f"{gauge.done_rows:,} rows"
        if gauge.planned_rows is None
        else f"{gauge.done_rows:,} of {gauge.planned_rows:,} rows",
        f"{gauge.completed_chunks:,} of {gauge.chunks:,} chunks",
        _speed(gauge),
        f"{_duration(left)} left" if left is not None else "",
        f"{gauge.retries:,} retries" if gauge.retries else "",
        f"{gauge.resized:,} resized" if gauge.resized else "",
    ]
    return ", ".join(part for part in parts if part)


def bars(gauges: Gauges) -> Table:
    """The gauges as a table of bars."""
    grid = Table.grid(padding=(0, 2))
    for gauge in gauges.snapshot():
        share = _share(gauge)
        left = gauge.seconds_left
        colour = {"completed": "green", "failed": "red"}.get(gauge.state, "cyan")
        grid.add_row(
            Text(gauge.name, style="bold"),
            ProgressBar(total=1.0, completed=share, width=24, complete_style=colour),
            Text(f"{100 * share:3.0f}%"),
            Text(f"{gauge.done_rows:,} rows", justify="right"),
            Text(f"{gauge.completed_chunks:,}/{gauge.chunks:,} chunks", style="dim"),
            Text(_speed(gauge)),
            Text(f"{_duration(left)} left" if left is not None else gauge.what, style=colour),
            Text(f"{gauge.retries:,} retries" if gauge.retries else "", style="yellow"),
            Text(f"{gauge.resized:,} resized" if gauge.resized else "", style="yellow"),
        )
    return grid


def _share(gauge: Gauge) -> float:
    """Of the rows; of the chunks where the rows were not counted."""
    if gauge.planned_rows is None:
        return gauge.completed_chunks / max(gauge.chunks, 1)
    return gauge.done_rows / gauge.planned_rows if gauge.planned_rows else 1.0


def _speed(gauge: Gauge) -> str:
    moved = gauge.done_rows - gauge.base_rows
    if not moved:
        return ""
    rows = moved / gauge.seconds
    return f"{rows:,.0f} rows/s, {gauge.bytes / gauge.seconds / 1e6:,.0f} MB/s"


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
