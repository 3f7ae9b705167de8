"""The ways a table gets into PostgreSQL that the benchmark sets side by side."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import LiteralString
from uuid import UUID

import psycopg
import pyarrow as pa
from psycopg import sql

import snowmelt
from benchmarks.data import Shape
from snowmelt.chunking.chunks import Chunk, WholeTable
from snowmelt.model import Column, SourceTable, Tag, TargetTable
from snowmelt.postgres import ddl
from snowmelt.postgres.connect import Server, Session
from snowmelt.postgres.encode import EncodedColumn, Encoder
from snowmelt.sources.duckdb import DuckDBSource
from snowmelt.types import target_type

_MOVING: LiteralString = """
    SELECT extract(epoch FROM max(completed_at) - min(claimed_at))::float8 FROM migration_status.chunk
"""
TABLE = TargetTable("", "public", "bench")
TAG = Tag(UUID(int=0))
_HEADER_BYTES = 19
_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class Bench:
    """One shape in one folder, to one server."""

    shape: Shape
    folder: Path
    dsn: str

    @property
    def file(self) -> Path:
        return self.shape.parquet(self.folder)

    def columns(self) -> tuple[Column, ...]:
        source = DuckDBSource("files", self.folder)
        try:
            return source.describe(SourceTable("", "", self.file.name)).columns
        finally:
            source.close()

    def empty_table(self) -> None:
        """Drop what the last way loaded, with its ledger, and create the table anew."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("DROP SCHEMA IF EXISTS migration_status CASCADE")
            connection.execute("DROP TABLE IF EXISTS bench")
            connection.execute("CHECKPOINT")
        session = Session(Server.of({}, dsn=self.dsn))
        ddl.create(session, TABLE, self.columns())
        session.close()

    def stream(self) -> Iterator[pa.RecordBatch]:
        """The whole table, batch by batch."""
        source = DuckDBSource("files", self.folder)
        table = SourceTable("", "", self.file.name)
        relation = source.describe(table)
        chunk = Chunk(0, WholeTable(), None)
        with source.read(table, chunk, relation.columns, relation.snapshot, TAG) as reading:
            yield from reading
        source.close()

    def encoder(self) -> Encoder:
        session = Session(Server.of({}, dsn=self.dsn))
        with session.transaction() as connection:
            found = ddl.columns(connection, TABLE)
        session.close()
        columns = []
        for column, target in zip(self.columns(), found, strict=True):
            wire = target_type(target.type)
            assert wire is not None
            columns.append(EncodedColumn(column.name, column.type, wire))
        return Encoder(columns, ())


@dataclass(frozen=True, slots=True)
class Encoded:
    """A whole table as the bytes of binary COPY."""

    header: bytes
    pieces: tuple[bytes, ...]
    trailer: bytes

    @classmethod
    def of(cls, bench: Bench) -> Encoded:
        encoder = bench.encoder()
        header = encoder.header()
        pieces = tuple(piece.data for batch in bench.stream() for piece in encoder.pieces(batch))
        return cls(header, pieces, encoder.trailer())

    @classmethod
    def loaded(cls, dsn: str) -> Encoded:
        """What the server gives of the table that is loaded; its rows come one by one."""
        statement = sql.SQL("COPY {} TO STDOUT (FORMAT binary)").format(ddl.identifier(TABLE))
        with psycopg.connect(dsn) as connection, connection.cursor().copy(statement) as copy:
            first, *rows, trailer = (bytes(row) for row in copy)
        rows = [first[_HEADER_BYTES:], *rows]
        pieces = [b"".join(rows[at : at + _ROWS]) for at in range(0, len(rows), _ROWS)]
        return cls(first[:_HEADER_BYTES], tuple(pieces), trailer)

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.header) + sum(map(len, self.pieces)) + len(self.trailer)


def raw_copy(dsn: str, encoded: Encoded, connections: int) -> None:
    """Binary COPY of bytes encoded beforehand: what PostgreSQL takes."""
    statement = sql.SQL("COPY {} FROM STDIN (FORMAT binary)").format(ddl.identifier(TABLE))

    def send(pieces: Sequence[bytes]) -> None:
        with psycopg.connect(dsn) as connection:
            connection.execute("SET LOCAL synchronous_commit = off")
            with connection.cursor().copy(statement) as copy:
                copy.write(encoded.header)
                for piece in pieces:
                    copy.write(piece)
                copy.write(encoded.trailer)

    shares = [encoded.pieces[start::connections] for start in range(connections)]
    side_by_side([partial(send, share) for share in shares])


def snowmelt_run(
    bench: Bench, connections: int, batch_size: int, session: dict[str, str] | None = None
) -> float:
    """The whole of it: plan, ledger, chunks, finish with ANALYZE. Returns the seconds from the first claim to
    the last commit, by the ledger: planning and ANALYZE do not grow with the rows."""
    path = bench.folder / "bench.json"
    document = {
        "postgres": {"dsn": bench.dsn, "session": session or {}},
        "parallel_threads": connections,
        "batch_size": batch_size,
        "sources": [
            {
                "source_name": "bench",
                "connection": f"files:///{bench.folder}",
                "tables": [
                    {
                        "source": bench.file.name,
                        "target": "bench",
                        "chunking_columns": [bench.shape.key],
                    }
                ],
            }
        ],
    }
    path.write_text(json.dumps(document))
    with snowmelt.open(snowmelt.load_config(path)) as mover:
        mover.run(mover.plan()).raise_for_failures()
    return moving_seconds(bench.dsn)


def moving_seconds(dsn: str) -> float:
    """From the first claim to the last commit, by the ledger."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(_MOVING).fetchone()
    assert row is not None
    return float(row[0])


def duckdb_attach(bench: Bench, python: Path, connections: int) -> float:
    """DuckDB's own writer, its postgres extension: INSERT into an attached table, one process a connection,
    each with a share of the rows. Returns the seconds of the slowest INSERT."""
    seconds: list[float] = []

    def insert(share: int) -> None:
        program = _INSERT.format(
            dsn=bench.dsn, file=bench.file, share=share, shares=connections, key="file_row_number"
        )
        done = subprocess.run(
            [python, "-c", program], capture_output=True, text=True, check=True, timeout=600
        )
        seconds.append(float(done.stdout))

    side_by_side([partial(insert, share) for share in range(connections)])
    return max(seconds)


_INSERT = """
import time, duckdb
from duckdb_extensions import import_extension
import_extension("postgres_scanner")
c = duckdb.connect()
c.execute("SET enable_progress_bar = false")
c.execute("LOAD postgres_scanner")
c.execute("ATTACH '{dsn}' AS pg (TYPE postgres)")
started = time.perf_counter()
rows = "read_parquet('{file}', file_row_number = true)"
c.execute("INSERT INTO pg.public.bench SELECT * EXCLUDE (file_row_number) FROM " + rows
          + " WHERE {key} // 100000 % {shares} = {share}")
print(time.perf_counter() - started)
"""


def read_only(bench: Bench) -> None:
    """Read and drop."""
    for _ in bench.stream():
        pass


def encode_only(bench: Bench) -> float:
    """Seconds for encoding the whole table, already read."""
    batches = list(bench.stream())
    encoder = bench.encoder()
    encoder.header()
    started = time.perf_counter()
    for batch in batches:
        for _ in encoder.pieces(batch):
            pass
    return time.perf_counter() - started


def side_by_side(tasks: Sequence[Callable[[], object]]) -> None:
    threads = [threading.Thread(target=task) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
