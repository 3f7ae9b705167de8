"""`make bench`: raw COPY, snowmelt and DuckDB side by side, same rows, same connections, alternating.

Raw is binary COPY of bytes that were encoded beforehand: what the server takes from one client. A ratio is
raw's time over a way's time, the median over the rounds; near 1 means that nothing but the server is waited for.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import time
import venv
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.data import Shape, lineitem, wide
from benchmarks.ways import (
    Bench,
    Encoded,
    duckdb_attach,
    encode_only,
    raw_copy,
    read_only,
    snowmelt_run,
)
from snowmelt.demo.place import roomy_temp
from snowmelt.demo.postgres import LocalPostgres

# A server that was sized for loading: no checkpoint falls into a round.
SERVER = {"max_wal_size": "8GB", "shared_buffers": "512MB"}
SERVERS_OWN = {"synchronous_commit": "on"}
PEERS = ("duckdb==1.5.5", "duckdb-extensions==1.5.5", "duckdb-extension-postgres-scanner==1.5.5")


@dataclass(slots=True)
class Series:
    """Seconds of one way, round by round; `whole` has what the way does besides moving rows."""

    moving: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lineitem-rows", type=int, default=2_000_000)
    parser.add_argument("--wide-rows", type=int, default=200_000)
    options = parser.parse_args()
    folder = roomy_temp() / "snowmelt-bench"
    folder.mkdir(exist_ok=True)
    peers = _peers(folder)
    with LocalPostgres.temporary(settings=SERVER) as server:
        for shape in (lineitem(options.lineitem_rows), wide(options.wide_rows)):
            bench = Bench(shape, folder, server.dsn())
            bench.empty_table()
            _profile(bench)
            for connections in (1, 2):
                _compare(bench, connections, options.rounds, peers)


def _compare(bench: Bench, connections: int, rounds: int, peers: Path) -> None:
    encoded = Encoded.of(bench)
    # A chunk of the size that a run would have: below, starting its query shows.
    size = bench.shape.rows // 4
    ways: dict[str, Callable[[], float | None]] = {
        "raw COPY of encoded bytes": lambda: raw_copy(bench, encoded, connections),
        "snowmelt from Parquet": lambda: snowmelt_run(bench, connections, size),
        "snowmelt, server's own settings": lambda: snowmelt_run(
            bench, connections, size, SERVERS_OWN
        ),
        "DuckDB 1.5 postgres extension": lambda: duckdb_attach(bench, peers, connections),
    }
    series = {name: Series() for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            bench.empty_table()
            started = time.perf_counter()
            moving = way()
            whole = time.perf_counter() - started
            series[name].whole.append(whole)
            series[name].moving.append(moving if moving is not None else whole)
    _print(bench.shape, connections, encoded.size, series)


def _print(shape: Shape, connections: int, size: int, series: dict[str, Series]) -> None:
    names = "1 connection" if connections == 1 else f"{connections} connections"
    table = Table(title=f"{shape.name}: {shape.rows:,} rows, {size / 1e6:,.0f} MB, {names}")
    table.add_column("way")
    for column in ("rows/s", "MB/s", "ratio to raw", "whole run, s"):
        table.add_column(column, justify="right")
    raw = next(iter(series.values())).moving
    for name, one in series.items():
        seconds = statistics.median(one.moving)
        ratio = statistics.median(r / s for r, s in zip(raw, one.moving, strict=True))
        table.add_row(
            name,
            f"{shape.rows / seconds:,.0f}",
            f"{size / seconds / 1e6:,.0f}",
            f"{ratio:.2f}",
            f"{statistics.median(one.whole):.2f}",
        )
    Console(width=110).print(table)


def _profile(bench: Bench) -> None:
    """Where a client's time goes, each stage alone on one thread."""
    started = time.perf_counter()
    read_only(bench)
    read = time.perf_counter() - started
    encode = encode_only(bench)
    values = bench.shape.rows * len(bench.columns())
    print(
        f"{bench.shape.name}: reading Parquet {read:.2f} s, encoding {encode:.2f} s "
        f"({values / encode / 1e6:,.0f}M values/s)"
    )


def _peers(folder: Path) -> Path:
    """The Python of an environment with the peers, which need another DuckDB than snowmelt."""
    home = folder / "peers"
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-qq", *PEERS], check=True)
    return python


if __name__ == "__main__":
    main()
