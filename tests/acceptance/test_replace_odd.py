"""Mode replace where the target has what makes it hard, or the source what the target does not take."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.nights import NOON, Nights
from tests.acceptance.test_replace import leftovers
from tests.support import Database


@pytest.fixture
def nights(database: Database, tmp_path: Path) -> Nights:
    nights = Nights(database, tmp_path, mode="replace")
    nights.run(f"INSERT INTO T SELECT i, {NOON}, 'n' || i FROM range(100) t(i)")
    return nights


def test_a_key_that_can_not_be_built_is_tried_once(nights: Nights) -> None:
    database = nights.database
    database.execute('CREATE TABLE "T" (id bigint PRIMARY KEY, seen timestamp, note text)')
    nights.run(f"INSERT INTO T VALUES (5, {NOON}, 'again')")
    told = nights.migrate(code=1)
    assert "Key (id)=(5) is duplicated" in told["errors"][0]
    tried = "SELECT name, attempts FROM migration_status.post_data"
    assert database.execute(tried) == [("T_pkey", 1)]
    nights.migrate(code=1)
    assert database.execute(tried) == [("T_pkey", 1)]
    # Who gives the key up gets the rows.
    database.execute('ALTER TABLE "T" DROP CONSTRAINT "T_pkey"')
    nights.migrate()
    assert nights.loaded() == nights.rows()
    assert leftovers(database) == []


def test_a_foreign_key_that_is_given_up_is_not_brought_back(nights: Nights) -> None:
    database = nights.database
    database.execute("CREATE TABLE other (id bigint PRIMARY KEY)")
    database.execute(
        'CREATE TABLE "T" (id bigint CONSTRAINT k REFERENCES other, seen timestamp, note text)'
    )
    nights.migrate(code=1)
    database.execute('ALTER TABLE "T" DROP CONSTRAINT k')
    nights.migrate()
    keys = """SELECT count(*) FROM pg_constraint WHERE conrelid = '"T"'::regclass AND contype = 'f'"""
    assert database.value(keys) == 0
    assert nights.loaded() == nights.rows()


KEEPS_ROWS_OUT = {
    "rule": 'CREATE RULE r AS ON INSERT TO "T" DO INSTEAD NOTHING',
    "trigger": """CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS
                      'BEGIN RETURN CASE WHEN new.id > 50 THEN new END; END';
                  CREATE TRIGGER r BEFORE INSERT ON "T" FOR EACH ROW EXECUTE FUNCTION f()""",
}


@pytest.mark.parametrize("kind", KEEPS_ROWS_OUT)
def test_a_refill_that_loses_rows_is_taken_back(nights: Nights, kind: str) -> None:
    nights.migrate()
    before = nights.loaded()
    nights.database.execute(KEEPS_ROWS_OUT[kind])
    nights.run(f"INSERT INTO T VALUES (100, {NOON}, 'new')")
    told = nights.migrate(code=1)
    assert "of 101 rows that it was to be filled with the target has" in told["errors"][0]
    assert nights.loaded() == before


def test_a_sequence_that_can_not_go_so_far_is_told_of(nights: Nights) -> None:
    database = nights.database
    database.execute('CREATE TABLE "T" (id serial, seen timestamp, note text)')
    database.execute('ALTER TABLE "T" ALTER id TYPE bigint')
    nights.run(f"INSERT INTO T VALUES (3000000000, {NOON}, 'far')")
    nights.migrate()
    assert nights.loaded() == nights.rows()


def test_a_key_without_overlaps_goes_over(nights: Nights) -> None:
    database = nights.database
    database.execute(
        """CREATE TABLE "T" (id bigint, seen timestamp, note text,
               a int4range DEFAULT int4range(1, 2), b int4range NOT NULL DEFAULT int4range(1, 2),
               CONSTRAINT k UNIQUE (a, b WITHOUT OVERLAPS))"""
    )
    nights.run("DELETE FROM T WHERE id > 0")
    nights.migrate()
    definition = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'k'"
    assert database.value(definition) == "UNIQUE (a, b WITHOUT OVERLAPS)"
    assert leftovers(database) == []


def test_an_index_that_a_view_needs_stays(database: Database, tmp_path: Path) -> None:
    nights = Nights(database, tmp_path, mode="truncate", disable_index=True)
    nights.run(f"INSERT INTO T SELECT i, {NOON}, 'n' || i FROM range(100) t(i)")
    database.execute('CREATE TABLE "T" (id bigint PRIMARY KEY, seen timestamp, note text)')
    database.execute('CREATE VIEW v AS SELECT id, note FROM "T" GROUP BY id')
    nights.migrate()
    assert nights.loaded() == nights.rows()
