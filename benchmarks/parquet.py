"""Parquet into PostgreSQL: raw COPY, snowmelt and DuckDB side by side, same rows, same connections.

Raw is binary COPY of bytes that were encoded beforehand: what the server takes from one client. A ratio is
raw's time over a way's time, the median over the rounds; near 1 means that nothing but the server is waited for.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.data import Shape, lineitem, wide
from benchmarks.peers import environment
from benchmarks.rounds import Series, Way, alternate
from benchmarks.ways import (
    Bench,
    Encoded,
    duckdb_attach,
    encode_only,
    raw_copy,
    read_only,
    snowmelt_run,
)

SERVERS_OWN = {"synchronous_commit": "on"}
# snowmelt needs another DuckDB.
DUCKDB = ("duckdb==1.5.5", "duckdb-extensions==1.5.5", "duckdb-extension-postgres-scanner==1.5.5")


def run(folder: Path, dsn: str, rounds: int, lineitem_rows: int, wide_rows: int) -> None:
    """Measure and print both shapes on 1 and 2 connections."""
    peers = environment(folder, "duckdb", DUCKDB)
    for shape in (lineitem(lineitem_rows), wide(wide_rows)):
        bench = Bench(shape, folder, dsn)
        bench.empty_table()
        _profile(bench)
        for connections in (1, 2):
            _compare(bench, connections, rounds, peers)


def _compare(bench: Bench, connections: int, rounds: int, peers: Path) -> None:
    encoded = Encoded.of(bench)
    # A chunk of the size that a run would have: below, starting its query shows.
    size = bench.shape.rows // 4
    ways: dict[str, Way] = {
        "raw COPY of encoded bytes": lambda: raw_copy(bench.dsn, encoded, connections),
        "snowmelt from Parquet": lambda: snowmelt_run(bench, connections, size),
        "snowmelt, server's own settings": lambda: snowmelt_run(
            bench, connections, size, SERVERS_OWN
        ),
        "DuckDB 1.5 postgres extension": lambda: duckdb_attach(bench, peers, connections),
    }
    series = alternate(ways, rounds, lambda _: bench.empty_table())
    _print(bench.shape, connections, encoded.size, series)


def _print(shape: Shape, connections: int, size: int, series: dict[str, Series]) -> None:
    names = "1 connection" if connections == 1 else f"{connections} connections"
    table = Table(title=f"{shape.name}: {shape.rows:,} rows, {size / 1e6:,.0f} MB, {names}")
    table.add_column("way")
    for column in ("rows/s", "MB/s", "ratio to raw", "whole run, s"):
        table.add_column(column, justify="right")
    raw = next(iter(series.values()))
    for name, one in series.items():
        table.add_row(
            name,
            f"{shape.rows / one.seconds:,.0f}",
            f"{size / one.seconds / 1e6:,.0f}",
            f"{one.ratio(raw):.2f}",
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
