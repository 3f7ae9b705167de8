"""Snowflake's wire into PostgreSQL: the bare connector, snowmelt, dlt and Sling, from one stand-in for Snowflake.

The bare connector fetches one query's batches as Arrow and drops them. A ratio is its time over a way's time, on
as many connections, the median over the rounds.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psycopg
from psycopg import sql
from rich.console import Console
from rich.table import Table

from benchmarks.peers import PEER_SCHEMA, Dlt, Sling
from benchmarks.rounds import Series, WayFailed, alternate
from benchmarks.sessions import SessionCost
from benchmarks.transfer import Transfer
from benchmarks.warehouse import FEW, FIELDS, NAME, ROWS_PER_CHUNK, Warehouse, select
from benchmarks.ways import Encoded, raw_copy
from snowmelt.standin.server import StandIn

CONNECTIONS = (1, 2, 4)
EXTRACTIONS = ("query_per_chunk", "one_query")
FEW_ROWS = 100_000
"""For dlt's default way, which moves about 10,000 rows/s."""
_TARGET = "public.bench"


@dataclass(slots=True)
class Way:
    """A line of the table: what it does, on how many connections, and how many rows it moves."""

    name: str
    connections: int
    rows: int
    move: Callable[[], float | None]
    target: str | None = _TARGET
    """Where the rows are to be counted afterwards; None where they are dropped."""
    compared: bool = True
    """Whether its time is set beside the bare connector's."""
    failure: str = ""


def run(folder: Path, dsn: str, rounds: int, rows: int, *, peers: bool) -> None:
    """Measure and print."""
    with StandIn.start(rows_per_chunk=ROWS_PER_CHUNK, history=False) as standin:
        warehouse = Warehouse(standin, rows, min(rows, FEW_ROWS))
        warehouse.fill()
        transfers = [
            Transfer(warehouse, folder, dsn, extraction, connections)
            for extraction in EXTRACTIONS
            for connections in CONNECTIONS
        ]
        _empty(dsn)
        transfers[0].move()
        encoded = Encoded.loaded(dsn)
        with psycopg.connect(dsn) as connection:
            connection.execute("DROP TABLE IF EXISTS like_bench")
            connection.execute("CREATE TABLE like_bench (LIKE bench)")
        ways = [*_bare(warehouse), *_alone(warehouse, transfers[0].queries, dsn, encoded)]
        ways += [_snowmelt(transfer) for transfer in transfers]
        ways += _peers(warehouse, folder, dsn) if peers else []
        by_name = {f"{way.name} {way.connections}": way for way in ways}
        series = alternate(
            {name: partial(_guarded, way) for name, way in by_name.items()},
            rounds,
            before=lambda _: _empty(dsn),
            after=lambda name: _count(by_name[name], dsn),
        )
        _print(ways, list(series.values()), warehouse, encoded.size)
        _notes(SessionCost.measured(warehouse, transfers[1]))


def _bare(warehouse: Warehouse) -> list[Way]:
    name = "bare connector, fetch and drop"
    return [Way(name, n, warehouse.rows, partial(warehouse.fetch, n), None) for n in CONNECTIONS]


def _alone(warehouse: Warehouse, queries: Sequence[str], dsn: str, encoded: Encoded) -> list[Way]:
    """What no client can be faster than: the stand-in's answers that nobody fetches, and COPY of bytes that were
    encoded beforehand."""
    rows = warehouse.rows
    asked = {"one query": [select(NAME)], f"the {len(queries)} queries of chunks": queries}

    def copy(connections: int) -> float:
        with psycopg.connect(dsn) as connection:
            connection.execute("CREATE TABLE bench (LIKE like_bench)")
        started = time.perf_counter()
        raw_copy(dsn, encoded, connections)
        return time.perf_counter() - started

    server = [
        Way(f"stand-in alone, {name}", 1, rows, partial(warehouse.answer, list(one)), None, False)
        for name, one in asked.items()
    ]
    return server + [
        Way("raw COPY of encoded bytes, no source", n, rows, partial(copy, n), compared=False)
        for n in CONNECTIONS
    ]


def _snowmelt(transfer: Transfer) -> Way:
    return Way(
        f"snowmelt, {transfer.extraction}",
        transfer.connections,
        transfer.warehouse.rows,
        transfer.move,
    )


