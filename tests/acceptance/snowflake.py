"""Snowflake tables for acceptance tests: in a stand-in, read by snowmelt processes over HTTP."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import LiteralString

import pyarrow as pa
from psycopg import sql

import snowmelt
from snowmelt.config import load_config
from snowmelt.standin.server import StandIn, StandInColumn
from tests.support import Database, write_config

DATABASE, SCHEMA = "ANALYTICS", "BI"
MINUTES = (
    StandInColumn("id", "NUMBER(38,0)", nullable=False),
    StandInColumn("at", "TIMESTAMP_NTZ(9)"),
    StandInColumn("note", "VARCHAR(16777216)"),
)


def minutes(
    standin: StandIn, table: str, rows: int, *, shuffled: bool = False, **more: object
) -> None:
    """A table of a row a minute, 1,440 a day; `shuffled` mixes the days up, as a result's batches then do."""
    order = "hash(range)" if shuffled else "range"
    query = (
        "SELECT range AS id, TIMESTAMP '2024-01-01' + to_minutes(range) AS at, "
        f"'row ' || range || repeat('.', (range % 7)::INT) AS note FROM range({rows}) ORDER BY {order}"
    )
    standin.create_table(DATABASE, SCHEMA, table, MINUTES, query=query, **more)  # type: ignore[arg-type]


def expected_minutes(rows: int) -> list[tuple[object, ...]]:
    """What PostgreSQL gives of such a table, ordered by id."""
    return [(n, f"row {n}" + "." * (n % 7)) for n in range(rows)]


_WRONG_TIMES: LiteralString = """
    SELECT count(*) FROM {} WHERE at IS DISTINCT FROM '2024-01-01'::timestamp + id * interval '1 min'
"""
_NOTES: LiteralString = "SELECT id, note FROM {} ORDER BY id"


def target_minutes(database: Database, table: str) -> list[tuple[object, ...]]:
    """The same from the target, once each time is the one of its id."""
    name = sql.Identifier(table)
    with database.connect() as connection:
        wrong = connection.execute(sql.SQL(_WRONG_TIMES).format(name)).fetchone()
        assert wrong == (0,)
        return connection.execute(sql.SQL(_NOTES).format(name)).fetchall()


def snowflake_config(
    folder: Path,
    database: Database,
    standin: StandIn,
    *tables: Mapping[str, object],
    account: Mapping[str, object] | None = None,
    source: Mapping[str, object] | None = None,
    **top: object,
) -> Path:
    """A config file with one source, `s`, in the stand-in's account."""
    document = {
        "postgres": {"dsn": database.dsn},
        "snowflake": {
            "account": standin.account,
            "user": standin.user,
            "password": standin.password,
            "host": standin.host,
            "port": standin.port,
            "protocol": "http",
            "warehouse": "WH",
            "role": "LOADER",
            **(account or {}),
        },
        "lease_seconds": 2,
        "sources": [
            {
                "source_name": "s",
                "source_sf_database": DATABASE,
                "source_sf_schema": SCHEMA,
                "tables": list(tables),
                **(source or {}),
            }
        ],
        **top,
    }
    return write_config(folder, {k: v for k, v in document.items() if v is not None})


def migrate(config: Path) -> None:
    """A run of the config in this process; raises what it fails with."""
    with snowmelt.open(load_config(config, environ={})) as mover:
        mover.run(mover.plan()).raise_for_failures()


def table_of(
    columns: Mapping[str, tuple[str, Sequence[object]]],
) -> tuple[list[StandInColumn], pa.Table]:
    """Columns (name -> type, values) as the stand-in takes them; dates and times are text."""
    declared = [StandInColumn(name, type) for name, (type, _) in columns.items()]
    arrays = [_array(type, values) for type, values in columns.values()]
    return declared, pa.Table.from_arrays(arrays, names=list(columns))


def _array(type: str, values: Sequence[object]) -> pa.Array:
    number = re.fullmatch(r"NUMBER\((\d+),(\d+)\)", type)
    if number is None:
        return pa.array(values)
    exact = [None if value is None else Decimal(str(value)) for value in values]
    return pa.array(exact, pa.decimal128(int(number[1]), int(number[2])))
