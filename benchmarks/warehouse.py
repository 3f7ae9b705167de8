"""The wire's table in a stand-in for Snowflake, and the bare connector that fetches it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import snowflake.connector
from snowflake.connector import SnowflakeConnection

from snowmelt.standin.server import StandIn, StandInColumn

DATABASE, SCHEMA, NAME, FEW = "BENCH", "PUBLIC", "EVENTS", "EVENTS_FEW"
ROWS_PER_CHUNK = 50_000
"""Of 120 bytes as Arrow: Snowflake's chunks of such rows are about as large, and grow within a result."""


@dataclass(frozen=True, slots=True)
class Field:
    """A column, and DuckDB's expression that makes it from `i`."""

    name: str
    type: str
    value: str


FIELDS = (
    Field("ID", "NUMBER(38,0)", "i"),
    Field("AMOUNT", "NUMBER(18,2)", "((hash(i) % 100000000) / 100)::DECIMAL(18,2)"),
    Field("NAME", "VARCHAR", "'name ' || (hash(i + 1) % 100000)"),
    Field("CITY", "VARCHAR", "['Berlin', 'Paris', 'Rome', 'Madrid'][1 + (hash(i + 2) % 4)::INT]"),
    Field("NOTE", "VARCHAR", "'carefully final deposits ' || hash(i + 3)::VARCHAR"),
    Field("AT", "TIMESTAMP_NTZ(9)", "TIMESTAMP '2024-01-01' + to_microseconds({micros})"),
    Field("DAY", "DATE", "DATE '2024-01-01' + (i * 100 // {rows})::INT"),
    Field("OK", "BOOLEAN", "hash(i + 5) % 2 = 0"),
    Field("SCORE", "FLOAT", "(hash(i + 6) % 1000000) / 7.0::DOUBLE"),
    Field(
        "SEEN",
        "TIMESTAMP_TZ(9)",
        "TIMESTAMPTZ '2024-01-01 00:00:00+00' + to_microseconds({micros})",
    ),
)
KEY = "DAY"
_MICROS = "(hash(i + 4) % 30000000000000)::BIGINT"


@dataclass(frozen=True, slots=True)
class Warehouse:
    """A stand-in with the table of `rows` rows, and one of `few` rows for the ways that take minutes."""

    standin: StandIn
    rows: int
    few: int

    def fill(self) -> None:
        """Make both tables."""
        columns = [StandInColumn(one.name, one.type) for one in FIELDS]
        for name, rows in ((NAME, self.rows), (FEW, self.few)):
            values = ", ".join(one.value.format(micros=_MICROS, rows=rows) for one in FIELDS)
            query = f"SELECT {values} FROM range({rows}) t(i)"
            self.standin.create_table(DATABASE, SCHEMA, name, columns, query=query)

    def connect(self) -> SnowflakeConnection:
        place = {"database": DATABASE, "schema": SCHEMA}
        # As snowmelt asks for numbers; without it they come as doubles.
        return snowflake.connector.connect(
            **self.standin.login(), **place, arrow_number_to_decimal=True
        )

    def fetch(self, connections: int) -> float:
        """One query, its batches fetched as Arrow and dropped, by so many threads. Seconds from the query on."""
        with closing(self.connect()) as connection:
            started = time.perf_counter()
            cursor = connection.cursor()
            cursor.execute(select(NAME))
            batches = cursor.get_result_batches() or []
            with ThreadPoolExecutor(connections) as pool:
                rows = sum(pool.map(lambda one: one.to_arrow(connection).num_rows, batches))
            seconds = time.perf_counter() - started
        assert rows == self.rows
        return seconds

    def answer(self, statements: Sequence[str]) -> float:
        """Seconds from sending statements, one after the other, until each has its answer, whose chunks nobody
        fetches: the server's work alone."""
        with closing(self.connect()) as connection:
            started = time.perf_counter()
            for statement in statements:
                connection.cursor().execute(statement)
            return time.perf_counter() - started


def select(name: str) -> str:
    """The query of a whole table."""
    columns = ", ".join(f'"{one.name}"' for one in FIELDS)
    return f'SELECT {columns} FROM "{DATABASE}"."{SCHEMA}"."{name}"'
