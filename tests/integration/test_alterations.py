"""The statements of another type are taken by the server, and lose what they say and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import LiteralString

import psycopg
import pyarrow as pa
import pytest
from psycopg import errors as pg

from snowmelt.alterations import retype
from snowmelt.demo.postgres import LocalPostgres
from snowmelt.types import created_type, loadable, target_type
from tests.support import Database

SAMPLES: dict[LiteralString, LiteralString] = {
    "boolean": "true",
    "smallint": "7",
    "integer": "7",
    "bigint": "7",
    "numeric(10,2)": "7.25",
    "numeric": "7.25",
    "real": "7.5",
    "double precision": "7.5",
    "text": "'7'",
    "character varying(5)": "'7'",
    "bytea": "'7'",
    "date": "'2024-02-29'",
    "time without time zone": "'12:30'",
    "timestamp without time zone": "'2024-02-29 12:30'",
    "timestamp with time zone": "'2024-02-29 12:30+00'",
    "uuid": "'00000000-0000-0000-0000-000000000007'",
    "json": "'{\"a\": 7}'",
    "jsonb": "'{\"a\": 7}'",
    "point": "'(1,2)'",
}
SOURCES = (
    pa.bool_(), pa.int16(), pa.int32(), pa.int64(), pa.decimal128(18, 2), pa.float32(), pa.float64(), pa.string(),
    pa.binary(), pa.date32(), pa.time64("us"), pa.timestamp("us"), pa.timestamp("us", "UTC"),
)  # fmt: skip
WANTED = sorted({type for one in SOURCES if (type := created_type(one)) is not None})


def refused(old: str, new: str) -> bool:
    """Whether a plan ever says so: some source of the new type can't be loaded into the old one."""
    wire = target_type(old)
    types = [one for one in SOURCES if created_type(one) == new]
    return any(wire is None or not loadable(one, wire) for one in types)


@pytest.fixture(scope="module")
def connection(postgres: LocalPostgres) -> Iterator[psycopg.Connection]:
    with Database("", postgres.create_database("alterations")).connect() as connection:
        yield connection


@pytest.mark.parametrize("old", SAMPLES)
def test_every_statement_runs(connection: psycopg.Connection, old: LiteralString) -> None:
    """In a session of another zone, since a person's has any."""
    connection.execute("SET TimeZone = 'Asia/Kathmandu'")
    for new in WANTED:
        if not refused(old, new):
            continue
        made = retype("public.t", "c", old, new)
        connection.execute(
            "DROP TABLE IF EXISTS t; CREATE TABLE t (c "
            + old
            + "); INSERT INTO t VALUES ("
            + SAMPLES[old]
            + ")"
        )
        ((before,),) = connection.execute("SELECT c::text FROM t").fetchall()
        try:
            connection.execute(made.statement)
        except (pg.DataError, pg.InvalidTextRepresentation):
            assert "it fails on" in made.loss or "and fails on" in made.loss, made
            continue
        ((type, after),) = connection.execute(
            "SELECT format_type(atttypid, atttypmod), (SELECT c::text FROM t) FROM pg_attribute "
            "WHERE attrelid = 't'::regclass AND attname = 'c' AND NOT attisdropped"
        ).fetchall()
        # The new column is one that the source's values can be loaded into.
        wire = target_type(type)
        assert wire is not None
        assert all(loadable(one, wire) for one in SOURCES if created_type(one) == new)
        if not made.loss and new not in ("text", "bytea"):  # these show a value otherwise
            shown = {"true": "1"}.get(before, str(before))
            assert str(after).startswith(shown[:10]), made


def test_times_keep_their_moment(database: Database) -> None:
    for old, new, kept in (
        ("timestamp", "timestamptz", "2024-02-29 12:30:00+00"),
        ("timestamptz", "timestamp", "2024-02-29 12:30:00"),
        ("date", "timestamptz", "2024-02-29 00:00:00+00"),
        ("timestamptz", "date", "2024-02-29"),
    ):
        spelled = {
            "timestamp": "timestamp without time zone",
            "timestamptz": "timestamp with time zone",
        }
        made = retype("t", "c", spelled.get(old, old), new)
        with database.connect() as connection:
            connection.execute(
                f"SET TimeZone = 'UTC'; DROP TABLE IF EXISTS t; CREATE TABLE t (c {old}); "
                "INSERT INTO t VALUES ('2024-02-29 12:30')"
            )
            connection.execute("SET TimeZone = 'Asia/Kathmandu'")
            connection.execute(made.statement)
            connection.execute("SET TimeZone = 'UTC'")
            assert connection.execute("SELECT c::text FROM t").fetchone() == (kept,)
