"""Where the contract's tables are made: each kind of source gets the same rows in its own way."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from snowmelt.model import SourceTable
from snowmelt.ports import Source
from snowmelt.sources.duckdb import DuckDBSource
from snowmelt.sources.snowflake.keys import literal, quoted
from snowmelt.sources.snowflake.login import Login
from snowmelt.sources.snowflake.session import Session
from snowmelt.sources.snowflake.source import SnowflakeSource
from snowmelt.sources.snowflake.statements import relation
from snowmelt.standin.server import StandIn, StandInColumn
from tests.support import duckdb_file

Texts = Sequence[Sequence[str | None]]
"""Rows of values as text: numbers, `2024-01-31`, `2024-01-31 12:00:00.000001`, instants with an offset."""

DUCKDB_TYPES = {
    "whole": "BIGINT",
    "date": "DATE",
    "timestamp": "TIMESTAMP",
    "instant": "TIMESTAMPTZ",
    "text": "VARCHAR",
    "decimal": "DECIMAL(38,10)",
    "float": "DOUBLE",
    "folded": "VARCHAR COLLATE NOCASE",
}
SNOWFLAKE_TYPES = {
    "whole": "NUMBER(38,0)",
    "date": "DATE",
    "timestamp": "TIMESTAMP_NTZ(9)",
    "instant": "TIMESTAMP_TZ(9)",
    "text": "VARCHAR(16777216)",
    "decimal": "NUMBER(38,10)",
    "float": "FLOAT",
    "folded": "VARCHAR(16777216) COLLATE 'en-ci'",
}
ARROW_TYPES = {
    "whole": pa.int64(),
    "date": pa.date32(),
    "float": pa.float64(),
    "decimal": pa.decimal128(38, 10),
}
LIVE = ("SNOWFLAKE_ACCOUNT", "SNOWFLAKE_USER", "SNOWFLAKE_DATABASE", "SNOWFLAKE_SCHEMA")
LIVE_SECRETS = ("SNOWFLAKE_PRIVATE_KEY", "SNOWFLAKE_PASSWORD", "SNOWFLAKE_TOKEN")
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Made:
    """A table that was made: its source, opened, and how it is called there."""

    source: Source
    table: SourceTable


class Place(Protocol):
    """Makes tables of one kind of source."""

    def make(self, columns: Sequence[tuple[str, str]], rows: Texts, name: str = "t") -> Made:
        """A table of these columns (name, kind) and rows."""
        ...

    def change(self, made: Made) -> None:
        """Remove a row of the table, as somebody else would."""
        ...

    def close(self) -> None: ...


class Files:
    """A DuckDB file, or a Parquet file, in a folder."""

    def __init__(self, folder: Path, *, parquet: bool) -> None:
        self._folder, self._parquet = folder, parquet
        self._sources: list[Source] = []
        self._paths: dict[int, Path] = {}

    def make(self, columns: Sequence[tuple[str, str]], rows: Texts, name: str = "t") -> Made:
        table = quoted(name)
        declared = ", ".join(f"{quoted(n)} {DUCKDB_TYPES[kind]}" for n, kind in columns)
        statements = [f"CREATE TABLE {table} ({declared})"]
        if rows:
            values = ", ".join(f"({', '.join(map(_value, row))})" for row in rows)
            statements.append(f"INSERT INTO {table} VALUES {values}")
        folder = self._folder / str(next(_numbers))
        folder.mkdir()
        path = folder / "s.duckdb"
        if self._parquet:
            file = folder / "t.parquet"
            statements.append(f"COPY {table} TO '{file}' (FORMAT parquet)")
            duckdb_file(path, *statements)
            path.unlink()
            made = Made(DuckDBSource("files", folder), SourceTable("", "", "*.parquet"))
            path = file
        else:
            duckdb_file(path, *statements)
            made = Made(DuckDBSource("duckdb", path), SourceTable("", "", name))
        self._sources.append(made.source)
        self._paths[id(made)] = path
        return made

    def change(self, made: Made) -> None:
        # DuckDB holds its file open; what the source looks at is the time of change.
        path = self._paths[id(made)]
        stat = path.stat()
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))

    def close(self) -> None:
        for source in self._sources:
            source.close()


class Snowflake:
    """A schema of an account, real or stood in for; its tables are dropped at the end."""

    def __init__(self, login: Login, standin: StandIn | None = None) -> None:
        self._login, self._standin = login, standin
        self._session = Session(login)
        self._sources: list[Source] = []
        self._names: list[str] = []

    @classmethod
    def stood_in(cls, standin: StandIn) -> Snowflake:
        return cls(standin_login(standin, "PLACE", "CONTRACT"), standin)

    @classmethod
    def live(cls) -> Snowflake:
        """The account of the environment."""
        got = os.environ
        login = Login(
            account=got["SNOWFLAKE_ACCOUNT"],
            user=got["SNOWFLAKE_USER"],
            warehouse=got.get("SNOWFLAKE_WAREHOUSE"),
            role=got.get("SNOWFLAKE_ROLE"),
            database=got["SNOWFLAKE_DATABASE"],
            schema=got["SNOWFLAKE_SCHEMA"],
            rsa_key=got.get("SNOWFLAKE_PRIVATE_KEY"),
            passphrase=got.get("SNOWFLAKE_PRIVATE_KEY_PASSPHRASE"),
            password=got.get("SNOWFLAKE_PASSWORD"),
            token=got.get("SNOWFLAKE_TOKEN"),
            authenticator=got.get("SNOWFLAKE_AUTHENTICATOR"),
            host=got.get("SNOWFLAKE_HOST"),
        )
        return cls(login)

    def make(self, columns: Sequence[tuple[str, str]], rows: Texts, name: str = "t") -> Made:
        name = f"{name} {os.getpid()} {next(_numbers)}"
        place = SourceTable(str(self._login.database), str(self._login.schema), name)
        typed = [(column, SNOWFLAKE_TYPES[kind]) for column, kind in columns]
        if self._standin:
            self._standin.create_table(
                place.database,
                place.schema,
                name,
                [StandInColumn(column, type) for column, type in typed],
                _arrow(columns, rows),
            )
        else:
            self._insert(place, typed, rows)
        self._names.append(relation(place.database, place.schema, name))
        return Made(self.another(), place)

    def another(self) -> SnowflakeSource:
        """A session more."""
        source = SnowflakeSource(self._login)
        self._sources.append(source)
        return source

    def _insert(self, place: SourceTable, typed: Sequence[tuple[str, str]], rows: Texts) -> None:
        table = relation(place.database, place.schema, place.name)
        declared = ", ".join(f"{quoted(name)} {type}" for name, type in typed)
        self._session.rows(f"CREATE TRANSIENT TABLE {table} ({declared})")
        casts = ", ".join(f"column{n}::{type}" for n, (_, type) in enumerate(typed, 1))
        for start in range(0, len(rows), 1_000):
            some = rows[start : start + 1_000]
            values = ", ".join(f"({', '.join(map(_value, row))})" for row in some)
            self._session.rows(f"INSERT INTO {table} SELECT {casts} FROM VALUES {values}")

    def change(self, made: Made) -> None:
        place = made.table
        table = relation(place.database, place.schema, place.name)
        self._session.rows(f'DELETE FROM {table} WHERE "i" = 3')

    def close(self) -> None:
        for source in self._sources:
            source.close()
        for name in self._names:
            self._session.rows(f"DROP TABLE IF EXISTS {name}")
        self._session.close()


def standin_login(standin: StandIn, database: str, schema: str) -> Login:
    """How the stand-in is logged in to by its default user."""
    return Login(
        account=standin.account,
        user=standin.user,
        password=standin.password,
        host=standin.host,
        port=standin.port,
        protocol="http",
        warehouse="WH",
        role="LOADER",
        database=database,
        schema=schema,
    )


def _value(text: str | None) -> str:
    return "NULL" if text is None else literal(text)


def _arrow(columns: Sequence[tuple[str, str]], rows: Texts) -> pa.Table:
    """Times stay text, which the stand-in reads with all their digits; numbers and dates have Arrow types."""
    arrays = []
    for place, (_, kind) in enumerate(columns):
        texts = pa.array([row[place] for row in rows], pa.string())
        arrays.append(texts.cast(ARROW_TYPES.get(kind, pa.string())))
    return pa.Table.from_arrays(arrays, names=[name for name, _ in columns])
