"""How far each table is, as this process sees it: what progress is told from."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from snowmelt.errors import SnowmeltError
from snowmelt.formats import counted
from snowmelt.model import Claim, LoadTable, Outcome
from snowmelt.ports import Building, Replanned
from snowmelt.status import TableStatus


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
    """`observer.Observer`: counts what the workers tell, table by table."""

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


def line(gauge: Gauge) -> str:
    """One plain line about a table."""
    left = gauge.seconds_left
    parts = [
        f"{gauge.name}: {gauge.what}",
        f"{gauge.done_rows:,} rows"
        if gauge.planned_rows is None
        else f"{gauge.done_rows:,} of {gauge.planned_rows:,} rows",
        f"{gauge.completed_chunks:,} of {gauge.chunks:,} chunks",
        speed(gauge),
        f"{clock(left)} left" if left is not None else "",
        f"{gauge.retries:,} retries" if gauge.retries else "",
        f"{gauge.resized:,} resized" if gauge.resized else "",
    ]
    return ", ".join(part for part in parts if part)


def together(gauges: Sequence[Gauge]) -> str:
    """One plain line about all tables."""
    states = Counter(gauge.state for gauge in gauges)
    planned = [gauge.planned_rows for gauge in gauges]
    known = [rows for rows in planned if rows is not None]
    moved = sum(gauge.done_rows - gauge.base_rows for gauge in gauges)
    seconds = max((gauge.seconds for gauge in gauges if gauge.state != "waiting"), default=0.0)
    rows = f"{sum(gauge.done_rows for gauge in gauges):,}"
    if len(known) == len(planned):
        rows += f" of {sum(known):,}"
    chunks, retries = sum(gauge.chunks for gauge in gauges), sum(gauge.retries for gauge in gauges)
    parts = [
        f"{states['completed']:,} of {counted(len(gauges), 'table')} completed",
        f"{states['failed']:,} failed" if states["failed"] else "",
        f"{rows} rows",
        f"{sum(gauge.completed_chunks for gauge in gauges):,} of {counted(chunks, 'chunk')}",
        f"{moved / seconds:,.0f} rows/s" if moved and seconds else "",
        f"{retries:,} retries" if retries else "",
    ]
    return ", ".join(part for part in parts if part)


def speed(gauge: Gauge) -> str:
    """By the mean of this process; empty before anything moved."""
    moved = gauge.done_rows - gauge.base_rows
    if not moved:
        return ""
    rows = moved / gauge.seconds
    return f"{rows:,.0f} rows/s, {gauge.bytes / gauge.seconds / 1e6:,.0f} MB/s"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds, as a clock shows them."""
    hours, rest = divmod(round(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
