"""`check` and `plan` measure whether values fit the target, before anything moves; `migrate` does not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from snowmelt.standin.server import StandIn, StandInColumn
from tests.acceptance.snowflake import DATABASE, SCHEMA, snowflake_config
from tests.support import Database, config_for, duckdb_file, snowmelt, write_config

QUERY = (
    "SELECT range AS id, CASE WHEN range = 7 THEN 'a' || chr(0) ELSE 'abc' END AS note, "
    "range * 1000000000 AS big FROM range(10)"
)
COLUMNS = [
    StandInColumn("id", "NUMBER(9,0)"),
    StandInColumn("note", "VARCHAR(100)"),
    StandInColumn("big", "NUMBER(38,0)"),
]
TARGET = "CREATE TABLE t (id integer, note varchar(2), big integer)"
FOUND = (
    'column "note": 1 value has the character NUL',
    'column "note": the longest value has 3 characters, and character varying(2) holds 2',
    'column "big": the greatest value is 9000000000',
)


@pytest.fixture(params=["files", "snowflake"])
def config(request: pytest.FixtureRequest, database: Database, tmp_path: Path) -> Iterator[Path]:
    """A config of one table whose values do not fit its target."""
    database.execute(TARGET)
    if request.param == "files":
        file = duckdb_file(tmp_path / "s.duckdb", f"CREATE TABLE t AS {QUERY}")
        yield write_config(tmp_path, config_for(database, file, {"source": "t"}))
        return
    with StandIn.start() as standin:
        standin.create_table(DATABASE, SCHEMA, "t", COLUMNS, query=QUERY)
        yield snowflake_config(tmp_path, database, standin, {"source": "t"})


def _refusals(config: Path, *arguments: str) -> Sequence[str]:
    answer = snowmelt(config, *arguments, "--json")
    document = json.loads(answer.stdout)
    refusals = (
        document["refusals"] if arguments[0] == "check" else document["tables"][0]["refusals"]
    )
    assert answer.returncode == (1 if refusals else 0), answer.stderr
    return [refusal["what"] for refusal in refusals]


def test_values_are_measured_before_anything_moves(config: Path, database: Database) -> None:
    for command in ("plan", "check"):
        found = _refusals(config, command)
        assert len(found) == len(FOUND), found
        for what in FOUND:
            assert any(what in refusal for refusal in found), (what, found)
        assert _refusals(config, command, "--no-values") == []

    moved = snowmelt(config, "migrate")

    assert moved.returncode == 1
    assert "nothing was started" not in moved.stderr
    assert database.value("SELECT count(*) FROM t") == 0


def test_what_fits_is_planned(config: Path, database: Database) -> None:
    database.execute("DROP TABLE t")
    database.execute("CREATE TABLE t (id integer, note bytea, big bigint)")
    found = _refusals(config, "plan")
    assert len(found) == 1
    assert "can't be loaded exactly into bytea" in found[0]
