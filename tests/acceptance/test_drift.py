"""A source or a target that changes between two loads: each change on each side, and what comes of it.

What is refused names the statement that a person would have to run; having run it, the next load succeeds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import snowmelt
from snowmelt.config import load_config
from snowmelt.plan_document import plan_json
from snowmelt.survey import Choice
from tests.acceptance.nights import Nights
from tests.support import Database

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
        tells=['"note", which the last load filled, is gone', '"remark" is new in it'],
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


def planned(nights: Nights, **changes: Any) -> dict[str, Any]:
    """The one table of a plan."""
    with snowmelt.open(load_config(nights.config(**changes), environ={})) as mover:
        document: dict[str, Any] = plan_json(mover.plan(MEASURED))
    table: dict[str, Any] = document["tables"][0]
    return table


def loaded(database: Database) -> list[tuple[Any, ...]]:
    """All columns, times as text; a moment is told in UTC."""
    with database.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        rows = connection.execute('SELECT * FROM "T" ORDER BY 1').fetchall()
    kinds = (bool, int, str, type(None))
    return [tuple(v if isinstance(v, kinds) else str(v) for v in row) for row in rows]


@pytest.mark.parametrize("name", DRIFTS)
def test_drift(name: str, database: Database, tmp_path: Path) -> None:
    drift = DRIFTS[name]
    nights = Nights(database, tmp_path, uniqueness_columns=["id"], mode="upsert", **drift.table)
    nights.run(TABLE, FIRST)
    nights.migrate()
    nights.run(*drift.source)
    if drift.target:
        with database.connect() as connection:
            connection.execute(f'ALTER TABLE "T" {drift.target}')
    before = loaded(database)
    table = planned(nights)
    if not (drift.run or not drift.rows):
        told = "\n".join(table["notes"])
        assert not table["refusals"], table["refusals"]
        assert all(words in told for words in drift.tells), told
        nights.migrate(choice=MEASURED)
        assert loaded(database) == list(drift.rows)
        # The same again is no drift: what was added or left out is known.
        assert not planned(nights)["adds"]
        nights.migrate(choice=MEASURED)
        assert loaded(database) == list(drift.rows)
        return
    refusal = table["refusals"][0]
    assert all(words in refusal["what"] + refusal["remedy"] for words in drift.tells), refusal
    assert len(table["refusals"]) == 1 or not drift.run, table["refusals"]
    assert nights.migrate(code=1, choice=MEASURED)["error"]
    assert loaded(database) == before
    if not drift.run:
        return
    statement = STATEMENT.findall(refusal["remedy"])[-1]
    assert statement == drift.run
    assert drift.says in refusal["remedy"]
    with database.connect() as connection:
        connection.execute(statement)
    nights.migrate(choice=MEASURED)
    assert loaded(database) == list(drift.rows)
