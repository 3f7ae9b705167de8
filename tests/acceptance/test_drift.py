"""A source or a target that changes between two loads: each change on each side, and what comes of it.

What is refused names the statement that a person would have to run; having run it, the next load succeeds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pytest

import snowmelt
from snowmelt.config import Config, load_config
from snowmelt.demo.postgres import LocalPostgres
from snowmelt.plan_document import plan_json
from snowmelt.report import report_json
from snowmelt.survey import Choice
from tests.support import Database, config_for, write_config

TABLE = "CREATE OR REPLACE TABLE T (id BIGINT, n INTEGER NOT NULL, note VARCHAR, seen TIMESTAMP)"
FIRST = "INSERT INTO T VALUES (1, 10, '1', '2024-05-01 12:00'), (2, 20, '2', '2024-05-01 13:00')"
STATEMENT = re.compile(r"ALTER TABLE .*?;")
MEASURED = Choice(values=True)
NOON, ONE = "2024-05-01 12:00:00", "2024-05-01 13:00:00"


@dataclass(frozen=True)
class Drift:
    """What changes between two loads, and what comes of it.

    `tells` are words of the plan's notes, or of the refusal; `run` is the statement that the refusal names. `rows`
    are the target's after the load, or after that statement and another load, columns in the target's order.
    """

    rows: Sequence[tuple[Any, ...]]
    source: Sequence[str] = ()
    target: str = ""
    tells: Sequence[str] = ()
    run: str = ""
    table: dict[str, Any] = field(default_factory=dict)
    says: str = ""
    """What the refusal says of values that are there."""

    @property
    def is_loaded(self) -> bool:
        return bool(self.rows) and not self.run


ON_THE_SOURCE = {
    "nothing": Drift([(1, 10, "1", NOON), (2, 20, "2", ONE)]),
    "added": Drift(
        [(1, 10, "1", NOON, 7), (2, 20, "2", ONE, 7)],
        ["ALTER TABLE T ADD COLUMN more INTEGER DEFAULT 7"],
        tells=["the target gets new columns", '"more" integer'],
    ),
    "added, and left out": Drift(
        [(1, 10, "1", NOON), (2, 20, "2", ONE)],
        ["ALTER TABLE T ADD COLUMN more INTEGER DEFAULT 7"],
        tells=["left out", '"more"'],
        table={"new_columns": "leave_out"},
    ),
    "added, and refused": Drift(
        [(1, 10, "1", NOON, 7), (2, 20, "2", ONE, 7)],
        ["ALTER TABLE T ADD COLUMN more INTEGER DEFAULT 7"],
        tells=['no column "more"'],
        run='ALTER TABLE public."T" ADD COLUMN "more" integer;',
        table={"new_columns": "refuse"},
    ),
    "added with a type that PostgreSQL lacks, and left out": Drift(
        [(1, 10, "1", NOON), (2, 20, "2", ONE)],
        ["ALTER TABLE T ADD COLUMN more INTEGER[]"],
        tells=["left out", '"more"'],
        table={"new_columns": "leave_out"},
    ),
    "removed": Drift(
        [(1, 10, "1", NOON), (2, 20, "2", ONE), (3, 30, None, None)],
        ["ALTER TABLE T DROP COLUMN note", "INSERT INTO T VALUES (3, 30, NULL)"],
        tells=["not in the source any more", '"note"'],
    ),
    "renamed": Drift(
        [(1, 10, "1", NOON), (2, 20, "2", ONE)],
        ["ALTER TABLE T RENAME COLUMN note TO remark"],
        tells=['"remark" is new', '"note" of the same type is gone', "new_columns: add"],
        run='ALTER TABLE public."T" RENAME COLUMN "note" TO "remark";',
    ),
    "renamed, and said to be another": Drift(
        [(1, 10, "1", NOON, "1"), (2, 20, "2", ONE, "2")],
        ["ALTER TABLE T RENAME COLUMN note TO remark"],
        tells=['"remark" text', "not in the source any more"],
        table={"new_columns": "add"},
    ),
    "widened": Drift(
        [(1, 1 << 40, "1", NOON), (2, 20, "2", ONE)],
        [
            "ALTER TABLE T ALTER n TYPE BIGINT",
            f"UPDATE T SET n = {1 << 40} WHERE id = 1",
        ],
        tells=['"n"', f"the greatest value is {1 << 40}", "integer ends at"],
        run='ALTER TABLE public."T" ALTER COLUMN "n" TYPE bigint;',
    ),
    "narrowed": Drift(
        [(1, 10, "1", NOON), (2, 20, "2", ONE)], ["ALTER TABLE T ALTER n TYPE SMALLINT"]
    ),
    "narrowed to days": Drift(
        [(1, 10, "1", "2024-05-01"), (2, 20, "2", "2024-05-01")],
        ["ALTER TABLE T ALTER seen TYPE DATE"],
        tells=['"seen"', "can't be loaded exactly into timestamp without time zone"],
        run='ALTER TABLE public."T" ALTER COLUMN "seen" TYPE date;',
        says="it cuts the time of day off",
    ),
    "type changed to text": Drift(
        [(1, "10", "1", NOON), (2, "20", "2", ONE)],
        ["ALTER TABLE T ALTER n TYPE VARCHAR"],
        tells=['"n"', "can't be loaded exactly into integer"],
        run='ALTER TABLE public."T" ALTER COLUMN "n" TYPE text;',
    ),
    "type changed from text": Drift(
        [(1, 10, 1, NOON), (2, 20, 2, ONE)],
        ["ALTER TABLE T ALTER note TYPE INTEGER"],
        tells=['"note"', "can't be loaded exactly into text"],
        run='ALTER TABLE public."T" ALTER COLUMN "note" TYPE integer USING "note"::integer;',
        says="it fails on a value that is none",
    ),
    "type changed to one without a conversion": Drift(
        [(1, 10, "1", True), (2, 20, "2", None)],
        [
            "ALTER TABLE T DROP COLUMN seen",
            "ALTER TABLE T ADD COLUMN seen BOOLEAN",
            "UPDATE T SET seen = true WHERE id = 1",
        ],
        tells=['"seen"', "can't be loaded exactly into timestamp"],
        run='ALTER TABLE public."T" DROP COLUMN "seen", ADD COLUMN "seen" boolean;',
        says="its values are lost",
    ),
    "case changed": Drift(
        [(1, 10, "1", NOON), (2, 20, "2", ONE)],
        ['CREATE OR REPLACE TABLE T AS SELECT id AS "ID", n, note AS "NOTE", seen FROM T'],
        tells=["2 columns are matched without regard to case", '"ID" -> "id"'],
    ),
    "case changed, and a column added": Drift(
        [(1, 10, "1", NOON, 7), (2, 20, "2", ONE, 7)],
        [
            'CREATE OR REPLACE TABLE T AS SELECT id AS "ID", n AS "N", note AS "NOTE", seen AS "SEEN", '
            '7 AS "MORE" FROM T'
        ],
        tells=["4 columns are matched without regard to case", '"more" integer'],
    ),
    "NOT NULL added": Drift(
        [(1, 10, "1", NOON), (2, 20, "2", ONE)], ["ALTER TABLE T ALTER note SET NOT NULL"]
    ),
    "NOT NULL dropped": Drift(
        [(1, None, "1", NOON), (2, 20, "2", ONE)],
        ["ALTER TABLE T ALTER n DROP NOT NULL", "UPDATE T SET n = NULL WHERE id = 1"],
        tells=['"n"', "1 row has no value, and the target column is NOT NULL"],
        run='ALTER TABLE public."T" ALTER COLUMN "n" DROP NOT NULL;',
    ),
    "key removed": Drift(
        [],
        ["ALTER TABLE T DROP COLUMN id"],
        tells=['uniqueness_columns names "id", which the source does not have'],
        table={"chunking_columns": ["n"]},
    ),
}
ON_THE_TARGET = {
    "added": Drift(
        [(1, 10, "1", NOON, None), (2, 20, "2", ONE, None)],
        target="ADD COLUMN mine text",
        tells=["only in the target", '"mine"'],
    ),
    "added with a default": Drift(
        [(1, 10, "1", NOON, 5), (2, 20, "2", ONE, 5), (3, 30, "3", ONE, 5)],
        [f"INSERT INTO T VALUES (3, 30, '3', '{ONE}')"],
        target="ADD COLUMN mine integer NOT NULL DEFAULT 5",
        tells=["only in the target", '"mine"'],
    ),
    "added as NOT NULL": Drift(
        [(1, 10, "1", NOON, 5), (2, 20, "2", ONE, 5)],
        target='ADD COLUMN mine integer NOT NULL DEFAULT 5; ALTER TABLE "T" ALTER mine DROP DEFAULT',
        tells=['"mine" is NOT NULL without a default'],
        run='ALTER TABLE public."T" ALTER COLUMN "mine" DROP NOT NULL;',
    ),
    "removed": Drift(
        [(1, 10, NOON), (2, 20, ONE)], target="DROP COLUMN note", tells=["left out", '"note"']
    ),
    "renamed": Drift(
        [(1, 10, "1", NOON), (2, 20, "2", ONE)],
        target="RENAME COLUMN note TO remark",
        tells=[
            '"note" of the target, which the last load filled, is gone',
            '"remark" is new in it',
        ],
        run='ALTER TABLE public."T" RENAME COLUMN "remark" TO "note";',
    ),
    "widened": Drift([(1, 10, "1", NOON), (2, 20, "2", ONE)], target="ALTER COLUMN n TYPE bigint"),
    "narrowed": Drift(
        [(1, 70_000, "1", NOON), (2, 20, "2", ONE)],
        ["UPDATE T SET n = 70000 WHERE id = 1"],
        target="ALTER COLUMN n TYPE smallint",
        tells=['"n"', "the greatest value is 70000", "smallint ends at"],
        run='ALTER TABLE public."T" ALTER COLUMN "n" TYPE integer;',
    ),
    "narrowed text": Drift(
        [(1, 10, "longer", NOON), (2, 20, "2", ONE)],
        ["UPDATE T SET note = 'longer' WHERE id = 1"],
        target="ALTER COLUMN note TYPE varchar(3)",
        tells=['"note"', "the longest value has 6 characters"],
        run='ALTER TABLE public."T" ALTER COLUMN "note" TYPE text;',
    ),
    "type changed": Drift(
        [(1, 10, "1", NOON), (2, 20, "2", ONE)],
        target="ALTER COLUMN n TYPE text",
        tells=['"n"', "can't be loaded exactly into text"],
        run='ALTER TABLE public."T" ALTER COLUMN "n" TYPE integer USING "n"::integer;',
    ),
    "type changed to one with a zone": Drift(
        [(1, 10, "1", NOON), (2, 20, "2", ONE)],
        target="ALTER COLUMN seen TYPE timestamptz USING seen AT TIME ZONE 'UTC'",
        tells=['"seen"', "can't be loaded exactly into timestamp with time zone"],
        run='ALTER TABLE public."T" ALTER COLUMN "seen" TYPE timestamp USING "seen" AT TIME ZONE \'UTC\';',
    ),
    "case changed": Drift(
        [(1, 10, "1", NOON), (2, 20, "2", ONE)],
        target='RENAME COLUMN note TO "NOTE"; ALTER TABLE "T" RENAME COLUMN id TO "ID"',
        tells=["2 columns are matched without regard to case"],
    ),
    "a column that differs by case added": Drift(
        [(1, 10, "1", NOON, None), (2, 20, "2", ONE, None)],
        target='ADD COLUMN "NOTE" text',
        tells=["only in the target", '"NOTE"'],
    ),
    "case no more clear": Drift(
        [(1, 10, "1", NOON, None), (2, 20, "2", ONE, None)],
        target='RENAME COLUMN note TO "Note"; ALTER TABLE "T" ADD COLUMN "NOTE" text',
        tells=['"note"', '"NOTE", "Note"'],
        run='ALTER TABLE public."T" RENAME COLUMN "Note" TO "note";',
    ),
    "NOT NULL added": Drift(
        [(1, 10, None, NOON), (2, 20, "2", ONE)],
        ["UPDATE T SET note = NULL WHERE id = 1"],
        target="ALTER COLUMN note SET NOT NULL",
        tells=['"note"', "1 row has no value, and the target column is NOT NULL"],
        run='ALTER TABLE public."T" ALTER COLUMN "note" DROP NOT NULL;',
    ),
    "key removed": Drift(
        [],
        target="DROP COLUMN id",
        tells=['uniqueness_columns names "id", which the target lacks'],
    ),
}
DRIFTS = {
    **{f"source: {name}": drift for name, drift in ON_THE_SOURCE.items()},
    **{f"target: {name}": drift for name, drift in ON_THE_TARGET.items()},
}


NAMES = {name: f"T{number}" for number, name in enumerate(DRIFTS)}


def of_table(statement: str, name: str) -> str:
    """The statement of a case, for the table of its own."""
    return re.sub(r"\bT\b", NAMES[name], statement)


class Night:
    """All cases as tables of one config: each load is one run."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database, self.folder, self.source = database, folder, folder / "s.duckdb"

    def change(self, name: str, *statements: str) -> None:
        """The source of a case."""
        with duckdb.connect(self.source) as connection:
            for statement in statements:
                connection.execute(of_table(statement, name))

    def alter(self, name: str, statement: str) -> None:
        """The target of a case."""
        with self.database.connect() as connection:
            connection.execute(of_table(statement, name))

    def _config(self, names: Iterable[str]) -> Config:
        tables = [
            {
                "source": NAMES[name],
                "mode": "upsert",
                "uniqueness_columns": ["id"],
                "chunking_columns": ["id"],
                **DRIFTS[name].table,
            }
            for name in names
        ]
        document = config_for(self.database, self.source, *tables)
        return load_config(write_config(self.folder, document), environ={})

    def planned(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        with snowmelt.open(self._config(names)) as mover:
            document: dict[str, Any] = plan_json(mover.plan(MEASURED))
        return dict(zip(names, document["tables"], strict=True))

    def load(self, names: Iterable[str]) -> None:
        with snowmelt.open(self._config(names)) as mover:
            report = mover.run(mover.plan(MEASURED), choice=MEASURED)
        assert report.exit_code == 0, report_json(report)

    def rows(self, names: Iterable[str]) -> dict[str, list[tuple[Any, ...]]]:
        """All columns of the targets, times as text; a moment is told in UTC."""
        kinds = (bool, int, str, type(None))
        found = {}
        with self.database.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            for name in names:
                rows = connection.execute(f'SELECT * FROM "{NAMES[name]}" ORDER BY 1').fetchall()
                found[name] = [
                    tuple(v if isinstance(v, kinds) else str(v) for v in r) for r in rows
                ]
        return found


@pytest.fixture(scope="module")
def told(
    postgres: LocalPostgres, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Night, dict[str, dict[str, Any]]]:
    """Every case after its first load and its change, and what a plan says of it."""
    night = Night(
        Database("drift", postgres.create_database("drift")), tmp_path_factory.mktemp("drift")
    )
    for name in DRIFTS:
        night.change(name, TABLE, FIRST)
    night.load(DRIFTS)
    for name, drift in DRIFTS.items():
        night.change(name, *drift.source)
        if drift.target:
            night.alter(name, f'ALTER TABLE "T" {drift.target}')
    return night, night.planned(DRIFTS)


@pytest.mark.parametrize("name", DRIFTS)
def test_what_is_told(name: str, told: tuple[Night, dict[str, dict[str, Any]]]) -> None:
    drift, table = DRIFTS[name], told[1][name]
    if drift.is_loaded:
        notes = "\n".join(table["notes"])
        assert not table["refusals"], table["refusals"]
        assert all(words in notes for words in drift.tells), notes
        return
    refusal = table["refusals"][0]
    assert all(words in refusal["what"] + refusal["remedy"] for words in drift.tells), refusal
    if drift.run:
        assert len(table["refusals"]) == 1
        assert STATEMENT.findall(refusal["remedy"])[-1] == of_table(drift.run, name)
        assert drift.says in refusal["remedy"]


def test_what_comes_of_it(told: tuple[Night, dict[str, dict[str, Any]]]) -> None:
    night, plans = told
    refused = [name for name, drift in DRIFTS.items() if not drift.is_loaded]
    run = [name for name in refused if DRIFTS[name].run]
    for name in run:
        night.alter(name, STATEMENT.findall(plans[name]["refusals"][0]["remedy"])[-1])
    fitting = [name for name, drift in DRIFTS.items() if drift.is_loaded or name in run]
    night.load(fitting)
    assert night.rows(fitting) == {name: list(DRIFTS[name].rows) for name in fitting}
    # The same again is no drift: what was added or left out is known.
    again = night.planned(fitting).values()
    assert not any(table["adds"] or table["refusals"] for table in again)
