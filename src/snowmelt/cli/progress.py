"""A run while it runs: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from snowmelt.gauges import Gauge, Gauges, clock, line, speed
from snowmelt.periodic import every

LINE_SECONDS = 10.0
"""Between two plain lines about a table that moves."""


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
        try:
            with every(LINE_SECONDS / 10, lambda: _say(gauges, console), "progress"):
                yield
        finally:
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
            Text(speed(gauge)),
            Text(f"{clock(left)} left" if left is not None else gauge.what, style=colour),
            Text(f"{gauge.retries:,} retries" if gauge.retries else "", style="yellow"),
            Text(f"{gauge.resized:,} resized" if gauge.resized else "", style="yellow"),
        )
    return grid


def _share(gauge: Gauge) -> float:
    """Of the rows; of the chunks where the rows were not counted."""
    if gauge.planned_rows is None:
        return gauge.completed_chunks / max(gauge.chunks, 1)
    return gauge.done_rows / gauge.planned_rows if gauge.planned_rows else 1.0
