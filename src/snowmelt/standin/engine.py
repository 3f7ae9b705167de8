"""The database engine: DuckDB with fakesnow's functions, one file or memory per database."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

import duckdb
from fakesnow import info_schema, macros
from fakesnow.instance import FakeSnow

from snowmelt.standin.catalogue import Catalogue, Column, Table, Version, now
from snowmelt.standin.names import TableName, quoted, text
from snowmelt.standin.types import from_duckdb

_PLAIN = re.compile(r"[A-Z_][A-Z0-9_]*")
_HISTORY = "history␟"
HOME = "home␟"  # holds the functions, so that they are found whatever the session's database
_OWN_SCHEMAS = ("main", "_fs_information_schema", "information_schema", "pg_catalog")


@dataclass(frozen=True, slots=True)
class HistoryRule:
    """Whether earlier contents are kept, and up to how many rows a table has."""

    kept: bool = True
    rows: int = 5_000_000


class Engine:
    """DuckDB and the catalogue of what is in it."""

    def __init__(self, folder: Path | None = None, history: HistoryRule = HistoryRule()) -> None:
        self._folder = folder
        self._history = history
        self._lock = threading.RLock()
        self.creating = threading.RLock()
        """Held while a table or view is made: of two that make it IF NOT EXISTS, one finds it there."""
        self.fake = FakeSnow(db_path=folder)
        self.duck: duckdb.DuckDBPyConnection = self.fake.duck_conn
        self.duck.execute("SET GLOBAL TimeZone = 'UTC'")
        for name in (_HISTORY, HOME):
            self.duck.execute(f"ATTACH ':memory:' AS {quoted(name)}")
        self.duck.execute(macros.creation_sql(quoted(HOME)))
        self.catalogue = Catalogue(folder / "catalogue.json" if folder is not None else None)
        for path in sorted(folder.glob("*.db")) if folder is not None else ():
            self.add_database(unquote(path.stem))
        for table in self.catalogue.tables():
            self.add_database(table.name.database)

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own to the same data."""
        return self.duck.cursor()

    def add_database(self, name: str) -> None:
        """Attach the database, made if it is new; the tables in its file are taken over."""
        with self._lock:
            attached = self.duck.execute("SELECT database_name FROM duckdb_databases()").fetchall()
            if (name,) not in attached:
                path = ":memory:"
                if self._folder is not None:
                    path = str(self._folder / f"{quote(name, safe=' ')}.db")
                self.duck.execute(f"ATTACH {text(path)} AS {quoted(name)}")
                if _PLAIN.fullmatch(name):  # fakesnow's own views know plain names only
                    self.duck.execute(info_schema.per_db_creation_sql(name))
                self.duck.execute(f'CREATE SCHEMA IF NOT EXISTS {quoted(name)}."PUBLIC"')
            self.catalogue.add_schema(name)
            self._adopt(name)

    def add_schema(self, database: str, schema: str) -> None:
        with self._lock:
            self.add_database(database)
            self.duck.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(database)}.{quoted(schema)}")
            self.catalogue.add_schema(database, schema)

    def drop_schema(self, database: str, schema: str) -> None:
        self.duck.execute(f"DROP SCHEMA {quoted(database)}.{quoted(schema)} CASCADE")
        self.catalogue.drop_schema(database, schema)

    def drop_database(self, database: str) -> None:
        self.duck.execute(f"DETACH {quoted(database)}")
        self.catalogue.drop_schema(database)
        if self._folder is not None:
            (self._folder / f"{quote(database, safe=' ')}.db").unlink(missing_ok=True)

    def _adopt(self, database: str) -> None:
        """Catalogue the tables that a file came with, by DuckDB's types."""
        rows = self.duck.execute(
            "SELECT schema_name, table_name, list(column_name ORDER BY column_index),"
            " list(data_type ORDER BY column_index), list(is_nullable ORDER BY column_index)"
            f" FROM duckdb_columns() WHERE database_name = {text(database)} AND NOT internal"
            " GROUP BY 1, 2"
        ).fetchall()
        for schema, name, columns, types, nullable in rows:
            full = TableName(database, schema, name)
            if schema in _OWN_SCHEMAS or self.catalogue.find(full) is not None:
                continue
            self.catalogue.add_schema(database, schema)
            found = tuple(
                Column(column, from_duckdb(of), null)
                for column, of, null in zip(columns, types, nullable, strict=True)
            )
            self.catalogue.add(Table(full, found))
            for column in found:  # a file without companions gets them
                if column.companion is not None:
                    self.duck.execute(
                        f"ALTER TABLE {full.sql} ADD COLUMN {quoted(column.companion)}"
                        f" INTEGER DEFAULT {column.type.no_companion}"
                    )

    def preserve(self, table: Table) -> Version | None:
        """A copy of the table as it is committed now; None where none is to be kept."""
        if not self._history.kept or not table.retention_days:
            return None
        with self.cursor() as duck:
            found = duck.execute(
                "SELECT estimated_size FROM duckdb_tables() WHERE database_name = ?"
                " AND schema_name = ? AND table_name = ?",
                [table.name.database, table.name.schema, table.name.name],
            ).fetchall()
            if not found or found[0][0] > self._history.rows:
                return None
            copy = f"{quoted(_HISTORY)}.main.{quoted(f'v{self.catalogue.number()}')}"
            duck.execute(f"CREATE TABLE {copy} AS FROM {table.name.sql}")
        return Version(0, copy, table.columns)

    def changed(self, table: Table, before: Version | None) -> None:
        """The table has changed just now: what it was before is history."""
        table.changes += 1
        if before is None:
            self.discard(table.forget())
            return
        self.discard(table.keep(Version(now(), before.table, before.columns)))

    def discard(self, versions: list[Version]) -> None:
        with self.cursor() as duck:
            for version in versions:
                duck.execute(f"DROP TABLE IF EXISTS {version.table}")

    @contextmanager
    def changing(self, table: Table) -> Iterator[None]:
        """A change that is committed at once."""
        with table.lock:
            before = self.preserve(table)
            try:
                yield
            except BaseException:
                if before is not None:
                    self.discard([before])
                raise
            self.changed(table, before)
