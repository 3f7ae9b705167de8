"""Load modes: a million rows upserted, or inserted where half of them are there, beside plain COPY.

Rows come from Parquet. Each way finds the target as it says, made anew before each round, with a primary key where
nothing else is said. Seconds run from the first claim to the last commit.
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
from benchmarks.rounds import Series, alternate

ROWS_OF: LiteralString = """
    SELECT i AS id, TIMESTAMP '2024-01-01' + to_seconds(i) AS changed, i * 7 % 1000 AS a, i % 17 AS b,
           i / 3.0 AS c, 'customer ' || i AS name, md5(i::VARCHAR) AS code, i % 2 = 0 AS flag,
           DATE '2024-01-01' + (i % 365)::INT AS day, 'note ' || (i % 1000) AS note
    FROM range({rows}) r(i)
"""
CREATE_TABLE: LiteralString = """
    CREATE TABLE bench (id bigint, changed timestamp, a bigint, b bigint, c double precision, name text,
                        code text, flag boolean, day date, note text)
"""
_MOVING: LiteralString = """
    SELECT extract(epoch FROM max(completed_at) - min(claimed_at))::float8 FROM migration_status.chunk
"""
CONNECTIONS = (1, 2)
BATCH_SIZE = 100_000
PLAIN = "append: COPY"


@dataclass(frozen=True, slots=True)
class Load:
    """A mode, and what the target has: rows of the source by a condition, aged or as they are."""

    mode: str
    there: str = "false"
    aged: bool = False
    key: bool = True


LOADS: Mapping[str, Load] = {
    "append: COPY, no key": Load("append", key=False),
    PLAIN: Load("append"),
    "insert_only, none there": Load("insert_only"),
    "insert_only, half there": Load("insert_only", "id % 2 = 0"),
    "upsert, none there": Load("upsert"),
    "upsert, half there and older": Load("upsert", "id % 2 = 0", aged=True),
    "upsert, all there and older": Load("upsert", "true", aged=True),
    "upsert, all there as they are": Load("upsert", "true"),
}


def run(folder: Path, dsn: str, rounds: int, rows: int) -> None:
    """Measure and print."""
    file = folder / f"modes-{rows}.parquet"
    if not file.exists():
        statement = f"COPY ({ROWS_OF.format(rows=rows)}) TO '{file}' (FORMAT parquet, ROW_GROUP_SIZE 100000)"
        duckdb.connect().execute(statement)
    fill(dsn, file)
    for connections in CONNECTIONS:
        ways = {
            name: partial(moved, folder, file, dsn, load, connections)
            for name, load in LOADS.items()
        }
        found = alternate(ways, rounds, lambda name: prepare(dsn, LOADS[name]))
        shown(found, rows, connections)


def fill(dsn: str, file: Path) -> None:
    """All rows once, to make each target from."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS migration_status CASCADE")
        connection.execute("DROP TABLE IF EXISTS bench, bench_all")
        connection.execute(CREATE_TABLE)
    moved(file.parent, file, dsn, LOADS["append: COPY, no key"], 2)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("ALTER TABLE bench RENAME TO bench_all")


def prepare(dsn: str, load: Load) -> None:
    """The target as the way is to find it."""
    changed = "changed - interval '1 day'" if load.aged else "changed"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS migration_status CASCADE")
        connection.execute("DROP TABLE IF EXISTS bench")
        connection.execute(CREATE_TABLE)
        connection.execute(
            f"INSERT INTO bench SELECT id, {changed}, a, b, c, name, code, flag, day, note "
            f"FROM bench_all WHERE {load.there} ORDER BY id".encode()
        )
        if load.key:
            connection.execute("ALTER TABLE bench ADD PRIMARY KEY (id)")
        connection.execute("VACUUM ANALYZE bench")
        connection.execute("CHECKPOINT")


def moved(folder: Path, file: Path, dsn: str, load: Load, connections: int) -> float:
    """Seconds from the first claim to the last commit."""
    table = {
        "source": file.name,
        "target": "bench",
        "chunking_columns": ["id"],
        "batch_size": BATCH_SIZE,
        "mode": load.mode,
    }
    if load.mode != "append":
        table["uniqueness_columns"] = ["id"]
    if load.mode == "upsert":
        table |= {"source_watermark": "changed", "overlap_seconds": 0}
    source = {"source_name": "bench", "connection": f"files:///{folder}", "tables": [table]}
    document = {
        "postgres": {"dsn": dsn},
        "parallel_threads": connections,
        "sources": [source],
    }
    path = folder / "modes.json"
    path.write_text(json.dumps(document))
    with snowmelt.open(snowmelt.load_config(path)) as mover:
        report = mover.run(mover.plan())
    report.raise_for_failures()
    with psycopg.connect(dsn) as connection:
        row = connection.execute(_MOVING).fetchone()
    assert row is not None
    return float(row[0])


def shown(found: Mapping[str, Series], rows: int, connections: int) -> None:
    table = Table(
        title=f"{rows:,} rows x 10 columns, {connections} connections", title_justify="left"
    )
    table.add_column("way")
    for name in ("rows/s", "beside append: COPY"):
        table.add_column(name, justify="right")
    for name, series in found.items():
        table.add_row(name, f"{rows / series.seconds:,.0f}", f"{series.ratio(found[PLAIN]):.2f}")
    Console().print(table)
