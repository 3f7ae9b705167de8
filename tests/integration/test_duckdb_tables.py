"""What a DuckDB file may hold that must not be read as if it were a plain table."""

from __future__ import annotations

from pathlib import Path

import pytest

from snowmelt.errors import TableError
from snowmelt.model import SourceTable
from snowmelt.sources.duckdb import DuckDBSource
from tests.support import Database, config_for, duckdb_file, snowmelt, write_config

STATEMENTS = (
    "CREATE TABLE p (a INTEGER, b INTEGER, PRIMARY KEY (a, b))",
    "INSERT INTO p SELECT range % 5, range FROM range(100)",
    "CREATE VIEW plain AS SELECT a, b * 2 AS c FROM p",
    "CREATE VIEW nested AS WITH q AS (SELECT * FROM plain) SELECT * FROM q JOIN p USING (a)",
    "CREATE VIEW numbers AS SELECT * FROM range(5)",
    "CREATE VIEW dice AS SELECT a, random() AS x FROM p",
    "CREATE VIEW today AS SELECT a, current_date AS d FROM p",
    "CREATE TABLE large AS SELECT 170141183460469231731687303715884105728::UHUGEINT AS x",
)


@pytest.fixture
def source(tmp_path: Path) -> DuckDBSource:
    outside = tmp_path / "outside.parquet"
    file = duckdb_file(
        tmp_path / "s.duckdb",
        *STATEMENTS,
        f"COPY p TO '{outside}'",
        f"CREATE VIEW called AS SELECT * FROM read_parquet('{outside}')",
        f"CREATE VIEW named AS SELECT * FROM '{outside}'",
        "CREATE VIEW around AS SELECT * FROM called",
    )
    return DuckDBSource("duckdb", file)


def _described(source: DuckDBSource, name: str) -> tuple[tuple[str, ...], int | None]:
    relation = source.describe(SourceTable("", "", name))
    return relation.primary_key, relation.rows


def test_a_view_has_no_key_of_the_tables_that_it_reads(source: DuckDBSource) -> None:
    assert _described(source, "p") == (("a", "b"), 100)
    assert _described(source, "plain") == ((), 100)
    assert _described(source, "nested") == ((), 2_000)
    assert _described(source, "numbers") == ((), 5)


@pytest.mark.parametrize(
    ("view", "says"),
    [
        ("called", "read_parquet"),
        ("named", "outside.parquet"),
        ("around", "read_parquet"),
        ("dice", "changes by itself: random"),
        ("today", "changes by itself: current_date"),
    ],
)
def test_a_view_that_may_change_unnoticed_is_refused(
    source: DuckDBSource, view: str, says: str
) -> None:
    with pytest.raises(TableError, match=says):
        source.describe(SourceTable("", "", view))


def test_integers_that_arrow_can_not_hold_are_refused(source: DuckDBSource) -> None:
    with pytest.raises(TableError, match="UHUGEINT"):
        source.describe(SourceTable("", "", "large"))


@pytest.mark.parametrize("value", ["infinity", "-infinity"])
@pytest.mark.parametrize("type", ["TIMESTAMP_NS", "TIMESTAMP", "TIMESTAMPTZ", "DATE"])
def test_infinite_times_do_not_become_others(
    database: Database, tmp_path: Path, type: str, value: str
) -> None:
    file = duckdb_file(
        tmp_path / "s.duckdb",
        f"CREATE TABLE t AS SELECT 1 AS id, '{value}'::{type} AS at UNION ALL SELECT 2, NULL",
    )
    moved = snowmelt(write_config(tmp_path, config_for(database, file, {"source": "t"})), "migrate")
    assert moved.returncode == 1
    assert "does not fit" in moved.stdout
    assert "error ignored" not in moved.stderr
    assert database.value("SELECT count(*) FROM t") == 0
