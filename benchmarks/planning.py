"""Planning: what it takes to cut a table into many chunks, and to write them to the ledger.

The table is in the stand-in for Snowflake, a process of its own: the CPU is that of the planning process alone.
Each size is planned by an even key, which one query counts, and by one of which a second query counts everything
again. The ledger's seconds run from the first byte to the commit.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import psycopg
from rich.console import Console
from rich.table import Table

import snowmelt
from snowmelt.config import Config, load_config
from snowmelt.model import Identity
from snowmelt.postgres.connect import Server, Session
from snowmelt.postgres.loads import PostgresLoads
from snowmelt.postgres.migrations import migrate_ledger
from snowmelt.postgres.runs import PostgresRuns
from snowmelt.standin.server import StandIn, StandInColumn

CHUNKS = (1_000, 10_000, 100_000)
ROWS_PER_CHUNK = 50
DATABASE, SCHEMA = "BENCH", "PLANNING"
KEYS: Mapping[str, tuple[str, str]] = {
    "number": ("NUMBER(38,0)", "range * 1000"),
    "timestamp, all on one day": (
        "TIMESTAMP_NTZ(9)",
        "TIMESTAMP '2024-01-01' + to_microseconds(range)",
    ),
}


@dataclass(slots=True)
class Cost:
    """Of one table: chunks, statements to the source, and seconds, round by round."""

    chunks: int = 0
    aggregated: int = 0
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    ledger: list[float] = field(default_factory=list)


def run(folder: Path, dsn: str, rounds: int) -> None:
    """Measure and print."""
    costs: dict[tuple[str, int], Cost] = {}
    with StandIn.start(history=False) as standin:
        for kind, (type, expression) in KEYS.items():
            for chunks in CHUNKS:
                standin.create_table(
                    DATABASE,
                    SCHEMA,
                    _name(kind, chunks),
                    [StandInColumn("k", type)],
                    query=f"SELECT {expression} AS k FROM range({chunks * ROWS_PER_CHUNK})",
                )
                costs[kind, chunks] = Cost()
        for _ in range(rounds):
            for (kind, chunks), cost in costs.items():
                _measure(
                    load_config(_config(folder, standin, dsn, _name(kind, chunks))),
                    dsn,
                    standin,
                    cost,
                )
    _print(costs)


def _name(kind: str, chunks: int) -> str:
    return f"{kind.partition(',')[0]}_{chunks}".upper()


def _measure(config: Config, dsn: str, standin: StandIn, cost: Cost) -> None:
    with snowmelt.open(config) as mover:
        standin.reset_stats()
        cpu, wall = time.process_time(), time.perf_counter()
        (table,) = mover.plan().tables
        cost.cpu.append(time.process_time() - cpu)
        cost.wall.append(time.perf_counter() - wall)
    cost.aggregated = sum("GROUP BY" in text for text in standin.stats().statements)
    cost.chunks = len(table.chunks)
    with _ledger(dsn) as session:
        run_id = uuid4()
        PostgresRuns(session).open(run_id, Identity("c", "e", ("s",)), 1, {})
        wall = time.perf_counter()
        PostgresLoads(session).add(run_id, table)
        cost.ledger.append(time.perf_counter() - wall)


@contextmanager
def _ledger(dsn: str) -> Iterator[Session]:
    session = Session(Server.of({}, dsn=dsn))
    try:
        migrate_ledger(session)
        yield session
    finally:
        session.close()
        with psycopg.connect(dsn) as connection:
            connection.execute("DROP SCHEMA migration_status CASCADE")


def _config(folder: Path, standin: StandIn, dsn: str, name: str) -> Path:
    table = {"source": name, "chunking_columns": ["k"], "batch_size": ROWS_PER_CHUNK}
    path = folder / "planning.json"
    document = {
        "postgres": {"dsn": dsn},
        "snowflake": standin.login(),
        "sources": [
            {
                "source_name": "s",
                "source_sf_database": DATABASE,
                "source_sf_schema": SCHEMA,
                "tables": [table],
            }
        ],
    }
    path.write_text(json.dumps(document))
    return path


def _print(costs: Mapping[tuple[str, int], Cost]) -> None:
    grid = Table(title="planning and writing to the ledger, medians", title_justify="left")
    for name in ("key", "chunks", "aggregated queries", "own CPU, s", "wall, s", "ledger, s"):
        grid.add_column(name, justify="left" if name == "key" else "right")
    for (kind, _), cost in costs.items():
        seconds = (statistics.median(some) for some in (cost.cpu, cost.wall, cost.ledger))
        grid.add_row(kind, f"{cost.chunks:,}", str(cost.aggregated), *(f"{s:.2f}" for s in seconds))
    Console().print(grid)
