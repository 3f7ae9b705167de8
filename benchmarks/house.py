"""Indexes: a table with four of them loaded with all in place, and with all dropped and built at the end.

Rows come from Parquet into an empty table, or into one that they replace. Seconds run from the first claim to the
moment when the table is completed; `build` is what of it comes after the last chunk.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import LiteralString

import duckdb
import psycopg
from rich.console import Console
from rich.table import Table

import snowmelt
from benchmarks.modes import BATCH_SIZE, CONNECTIONS, CREATE_TABLE, ROWS_OF
from benchmarks.rounds import Series, alternate

_INDEXES: LiteralString = """
    ALTER TABLE bench ADD PRIMARY KEY (id);
    CREATE INDEX by_changed ON bench (changed);
    CREATE INDEX by_code ON bench (code);
    CREATE INDEX by_name ON bench (lower(name), day);
"""
_SECONDS: LiteralString = """
    SELECT extract(epoch FROM l.completed_at - min(c.claimed_at))::float8,
           extract(epoch FROM l.completed_at - max(c.completed_at))::float8
    FROM migration_status.load l JOIN migration_status.chunk c USING (table_id)
    GROUP BY l.table_id ORDER BY l.table_id DESC LIMIT 1
"""
KEPT = "indexes kept"


@dataclass(frozen=True, slots=True)
class House:
    """How a table is loaded, and whether it has indexes."""

    settings: Mapping[str, object]
    indexes: bool = True


HOUSES: Mapping[str, House] = {
    "no index": House({}, indexes=False),
    KEPT: House({}),
    "indexes dropped and built": House({"disable_index": True}),
    "replace: swapped in with its indexes": House({"mode": "replace"}),
}


def run(folder: Path, dsn: str, rounds: int, rows: int) -> None:
    """Measure and print."""
    file = folder / f"house-{rows}.parquet"
    if not file.exists():
        statement = f"COPY ({ROWS_OF.format(rows=rows)}) TO '{file}' (FORMAT parquet, ROW_GROUP_SIZE 100000)"
        duckdb.connect().execute(statement)
    for connections in CONNECTIONS:
        builds: dict[str, list[float]] = {name: [] for name in HOUSES}
        ways = {
            name: partial(moved, folder, file, dsn, house, connections, builds[name])
            for name, house in HOUSES.items()
        }
        found = alternate(ways, rounds, lambda name: prepare(dsn, HOUSES[name]))
        shown(found, builds, rows, connections)


def prepare(dsn: str, house: House) -> None:
    """The target, empty."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS migration_status CASCADE")
        connection.execute("DROP TABLE IF EXISTS bench, bench_all")
        connection.execute(CREATE_TABLE)
        if house.indexes:
            connection.execute(_INDEXES)
        connection.execute("CHECKPOINT")


def moved(
    folder: Path, file: Path, dsn: str, house: House, connections: int, builds: list[float]
) -> float:
    """Seconds from the first claim to the end."""
    table = {
        "source": file.name,
        "target": "bench",
        "chunking_columns": ["id"],
        "batch_size": BATCH_SIZE,
        **house.settings,
    }
    source = {"source_name": "bench", "connection": f"files:///{folder}", "tables": [table]}
    document = {"postgres": {"dsn": dsn}, "parallel_threads": connections, "sources": [source]}
    path = folder / "house.json"
    path.write_text(json.dumps(document))
    with snowmelt.open(snowmelt.load_config(path)) as mover:
        mover.run(mover.plan()).raise_for_failures()
    with psycopg.connect(dsn) as connection:
        row = connection.execute(_SECONDS).fetchone()
    assert row is not None
    builds.append(float(row[1]))
    return float(row[0])


def shown(
    found: Mapping[str, Series], builds: Mapping[str, list[float]], rows: int, connections: int
) -> None:
    title = f"{rows:,} rows x 10 columns, 4 indexes, {connections} connections"
    table = Table(title=title, title_justify="left")
    table.add_column("way")
    for name in ("seconds", "of it after the rows", "rows/s", f"beside {KEPT}"):
        table.add_column(name, justify="right")
    for name, series in found.items():
        build = sorted(builds[name])[len(builds[name]) // 2]
        table.add_row(
            name,
            f"{series.seconds:,.1f}",
            f"{build:,.1f}",
            f"{rows / series.seconds:,.0f}",
            f"{series.ratio(found[KEPT]):.2f}",
        )
    Console().print(table)
