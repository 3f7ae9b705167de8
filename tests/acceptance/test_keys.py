"""Tables with keys of every kind, and none named in the config, plan and load right."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from snowmelt.standin.server import StandIn, StandInColumn
from tests.acceptance.snowflake import DATABASE, SCHEMA, snowflake_config
from tests.support import Database, config_for, duckdb_file, snowmelt, write_config

ROWS = 600
KEYS: Mapping[str, tuple[tuple[str, ...], str, str]] = {
    # table: (columns of the primary key, DuckDB's expression of `k`, its type in DuckDB)
    "whole": (("k",), "(n * 7919) % 1000003", "BIGINT"),
    "sparse": (("k",), "CASE WHEN n < 30 THEN n ELSE 5000000000 + n END", "BIGINT"),
    "decimal": (("k",), "((n - 300) * 1.25)::DECIMAL(38,10)", "DECIMAL(38,10)"),
    "float": (("k",), "CASE WHEN n = 0 THEN 'nan'::DOUBLE ELSE (n - 300) / 7 END", "DOUBLE"),
    "uuid_text": (
        ("k",),
        "CASE WHEN n % 2 = 0 THEN upper(u) ELSE replace(u, '-', '') END",
        "VARCHAR",
    ),
    "text": (
        ("k",),
        "CASE n % 3 WHEN 0 THEN 'É' WHEN 1 THEN 'CUST-' ELSE 'cust-' END || n",
        "VARCHAR",
    ),
    "date": (("k",), "DATE '2024-01-01' + n::INTEGER", "DATE"),
    "timestamp": (("k",), "TIMESTAMP '2024-01-01' + to_seconds(n * n)", "TIMESTAMP"),
    "instant": (("k",), "TIMESTAMPTZ '2024-01-01 00:00:00+00' + to_minutes(n)", "TIMESTAMPTZ"),
    "stamped": (
        ("k", "n"),
        "CASE WHEN n % 2 = 0 THEN TIMESTAMP '2024-02-01' ELSE TIMESTAMP '2024-01-01' + to_hours(n) END",
        "TIMESTAMP",
    ),
    "keyless": ((), "n", "BIGINT"),
}
TYPES = {
    "BIGINT": "NUMBER(38,0)",
    "DECIMAL(38,10)": "NUMBER(38,10)",
    "DOUBLE": "FLOAT",
    "VARCHAR": "VARCHAR(16777216)",
    "DATE": "DATE",
    "TIMESTAMP": "TIMESTAMP_NTZ(9)",
    "TIMESTAMPTZ": "TIMESTAMP_TZ(9)",
}
TABLES = [{"source": name} for name in KEYS]


def _query(expression: str) -> str:
    rows = f"SELECT range, range AS n, md5(range::VARCHAR)::UUID::VARCHAR AS u FROM range({ROWS})"
    return f"SELECT {expression} AS k, n FROM ({rows})"


def _files(folder: Path) -> Path:
    statements = []
    for name, (key, expression, type) in KEYS.items():
        unique = f", PRIMARY KEY ({', '.join(key)})" if key else ""
        statements += [
            f'CREATE TABLE "{name}" (k {type}, n BIGINT{unique})',
            f'INSERT INTO "{name}" {_query(expression)}',
        ]
    return duckdb_file(folder / "keys.duckdb", *statements)


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with StandIn.start() as server:
        for name, (key, expression, type) in KEYS.items():
            columns = [
                StandInColumn("k", TYPES[type]),
                StandInColumn("n", "NUMBER(9,0)", nullable=False),
            ]
            server.create_table(
                DATABASE, SCHEMA, name, columns, query=_query(expression), primary_key=key
            )
        yield server


def _expect_all(database: Database, config: Path, strategies: Mapping[str, str]) -> None:
    planned = snowmelt(config, "plan", "--json")
    assert planned.returncode == 0, planned.stderr + planned.stdout
    tables = {
        table["source"].rpartition(".")[2]: table for table in json.loads(planned.stdout)["tables"]
    }
    assert {name: table["strategy"] for name, table in tables.items()} == dict(strategies)

    moved = snowmelt(config, "migrate", "-q")

    assert moved.returncode == 0, moved.stderr
    for name in KEYS:
        counts = database.execute(
            f'SELECT count(*), count(DISTINCT n), min(n), max(n) FROM "{name}"'
        )
        assert counts == [(ROWS, ROWS, 0, ROWS - 1)], name


def test_files(database: Database, tmp_path: Path) -> None:
    document = config_for(database, _files(tmp_path), *TABLES, batch_size=50, parallel_threads=3)
    _expect_all(
        database,
        write_config(tmp_path, document),
        {
            **dict.fromkeys(KEYS, "NumericRangeStrategy"),
            **dict.fromkeys(("uuid_text", "text"), "StringRangeStrategy"),
            **dict.fromkeys(("date", "timestamp", "instant", "stamped"), "DateRangeStrategy"),
            "keyless": "whole table",
        },
    )


@pytest.mark.parametrize("extraction", ["auto", "query_per_chunk"])
def test_snowflake(database: Database, standin: StandIn, tmp_path: Path, extraction: str) -> None:
    config = snowflake_config(
        tmp_path,
        database,
        standin,
        *TABLES,
        batch_size=50,
        parallel_threads=3,
        extraction=extraction,
    )
    by_key = {
        **dict.fromkeys(KEYS, "NumericRangeStrategy"),
        **dict.fromkeys(("uuid_text", "text"), "StringRangeStrategy"),
        **dict.fromkeys(("date", "timestamp", "instant", "stamped"), "DateRangeStrategy"),
        "keyless": "whole table",
    }
    one_query = dict.fromkeys(KEYS, "ResultSetStrategy")
    _expect_all(database, config, one_query if extraction == "auto" else by_key)
