"""Columns that change between a plan, its record and a resume; names and comments of new ones."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import snowmelt
from snowmelt.config import load_config
from snowmelt.errors import Refused
from snowmelt.standin.server import StandIn, StandInColumn
from snowmelt.survey import Choice
from tests.acceptance.nights import Nights
from tests.acceptance.snowflake import DATABASE, SCHEMA, snowflake_config
from tests.support import Database

NOON = "TIMESTAMP '2024-05-01 12:00:00'"


@pytest.fixture
def halted(database: Database, tmp_path: Path) -> Nights:
    """A second load, which adds a column, and has ended after some of its 6 chunks."""
    nights = Nights(
        database, tmp_path, mode="upsert", uniqueness_columns=["id"], parallel_threads=1
    )
    nights.run(f"INSERT INTO T SELECT i, {NOON}, 'first' FROM range(100) r(i)")
    nights.migrate()
    nights.run("ALTER TABLE T ADD COLUMN more INTEGER DEFAULT 7")
    database.execute(
        'ALTER TABLE "T" ADD CONSTRAINT half CHECK (id < 50 OR note IS NULL) NOT VALID'
    )
    nights.migrate(code=1)
    assert 0 < filled(database) < 100
    return nights


def filled(database: Database) -> int:
    return int(database.value('SELECT count(more) FROM "T"'))


def test_a_resumed_table_goes_on_with_its_columns(halted: Nights) -> None:
    """What the target has gained since, and what the config says now of new columns, is for the next load."""
    halted.database.execute('ALTER TABLE "T" DROP CONSTRAINT half, ADD COLUMN mine text')
    halted.migrate()
    assert filled(halted.database) == 100


def test_a_column_that_was_dropped_under_way_is_not_added_without_its_values(
    halted: Nights,
) -> None:
    halted.database.execute('ALTER TABLE "T" DROP CONSTRAINT half, DROP COLUMN more')
    (table,) = halted.migrate(code=1)["tables"]
    assert 'column "more" does not exist' in table["error"]
    assert "put the column back" in table["error"]
    halted.migrate(choice=Choice(restart=("T",)))
    assert filled(halted.database) == 100


def test_another_wish_for_new_columns_is_another_table(halted: Nights) -> None:
    halted.database.execute('ALTER TABLE "T" DROP CONSTRAINT half')
    told = halted.migrate(code=1, new_columns="leave_out")["error"]
    assert "new_columns changed" in told


@pytest.mark.parametrize(
    ("type", "told"), [("integer", None), ("text", 'no loadable column "more"')]
)
def test_a_column_that_somebody_adds_after_the_plan(
    type: str, told: str | None, database: Database, tmp_path: Path
) -> None:
    nights = Nights(database, tmp_path, mode="upsert", uniqueness_columns=["id"])
    nights.run(f"INSERT INTO T VALUES (1, {NOON}, 'x')")
    nights.migrate()
    nights.run("ALTER TABLE T ADD COLUMN more INTEGER DEFAULT 7")
    with snowmelt.open(load_config(nights.config(), environ={})) as mover:
        plan = mover.plan()
        with database.connect() as connection:
            connection.execute(f'ALTER TABLE "T" ADD COLUMN more {type}')
        (table,) = mover.run(plan).tables
    assert told in str(table.error) if told else table.error is None
    assert filled(database) == (0 if told else 1)


def test_a_table_that_stays_locked_is_told_with_who_holds_it(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snowmelt.postgres.locks.PATIENCE_SECONDS", 0.5)
    nights = Nights(database, tmp_path, mode="upsert", uniqueness_columns=["id"])
    nights.run(f"INSERT INTO T VALUES (1, {NOON}, 'x')")
    nights.migrate()
    nights.run("ALTER TABLE T ADD COLUMN more INTEGER DEFAULT 7")
    with database.connect() as connection:
        connection.execute('BEGIN; SELECT FROM "T"')
        with (
            snowmelt.open(load_config(nights.config(), environ={})) as mover,
            pytest.raises(
                Refused, match=rf"lock to add columns.*pid {connection.info.backend_pid}"
            ),
        ):
            mover.run(mover.plan())
    nights.migrate()
    assert filled(database) == 1


def comments(database: Database, table: str) -> list[Any]:
    return database.execute(
        "SELECT a.attname::text, col_description(a.attrelid, a.attnum), obj_description(a.attrelid, 'pg_class') "
        "FROM pg_attribute a WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped "
        "ORDER BY a.attnum",
        [table],
    )


def test_comments_go_over(database: Database, tmp_path: Path) -> None:
    nights = Nights(database, tmp_path, mode="upsert", uniqueness_columns=["id"])
    nights.run(
        f"INSERT INTO T VALUES (1, {NOON}, 'x')",
        "COMMENT ON TABLE T IS 'what people ''say'''",
        "COMMENT ON COLUMN T.note IS 'in % words'",
    )
    nights.migrate()
    table = "what people 'say'"
    assert comments(database, '"T"') == [
        ("id", None, table),
        ("seen", None, table),
        ("note", "in % words", table),
    ]
    database.execute("COMMENT ON COLUMN \"T\".note IS 'mine'")
    nights.run(
        "ALTER TABLE T ADD COLUMN more INTEGER DEFAULT 7", "COMMENT ON COLUMN T.more IS 'seven'"
    )
    nights.migrate()
    assert comments(database, '"T"')[2:] == [("note", "mine", table), ("more", "seven", table)]


def test_a_comment_that_the_database_can_not_hold_is_left_out(
    database: Database, tmp_path: Path
) -> None:
    database.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    latin = Database("latin", database.dsn.replace(database.name, "latin"))
    nights = Nights(latin, tmp_path)
    nights.run("COMMENT ON TABLE T IS '雪'", "COMMENT ON COLUMN T.note IS 'Schnee'")
    nights.migrate()
    assert comments(latin, '"T"')[2] == ("note", "Schnee", None)


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with StandIn.start() as standin:
        yield standin


def test_from_snowflake_in_lower_case(
    standin: StandIn, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lag = 0.5
    monkeypatch.setattr("snowmelt.sources.snowflake.source.LAG_SECONDS", lag)
    name = f'{DATABASE}.{SCHEMA}."VISITS"'
    declared = [
        StandInColumn("VISIT_ID", "NUMBER(18,0)", nullable=False),
        StandInColumn("SEEN", "TIMESTAMP_NTZ(6)"),
        StandInColumn("Note", "VARCHAR(100)"),
    ]
    query = "SELECT 1 AS VISIT_ID, TIMESTAMP '2024-01-01' AS SEEN, 'a' AS Note"
    standin.create_table(DATABASE, SCHEMA, "VISITS", declared, query=query)
    standin.execute(f"COMMENT ON TABLE {name} IS 'who came'")
    standin.execute(f"COMMENT ON COLUMN {name}.VISIT_ID IS 'its number'")
    table = {
        "source": "VISITS",
        "target": "visits",
        "column_names": "lower",
        "uniqueness_columns": ["visit_id"],
        "source_watermark": "SEEN",
        "mode": "upsert",
    }
    config = load_config(snowflake_config(tmp_path, database, standin, table), environ={})

    def migrate() -> None:
        time.sleep(lag + 0.1)  # a plan reads the moment that lies so far back
        with snowmelt.open(config) as mover:
            report = mover.run(mover.plan())
        assert report.exit_code == 0, report.tables

    migrate()
    assert comments(database, "visits") == [
        ("visit_id", "its number", "who came"),
        ("seen", None, "who came"),
        ("note", None, "who came"),
    ]
    standin.execute(f"ALTER TABLE {name} ADD COLUMN PAYER VARCHAR(10) COMMENT 'who paid'")
    standin.execute(f"UPDATE {name} SET PAYER = 'me', SEEN = DATEADD(DAY, 1, SEEN)")
    migrate()
    assert comments(database, "visits")[3] == ("payer", "who paid", "who came")
    assert database.execute("SELECT visit_id, payer FROM visits") == [(1, "me")]
    keys = database.execute("SELECT indexdef FROM pg_indexes WHERE tablename = 'visits'")
    assert ["(visit_id)" in definition for (definition,) in keys] == [True]
