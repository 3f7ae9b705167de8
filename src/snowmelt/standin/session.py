"""One login: where it is, its parameters, its transaction. Its statements run one at a time."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import duckdb
import pyarrow as pa
from fakesnow.conn import FakeSnowflakeConnection
from sqlglot import Expr, exp

from snowmelt.standin.catalogue import Table, Version, now
from snowmelt.standin.engine import HOME, Engine
from snowmelt.standin.environment import Environment, VirtualTable
from snowmelt.standin.names import quoted, text
from snowmelt.standin.typed import Typed, raw
from snowmelt.standin.types import DATE, LTZ, NTZ, varchar

VERSION = "9.33.1"


class Session:
    """A login's state. Hold `lock` while a statement runs."""

    def __init__(self, engine: Engine, number: int, user: str) -> None:
        self.engine = engine
        self.number = number
        self.user = user
        self.database: str | None = None
        self.schema: str | None = None
        self.warehouse: str | None = None
        self.role = "SYSADMIN"
        self.secondary_roles = "ALL"
        self.parameters: dict[str, object] = {}
        self.lock = threading.RLock()
        self.duck = engine.cursor()
        self.fake = FakeSnowflakeConnection(
            self.duck, {}, create_database=False, create_schema=False
        )
        self.transaction: dict[int, tuple[Table, Version | None]] | None = None
        self.last_query = ""
        self.move(None, None)

    def close(self) -> None:
        with self.lock, suppress(duckdb.Error):
            self.rollback()
            self.duck.close()

    def move(self, database: str | None, schema: str | None) -> None:
        """Make these the defaults of unqualified names."""
        self.database, self.schema = database, schema
        path = f"{quoted(HOME)}.main"
        if database is not None:
            path = f"{quoted(database)}.{quoted(schema or 'main')},{path}"
        self.duck.execute(f"SET search_path = {text(path)}")
        self.fake.database = database
        self.fake._schema = schema
        self.fake.database_set = database is not None
        self.fake.schema_set = schema is not None

    def environment(self, virtual_table: VirtualTable) -> Environment:
        """For one statement: its CURRENT_TIMESTAMP stands still."""
        return Environment(
            self.engine.catalogue,
            self.duck,
            self.database,
            self.schema,
            self._values(),
            virtual_table,
        )

    def _values(self) -> Mapping[str, Typed]:
        moment = datetime.datetime.fromtimestamp(0, datetime.UTC) + datetime.timedelta(
            microseconds=now()
        )
        stamp = moment.strftime("%Y-%m-%d %H:%M:%S.%f")
        instant = Typed(raw(f"CAST('{stamp}+00:00' AS TIMESTAMPTZ)"), LTZ, False)
        words = {
            "CURRENT_USER": self.user.upper(),
            "CURRENT_ROLE": self.role,
            "CURRENT_WAREHOUSE": self.warehouse,
            "CURRENT_DATABASE": self.database,
            "CURRENT_SCHEMA": self.schema,
            "CURRENT_VERSION": VERSION,
            "CURRENT_ACCOUNT": "STANDIN",
            "CURRENT_REGION": "LOCAL",
            "CURRENT_SESSION": str(self.number),
            "CURRENT_SECONDARY_ROLES": f'{{"roles":"","value":"{self.secondary_roles}"}}',
            "LAST_QUERY_ID": self.last_query,
        }
        return {
            **{
                name: Typed(raw(text(word)), varchar(), word is None)
                for name, word in words.items()
            },
            "CURRENT_TIMESTAMP": instant,
            "SYSDATE": Typed(raw(f"CAST('{stamp}' AS TIMESTAMP)"), NTZ, False),
            "LOCALTIMESTAMP": instant,
            "CURRENT_DATE": Typed(raw(f"CAST('{stamp[:10]}' AS DATE)"), DATE, False),
        }

    def sql(self, tree: Expr) -> str:
        """DuckDB's SQL for a rewritten statement: fakesnow translates the functions left in it."""
        # Snowflake's own statement is rewritten before; fakesnow has no public way to do only this.
        return str(self.fake.cursor()._transform(tree, None).sql(dialect="duckdb"))

    def count(self, sql: str) -> int:
        """Run a statement that changes rows; how many."""
        ((rows,),) = self.duck.execute(sql).fetchall()
        return int(rows)

    def rows(self, sql: str) -> tuple[pa.Table, list[str]]:
        """Run a query; its rows and DuckDB's types of the columns."""
        relation = self.duck.sql(sql)
        return relation.to_arrow_table(), [str(of) for of in relation.types]

    def begin(self) -> None:
        if self.transaction is None:
            self.duck.execute("BEGIN TRANSACTION")
            self.transaction = {}

    def commit(self) -> None:
        if self.transaction is None:
            return
        changes, self.transaction = self.transaction, None
        self.duck.execute("COMMIT")
        for table, before in changes.values():
            with table.lock:
                self.engine.changed(table, before)

    def rollback(self) -> None:
        if self.transaction is None:
            return
        changes, self.transaction = self.transaction, None
        self.duck.execute("ROLLBACK")
        self.engine.discard([before for _, before in changes.values() if before is not None])

    @contextmanager
    def changing(self, table: Table) -> Iterator[None]:
        """A change of the table's rows, in the transaction or in one of its own."""
        if self.parameters.get("AUTOCOMMIT") is False:
            self.begin()
        if self.transaction is None:
            with self.engine.changing(table):
                yield
            return
        if id(table) not in self.transaction:
            self.transaction[id(table)] = (table, self.engine.preserve(table))
        yield


def is_true(node: Expr | None) -> bool:
    return isinstance(node, exp.Boolean) and bool(node.this)
