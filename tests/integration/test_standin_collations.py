"""Columns whose collation ignores case, and COLLATE, which gives them back their bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pyarrow as pa
import pytest
import snowflake.connector
from snowflake.connector.errors import ProgrammingError

from snowmelt.standin.server import StandIn, StandInColumn

Cursor = Any  # the connector has no types of its own

WORDS = ("b", "A", "a", "B", None, "Ab")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    with StandIn.start(folder=tmp_path_factory.mktemp("data")) as one:
        one.execute("CREATE DATABASE D")
        columns = [
            StandInColumn("W", "VARCHAR COLLATE 'en-ci'"),
            StandInColumn("PLAIN", "VARCHAR"),
            StandInColumn("N", "NUMBER(9,0)"),
        ]
        numbers = pa.array(range(1, len(WORDS) + 1), pa.int64())
        rows = pa.table({"w": pa.array(WORDS), "plain": pa.array(WORDS), "n": numbers})
        one.create_table("D", "PUBLIC", "T", columns, rows)
        yield one


@pytest.fixture
def cursor(server: StandIn) -> Iterator[Cursor]:
    place = {"database": "D", "schema": "PUBLIC"}
    with (
        closing(snowflake.connector.connect(**server.login(), **place)) as connection,
        closing(connection.cursor()) as one,
    ):
        yield one


def ask(cursor: Cursor, statement: str) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = cursor.execute(statement).fetchall()
    return rows


def lowered(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [tuple(one.lower() if isinstance(one, str) else one for one in row) for row in rows]


SOURCES = (
    "T",
    "(SELECT * FROM T)",
    "V",
    "(SELECT W AS w, N FROM T UNION ALL SELECT 'x', 0 WHERE FALSE)",
)


@pytest.mark.parametrize("source", SOURCES)
def test_the_raw_column_ignores_case(cursor: Cursor, source: str) -> None:
    ask(cursor, "CREATE OR REPLACE VIEW V AS SELECT * FROM T")
    grouped = f"SELECT W, COUNT(*), SUM(N) FROM {source} GROUP BY {{}} ORDER BY 1"
    for key in ("W", "1", "ALL"):
        assert lowered(ask(cursor, grouped.format(key))) == [
            ("a", 2, 5),
            ("ab", 1, 6),
            ("b", 2, 5),
            (None, 1, 5),
        ]
    assert lowered(ask(cursor, f"SELECT MIN(W), MAX(W), COUNT(DISTINCT W) FROM {source}")) == [
        ("a", "b", 3)
    ]
    counts = {
        "W = 'AB'": 1,
        "W < 'B'": 3,
        "W <= 'B'": 5,
        "W <> 'a'": 3,
        "W BETWEEN 'A' AND 'AB'": 3,
        "W IN ('aB', 'x')": 1,
        "LEFT(W, 1) = 'A'": 3,
        "GREATEST(W, 'B') = 'b'": 5,
        "CASE WHEN W < 'aC' THEN W END = 'A'": 2,
    }
    listed = ", ".join(f"COUNT_IF({one})" for one in counts)
    (found,) = ask(cursor, f"SELECT {listed} FROM {source}")
    assert dict(zip(counts, found, strict=True)) == counts
    frame = "RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"
    windows = f"SUM(N) OVER (ORDER BY W {frame}), COUNT(*) OVER (PARTITION BY W)"
    assert lowered(ask(cursor, f"SELECT W, {windows} FROM {source} ORDER BY W, N")) == [
        ("a", 5, 2),
        ("a", 5, 2),
        ("ab", 11, 1),
        ("b", 16, 2),
        ("b", 16, 2),
        (None, 21, 1),
    ]


@pytest.mark.parametrize("value", ["COLLATE(W, 'utf8')", "W COLLATE 'utf8'", "PLAIN"])
def test_bytes_are_compared_where_no_collation_is(cursor: Cursor, value: str) -> None:
    keys = f"WITH keys AS (SELECT {value} AS K, N FROM T)"
    ordered = [("A", 1), ("Ab", 1), ("B", 1), ("a", 1), ("b", 1), (None, 1)]
    for key in ("K", "1", "ALL"):
        query = f"{keys} SELECT K, COUNT(*) FROM keys GROUP BY {key} ORDER BY K"
        assert ask(cursor, query) == ordered
    ends = "MIN(K), MAX(K), COUNT(DISTINCT K), COUNT_IF(K < 'a'), COUNT_IF(K = 'AB')"
    assert ask(cursor, f"{keys} SELECT {ends} FROM keys") == [("A", "b", 5, 3, 0)]
    frame = "RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"
    query = f"{keys} SELECT K, COUNT(*) OVER (ORDER BY K {frame}) FROM keys ORDER BY K"
    assert [row[1] for row in ask(cursor, query)] == [1, 2, 3, 4, 5, 6]


def test_a_collation_is_told_and_kept(server: StandIn, cursor: Cursor) -> None:
    ask(
        cursor,
        "CREATE OR REPLACE TABLE C (a VARCHAR COLLATE 'EN-CI' NOT NULL, b VARCHAR(7) COLLATE 'en-ci',"
        " c VARCHAR, d VARCHAR COLLATE 'utf8')",
    )
    ask(cursor, "INSERT INTO C VALUES ('x', 'y', 'z', 'u')")
    ask(cursor, "CREATE OR REPLACE TABLE COPY AS SELECT * FROM C")
    ask(cursor, "CREATE OR REPLACE TABLE CLONED CLONE C")
    ask(cursor, "ALTER TABLE C ADD COLUMN e VARCHAR(3) COLLATE 'en-ci'")
    server.restart()
    with closing(snowflake.connector.connect(**server.login(), database="D")) as connection:
        again: Cursor = connection.cursor()
        for table in ("C", "COPY", "CLONED"):
            described = ask(again, f"DESCRIBE TABLE PUBLIC.{table}")
            assert [row[1] for row in described][:3] == [
                "VARCHAR(16777216) COLLATE 'en-ci'",
                "VARCHAR(7) COLLATE 'en-ci'",
                "VARCHAR(16777216)",
            ]
            told = (
                "SELECT column_name, collation_name FROM INFORMATION_SCHEMA.COLUMNS"
                f" WHERE table_name = '{table}' AND ordinal_position <= 3 ORDER BY ordinal_position"
            )
            assert ask(again, told) == [("A", "en-ci"), ("B", "en-ci"), ("C", None)]
            count = "SELECT COUNT_IF(a = 'X'), COUNT_IF(c = 'Z'), COUNT_IF(d = 'U')"
            assert ask(again, f"{count} FROM PUBLIC.{table}") == [(1, 0, 0)]


@pytest.mark.parametrize("column", ["a VARCHAR COLLATE 'fr'", "a NUMBER COLLATE 'en-ci'"])
def test_what_is_no_collation_here_is_refused(cursor: Cursor, column: str) -> None:
    with pytest.raises(ProgrammingError):
        ask(cursor, f"CREATE TABLE X ({column})")
