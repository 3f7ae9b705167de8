"""Mode replace where the target has what makes it hard, or the source what the target does not take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
    keys = (
        """SELECT count(*) FROM pg_constraint WHERE conrelid = '"T"'::regclass AND contype = 'f'"""
    )
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


def test_a_dropped_target_is_brought_back(nights: Nights) -> None:
    database = nights.database
    database.execute(
        'CREATE TABLE "T" (id bigint PRIMARY KEY, seen timestamp, note text, n int GENERATED ALWAYS AS IDENTITY)'
    )
    nights.migrate()
    nights.migrate(keep_previous_hours=1)
    database.execute('CREATE MATERIALIZED VIEW m AS SELECT id FROM "T"')
    told = nights.command("rollback", "T")
    assert told.returncode == 1
    assert "it would leave behind materialized view m" in told.stderr
    assert "they are in public.snowmelt_old_" in told.stderr
    assert "--restart-table" not in told.stderr
    database.execute('DROP TABLE "T" CASCADE')
    assert nights.command("rollback", "T").returncode == 0
    assert nights.loaded() == nights.rows()
    assert leftovers(database) == []
    assert database.value("SELECT count(*) FROM pg_indexes WHERE indexname = 'T_pkey'") == 1
    nights.migrate()


def test_a_sequence_that_can_not_go_so_far_is_told_of(nights: Nights) -> None:
    database = nights.database
    database.execute('CREATE TABLE "T" (id serial, seen timestamp, note text)')
    database.execute('ALTER TABLE "T" ALTER id TYPE bigint')
    nights.run(f"INSERT INTO T VALUES (3000000000, {NOON}, 'far')")
    nights.migrate()
    assert nights.loaded() == nights.rows()


def test_a_reader_of_a_referenced_table_is_not_in_the_way(nights: Nights) -> None:
    database = nights.database
    database.execute("CREATE TABLE other (id bigint PRIMARY KEY)")
    database.execute("INSERT INTO other SELECT generate_series(0, 100)")
    database.execute('CREATE TABLE "T" (id bigint REFERENCES other, seen timestamp, note text)')
    with database.connect() as session, session.transaction():
        session.execute("SELECT count(*) FROM other")
        nights.migrate()
        assert nights.loaded() == nights.rows()
        (left,) = leftovers(database)
        assert left.startswith("snowmelt_old_")
    assert nights.command("cleanup").returncode == 0
    assert leftovers(database) == []


def test_what_takes_values_of_an_identity_goes_on_with_it(nights: Nights) -> None:
    database = nights.database
    database.execute(
        """CREATE TABLE "T" (id bigint, seen timestamp, note text,
               n bigint GENERATED ALWAYS AS IDENTITY (SEQUENCE NAME numbers));
           COMMENT ON SEQUENCE numbers IS 'of both'"""
    )
    nights.migrate()
    told = "SELECT obj_description('numbers'::regclass)"
    assert database.value(told) == "of both"
    database.execute("CREATE TABLE other (n bigint DEFAULT nextval('numbers'))")
    nights.migrate()
    assert leftovers(database) == []
    both = "WITH o AS (INSERT INTO other DEFAULT VALUES RETURNING n) SELECT n FROM o"
    assert database.value(both) > database.value('SELECT max(n) FROM "T"')


def test_rows_are_packed_as_the_table_says(nights: Nights) -> None:
    database = nights.database
    database.execute(
        'CREATE TABLE "T" (id bigint, seen timestamp, note text) WITH (fillfactor = 10)'
    )
    nights.migrate()
    assert database.value("""SELECT pg_relation_size('"T"') / 8192""") > 4


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


def test_a_key_that_was_added_by_hand_is_taken_for_built(
    database: Database, tmp_path: Path
) -> None:
    nights = Nights(database, tmp_path, mode="truncate", disable_index=True)
    nights.run(f"INSERT INTO T SELECT i % 99, {NOON}, 'n' || i FROM range(100) t(i)")
    database.execute(
        'CREATE TABLE "T" (id bigint CONSTRAINT k PRIMARY KEY, seen timestamp, note text)'
    )
    nights.migrate(code=1)
    database.execute("DELETE FROM \"T\" WHERE note = 'n99'")
    database.execute('ALTER TABLE "T" ADD CONSTRAINT k PRIMARY KEY (id)')
    nights.migrate()
    left = "SELECT count(*) FROM migration_status.post_data WHERE attached_at IS NULL"
    assert database.value(left) == 0
    assert nights.command("indexes", "missing").stdout == "no index is missing\n"


def test_an_index_that_can_not_come_back_is_forgotten(database: Database, tmp_path: Path) -> None:
    nights = Nights(database, tmp_path, mode="truncate", disable_index=True)
    nights.run(f"INSERT INTO T SELECT i % 99, {NOON}, 'same' FROM range(100) t(i)")
    database.execute('CREATE TABLE "T" (id bigint, seen timestamp, note text, other text)')
    database.execute('CREATE UNIQUE INDEX "The key" ON "T" (id, coalesce(other, \'\'))')
    nights.migrate(code=1)
    database.execute('ALTER TABLE "T" DROP COLUMN other')
    assert 'column "other" does not exist' in nights.migrate(code=1)["errors"][0]
    other = nights.command("indexes", "forget", "T", "--index", "another")
    assert other.stdout == "no index is missing\n"
    told = nights.command("indexes", "forget", "T", "--index", "The key").stdout
    assert "forgotten: The key UNIQUE USING btree (id, COALESCE(other, ''::text))" in told
    nights.migrate()
    assert len(nights.loaded()) == 100


def test_rows_of_an_unlogged_table_that_are_gone_are_missed(nights: Nights) -> None:
    database = nights.database
    database.execute('CREATE UNLOGGED TABLE "T" (id bigint PRIMARY KEY, seen timestamp, note text)')
    nights.run(f"INSERT INTO T VALUES (5, {NOON}, 'again')")
    nights.migrate(code=1)
    database.execute('ALTER TABLE "T" DROP CONSTRAINT "T_pkey"')
    (name,) = leftovers(database)
    statement: Any = f'DELETE FROM "{name}" WHERE id < 50'
    database.execute(statement)
    told = nights.migrate(code=1)
    assert "which is UNLOGGED and has 50" in told["errors"][0]
    assert nights.loaded() == []


def test_an_index_that_a_view_needs_stays(database: Database, tmp_path: Path) -> None:
    nights = Nights(database, tmp_path, mode="truncate", disable_index=True)
    nights.run(f"INSERT INTO T SELECT i, {NOON}, 'n' || i FROM range(100) t(i)")
    database.execute('CREATE TABLE "T" (id bigint PRIMARY KEY, seen timestamp, note text)')
    database.execute('CREATE VIEW v AS SELECT id, note FROM "T" GROUP BY id')
    nights.migrate()
    assert nights.loaded() == nights.rows()