def _peers(warehouse: Warehouse, folder: Path, dsn: str) -> list[Way]:
    standin, rows, few = warehouse.standin, warehouse.rows, warehouse.few
    slow = Dlt(folder, standin, dsn, FEW)
    fast = Dlt(folder, standin, dsn, NAME, "pyarrow", "parquet")
    sling = Sling(folder, standin, dsn, NAME)
    ways = [
        Way("dlt 1.31, INSERT VALUES (its default)", 1, few, slow.move, slow.target),
        Way("dlt 1.31, pyarrow, Parquet by ADBC", 1, rows, fast.move, fast.target),
        Way("Sling 1.4.11, use_bulk=false", 1, rows, sling.move, sling.target),
    ]
    peers: tuple[Dlt | Sling, ...] = (slow, fast, sling)
    for way, peer in zip(ways, peers, strict=True):
        try:
            peer.prepare()
        except WayFailed as error:
            way.failure = str(error)
    return ways


def _guarded(way: Way) -> float | None:
    """Run a way. A peer that can't run is left out of further rounds."""
    try:
        return None if way.failure else way.move()
    except WayFailed as error:
        way.failure = str(error)
        return None


def _count(way: Way, dsn: str) -> None:
    """Hold what was loaded against what was to be loaded."""
    if way.failure or way.target is None:
        return
    with psycopg.connect(dsn) as connection:
        name = sql.Identifier(*way.target.split("."))
        row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(name)).fetchone()
    if row != (way.rows,):
        way.failure = f"loaded {row} rows of {way.rows:,}"


def _empty(dsn: str) -> None:
    """Drop what the last way loaded, with its ledger."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS migration_status CASCADE")
        connection.execute("DROP TABLE IF EXISTS bench")
        for schema in (PEER_SCHEMA, f"{PEER_SCHEMA}_staging"):
            connection.execute(
                sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema))
            )
        connection.execute("CHECKPOINT")


def _print(ways: list[Way], series: list[Series], warehouse: Warehouse, size: int) -> None:
    table = Table(
        title=f"wire: {warehouse.rows:,} rows x {len(FIELDS)} columns, {size / 1e6:,.0f} MB as binary COPY, "
        f"chunks of {ROWS_PER_CHUNK:,} rows"
    )
    table.add_column("way")
    for column in ("connections", "rows", "rows/s", "ratio to bare", "s", "whole run, s"):
        table.add_column(column, justify="right")
    bare = {one.connections: series[at] for at, one in enumerate(ways[: len(CONNECTIONS)])}
    for way, one in zip(ways, series, strict=True):
        if way.failure:
            table.add_row(f"{way.name}: {way.failure}", "", "", "-", "", "")
            continue
        # Rows differ where a way is slow, so that rates are compared, not seconds.
        ratio = one.ratio(bare[way.connections]) * way.rows / warehouse.rows
        table.add_row(
            way.name,
            str(way.connections),
            f"{way.rows:,}",
            f"{way.rows / one.seconds:,.0f}",
            (f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.3f}") if way.compared else "",
            f"{one.seconds:.2f}",
            f"{statistics.median(one.whole):.2f}",
        )
    Console(width=140).print(table)


def _notes(cost: SessionCost) -> None:
    print(cost)
    for note in (
        f"Client, stand-in and PostgreSQL share {os.cpu_count()} cores.",
        "Every way from Snowflake has in its time what the stand-in does alone: it runs the query and encodes the "
        "whole result before its answer. With more than one connection that overlaps the client's work.",
        "s is from the first claim to the last commit for snowmelt, the pipeline's run for dlt, all of Sling.",
        "Peers load on one connection or on as many as their defaults open; their ratio is to the bare connector "
        "on one.",
        f"dlt's default way has {FEW_ROWS:,} rows, so that a round does not take minutes; rows/s stay comparable.",
        "dlt is given its columns, since its dialect asks the INFORMATION_SCHEMA for columns that the stand-in "
        "has not; that spares it a statement.",
        "Sling with use_bulk=false reads through its driver; its normal path unloads to a stage.",
    ):
        print(f"- {note}")
