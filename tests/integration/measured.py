"""Tables of one column in DuckDB and in the stand-in: measured as a preflight does, and loaded as a run does."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString, Protocol
from uuid import UUID

import duckdb
import psycopg
import pyarrow as pa
from psycopg import sql

from snowmelt.chunking.chunks import Chunk, WholeTable
from snowmelt.errors import ValueDoesNotFit
from snowmelt.model import Relation, SourceTable, Tag, TargetColumn, TargetState
from snowmelt.ports import Source
from snowmelt.postgres.encode import EncodedColumn, Encoder
from snowmelt.preflight.findings import findings
from snowmelt.preflight.questions import Answer, Question, questions
from snowmelt.refusal import Refusal
from snowmelt.sources import duckdb_measures
from snowmelt.sources.duckdb import DuckDBSource
from snowmelt.sources.snowflake import measures as snowflake_measures
from snowmelt.sources.snowflake import statements
from snowmelt.sources.snowflake.session import Session
from snowmelt.sources.snowflake.source import SnowflakeSource
from snowmelt.standin.server import StandIn, StandInColumn
from snowmelt.types import created_type, target_type
from tests.contracts.places import standin_login
from tests.support import Database, duckdb_file

_numbers = itertools.count(1)
TAG = Tag(UUID(int=1), "db", 1)


@dataclass(frozen=True, slots=True)
class Made:
    """A table that was made, and what of it was found."""

    source: Source
    table: SourceTable
    relation: Relation
    path: Path | None = None


class Maker(Protocol):
    """One kind of source."""

    def make(self, type: str, values: Sequence[Any]) -> Made:
        """A table (n, v) of these values, numbered from 0: as SQL for DuckDB, as Arrow's for Snowflake."""
        ...

    def ask(self, made: Made, asked: Sequence[Question], filter: str | None = None) -> list[Answer]:
        """The answers of the one query."""
        ...

    def close(self) -> None: ...


class DuckDB:
    """A file for each table."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def make(self, type: str, values: Sequence[Any]) -> Made:
        path = duckdb_file(
            self._folder / f"{next(_numbers)}.duckdb",
            f'CREATE TABLE t (n INTEGER NOT NULL, "v v" {type})',
            *(f"INSERT INTO t VALUES ({n}, {value})" for n, value in enumerate(values)),
        )
        source, table = DuckDBSource("duckdb", path), SourceTable("", "", "t")
        return Made(source, table, source.describe(table), path)

    def ask(self, made: Made, asked: Sequence[Question], filter: str | None = None) -> list[Answer]:
        assert made.path is not None
        with duckdb.connect(made.path, read_only=True) as connection:
            (row,) = connection.execute(duckdb_measures.measures("t", asked, filter)).fetchall()
        return list(row)

    def close(self) -> None:
        """Each source closes its own."""


class Snowflake:
    """A table in the stand-in for each."""

    def __init__(self, standin: StandIn) -> None:
        self._standin = standin
        self._login = standin_login(standin, "PLACE", "MEASURED")
        self._session = Session(self._login)

    def make(self, type: str, values: Sequence[Any]) -> Made:
        table = SourceTable("PLACE", "MEASURED", f"t{next(_numbers)}")
        rows = pa.table({"n": pa.array(range(len(values)), pa.int32()), "v v": pa.array(values)})
        declared = [StandInColumn("n", "NUMBER(9,0)", False), StandInColumn("v v", type)]
        self._standin.create_table(table.database, table.schema, table.name, declared, rows)
        source = SnowflakeSource(self._login)
        return Made(source, table, source.describe(table))

    def ask(self, made: Made, asked: Sequence[Question], filter: str | None = None) -> list[Answer]:
        name = statements.table(made.table)
        (row,) = self._session.rows(snowflake_measures.measures(name, "", asked, filter))
        return list(row)

    def close(self) -> None:
        self._session.close()


def target(type: str, *, nullable: bool = True) -> TargetState:
    """A table that has a column of the type, as the server spells it."""
    columns = (TargetColumn("n", "integer", False), TargetColumn("v v", type, nullable))
    return TargetState(True, columns)


def measured(maker: Maker, made: Made, type: str, *, nullable: bool = True) -> tuple[Refusal, ...]:
    """What a preflight finds."""
    asked = questions(made.relation, target(type, nullable=nullable))
    return findings(asked, maker.ask(made, asked)) if asked else ()


def loads_exactly(database: Database, made: Made, type: str, *, nullable: bool = True) -> bool:
    """Whether all values are loaded into the type, and are there as they are in their own type."""
    batches = _batches(made)
    column = made.relation.columns[1]
    wide = created_type(column.type, column.source_type) or "text"
    # A UUID or JSON is the same in every form; numbers are compared as such, with one zero more or less.
    as_text = "::text" if wide == "uuid" else ""
    with psycopg.connect(database.dsn) as connection:
        try:
            _load(
                connection, made.relation, batches, "narrow", type, "" if nullable else " NOT NULL"
            )
        except (ValueDoesNotFit, psycopg.Error):
            return False
        _load(connection, made.relation, batches, "wide", wide, "")
        if type in {"uuid", "json", "jsonb"}:
            return True
        compare: LiteralString = (
            f"SELECT bool_and(n.v IS NOT DISTINCT FROM w.v{as_text}) "
            "FROM narrow n JOIN wide w USING (n)"
        )
        row = connection.execute(compare).fetchone()
        return bool(row and row[0])


def _batches(made: Made) -> list[pa.RecordBatch]:
    whole = Chunk(0, WholeTable(), None)
    relation = made.relation
    with made.source.read(made.table, whole, relation.columns, relation.snapshot, TAG) as reading:
        return list(reading)


def _load(
    connection: psycopg.Connection,
    relation: Relation,
    batches: Sequence[pa.RecordBatch],
    name: str,
    type: str,
    null: str,
) -> None:
    create = f"CREATE TEMP TABLE {{}} (n integer, v {type}{null}) ON COMMIT DROP"
    table = sql.Identifier(name)
    connection.execute(sql.SQL(create).format(table))
    found = connection.execute(
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = to_regclass(%s) AND attname = 'v'",
        [name],
    ).fetchone()
    number, wire = target_type("integer"), target_type(found[0]) if found else None
    assert number is not None
    assert wire is not None
    types = [column.type for column in relation.columns]
    encoder = Encoder(
        [EncodedColumn("n", types[0], number), EncodedColumn("v v", types[1], wire)], ()
    )
    statement = sql.SQL("COPY {} FROM STDIN (FORMAT binary)").format(table)
    with connection.cursor().copy(statement) as copy:
        copy.write(encoder.header())
        for batch in batches:
            for piece in encoder.pieces(batch):
                copy.write(piece.data)
        copy.write(encoder.trailer())
