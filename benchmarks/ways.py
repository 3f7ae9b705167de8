"""The ways a table gets into PostgreSQL that the benchmark sets side by side."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pyarrow as pa
from psycopg import sql

import snowmelt
from benchmarks.data import Shape
from snowmelt.chunks import Chunk, WholeTable
from snowmelt.model import Column, SourceTable, TargetTable
from snowmelt.postgres import ddl
from snowmelt.postgres.connect import Server, Session
from snowmelt.postgres.encode import EncodedColumn, Encoder
from snowmelt.sources.duckdb import DuckDBSource
from snowmelt.types import target_type

TABLE = TargetTable("", "public", "bench")


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

    def batches(self) -> list[pa.RecordBatch]:
        source = DuckDBSource("files", self.folder)
        table = SourceTable("", "", self.file.name)
        relation = source.describe(table)
        chunk = Chunk(0, WholeTable(), None)
        with source.read(table, chunk, relation.columns, relation.snapshot) as batches:
            read = list(batches)
        source.close()
        return read

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
        pieces = tuple(piece.data for batch in bench.batches() for piece in encoder.pieces(batch))
        return cls(header, pieces, encoder.trailer())


def raw_copy(bench: Bench, encoded: Encoded, connections: int) -> None:
    """Binary COPY of bytes encoded beforehand: what PostgreSQL takes."""
    statement = sql.SQL("COPY {} FROM STDIN (FORMAT binary)").format(ddl.identifier(TABLE))

    def send(pieces: Sequence[bytes]) -> None:
        with psycopg.connect(bench.dsn) as connection:
            connection.execute("SET LOCAL synchronous_commit = off")
            with connection.cursor().copy(statement) as copy:
                copy.write(encoded.header)
                for piece in pieces:
                    copy.write(piece)
                copy.write(encoded.trailer)

    shares = [encoded.pieces[start::connections] for start in range(connections)]
    side_by_side([lambda share=share: send(share) for share in shares])  # type: ignore[misc]


def snowmelt_run(
    bench: Bench, connections: int, batch_size: int, session: dict[str, object] | None = None
) -> None:
    """The whole of it: plan, ledger, chunks, finish with ANALYZE."""
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
    import json

    path.write_text(json.dumps(document))
    with snowmelt.open(snowmelt.load_config(path)) as mover:
        mover.run(mover.plan()).raise_for_failures()


def duckdb_attach(bench: Bench, python: Path) -> None:
    """DuckDB's own writer: INSERT INTO an attached PostgreSQL table, by its postgres extension."""
    program = f"""
import duckdb
from duckdb_extensions import import_extension
import_extension("postgres_scanner")
c = duckdb.connect()
c.execute("SET enable_progress_bar = false")
c.execute("LOAD postgres_scanner")
c.execute("ATTACH '{bench.dsn}' AS pg (TYPE postgres)")
import time
started = time.perf_counter()
c.execute("INSERT INTO pg.public.bench SELECT * FROM read_parquet('{bench.file}')")
print(time.perf_counter() - started)
"""
    done = subprocess.run(
        [python, "-c", program], capture_output=True, text=True, check=False, timeout=600
    )
    if done.returncode:
        sys.exit(f"DuckDB's postgres extension failed: {done.stderr[-500:]}")


def read_only(bench: Bench, connections: int) -> None:
    """Read and drop."""
    side_by_side([bench.batches] * connections)


def side_by_side(tasks: Sequence[Callable[[], object]]) -> None:
    threads = [threading.Thread(target=task) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
