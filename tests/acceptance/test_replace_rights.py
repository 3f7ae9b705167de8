"""Mode replace as a role that is not almighty, and with columns that come, go or are spelled otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo

from tests.acceptance.nights import NOON, Nights
from tests.support import Database

OID: Any = """SELECT '"T"'::regclass::oid"""


@pytest.fixture
def nights(database: Database, tmp_path: Path) -> Nights:
    """What is loaded by a role that may do no more than it is granted."""
    name = database.name
    made: Any = f"""
        CREATE ROLE owner_{name}; CREATE ROLE reader_{name};
        CREATE ROLE loader_{name} LOGIN PASSWORD 'loader';
        GRANT CREATE ON DATABASE {name} TO loader_{name};
        GRANT CREATE, USAGE ON SCHEMA public TO owner_{name}, loader_{name};
        CREATE TABLE "T" (id bigint, seen timestamp, note text);
        CREATE INDEX by_note ON "T" (note);
        GRANT SELECT ON "T" TO reader_{name};
        ALTER TABLE "T" OWNER TO owner_{name};
    """
    database.execute(made)
    as_loader = Database(
        name, make_conninfo(database.dsn, user=f"loader_{name}", password="loader")
    )
    nights = Nights(as_loader, tmp_path, mode="replace")
    nights.run(f"INSERT INTO T SELECT i, {NOON}, 'n' || i FROM range(100) t(i)")
    return nights


def _as_owner(nights: Nights, database: Database, statement: str) -> None:
    made: Any = statement.replace("{n}", database.name)
    database.execute(made)


def test_a_member_of_the_owner_swaps_and_the_table_stays_the_owners(
    nights: Nights, database: Database
) -> None:
    _as_owner(nights, database, "GRANT owner_{n} TO loader_{n}")
    before = database.value(OID)
    nights.migrate(keep_previous_hours=1)
    assert database.value(OID) != before
    owner: Any = "SELECT tableowner FROM pg_tables WHERE tablename = 'T'"
    assert database.value(owner) == f"owner_{database.name}"
    reads: Any = f"""SELECT has_table_privilege('reader_{database.name}', '"T"', 'SELECT')"""
    assert database.value(reads)
    assert nights.command("rollback", "T").returncode == 0
    assert database.value(OID) == before
    assert database.value(owner) == f"owner_{database.name}"


def test_who_is_no_member_refills_as_far_as_it_may(nights: Nights, database: Database) -> None:
    _as_owner(nights, database, 'GRANT SELECT, INSERT ON "T" TO loader_{n}')
    told = nights.migrate(code=1)
    assert 'GRANT TRUNCATE ON TABLE public."T" TO' in told["error"]
    _as_owner(nights, database, 'GRANT TRUNCATE ON "T" TO loader_{n}')
    before = database.value(OID)
    nights.migrate()
    assert database.value(OID) == before
    assert nights.loaded() == nights.rows()


def test_an_owner_that_may_create_nothing_is_refilled(nights: Nights, database: Database) -> None:
    _as_owner(nights, database, "GRANT owner_{n} TO loader_{n}")
    _as_owner(nights, database, "REVOKE CREATE ON SCHEMA public FROM owner_{n}")
    before = database.value(OID)
    nights.migrate()
    assert database.value(OID) == before
    assert nights.loaded() == nights.rows()


def test_who_may_not_make_the_table_is_told_so(nights: Nights, database: Database) -> None:
    _as_owner(nights, database, "GRANT owner_{n} TO loader_{n}")
    _as_owner(nights, database, "REVOKE CREATE ON SCHEMA public FROM loader_{n}, owner_{n}, public")
    told = nights.migrate(code=1)
    assert f"GRANT CREATE ON SCHEMA public TO loader_{database.name};" in told["error"]


@pytest.mark.parametrize("refilled", [False, True], ids=["swap", "refill"])
def test_columns_that_the_source_gained(database: Database, tmp_path: Path, refilled: bool) -> None:
    nights = Nights(database, tmp_path, mode="replace")
    nights.run(f"INSERT INTO T SELECT i, {NOON}, 'n' || i FROM range(10) t(i)")
    nights.migrate()
    database.execute('ALTER TABLE "T" ADD only_here int DEFAULT 5')
    if refilled:
        database.execute('CREATE MATERIALIZED VIEW depends AS SELECT id FROM "T"')
    nights.run("ALTER TABLE T ADD COLUMN gained INTEGER", "UPDATE T SET gained = id + 1")
    nights.migrate()
    found = database.execute('SELECT id, gained, only_here FROM "T" ORDER BY id')
    assert found == [(i, i + 1, 5) for i in range(10)]


@pytest.mark.parametrize("refilled", [False, True], ids=["swap", "refill"])
def test_columns_of_other_case(database: Database, tmp_path: Path, refilled: bool) -> None:
    nights = Nights(database, tmp_path, mode="replace")
    nights.run(f"INSERT INTO T SELECT i, {NOON}, 'n' || i FROM range(10) t(i)")
    database.execute('CREATE TABLE "T" ("NOTE" text PRIMARY KEY, "ID" bigint)')
    if refilled:
        database.execute('CREATE MATERIALIZED VIEW depends AS SELECT "ID" FROM "T"')
    nights.migrate()
    nights.migrate()
    found = database.execute('SELECT "ID", "NOTE" FROM "T" ORDER BY 1')
    assert found == [(i, f"n{i}") for i in range(10)]


def test_a_created_table_in_lower_case_with_its_key(database: Database, tmp_path: Path) -> None:
    nights = Nights(database, tmp_path, mode="replace", column_names="lower", target="made")
    nights.run("DROP TABLE T", 'CREATE TABLE T ("Id" BIGINT PRIMARY KEY, "Note" VARCHAR)')
    nights.run(
        "INSERT INTO T SELECT i, 'n' || i FROM range(10) t(i)", "COMMENT ON TABLE T IS 'of T'"
    )
    nights.table["chunking_columns"] = ["Id"]
    nights.migrate()
    assert len(database.execute("SELECT id, note FROM made")) == 10
    key: Any = """SELECT conname, pg_get_constraintdef(oid), obj_description('made'::regclass)
                  FROM pg_constraint WHERE conrelid = 'made'::regclass AND contype = 'p'"""
    assert database.execute(key) == [("made_pkey", "PRIMARY KEY (id)", "of T")]


def test_columns_of_the_target_that_change_meanwhile(database: Database, tmp_path: Path) -> None:
    """What was altered since the table in its stead was made is not undone: the run stops."""
    nights = Nights(database, tmp_path, mode="replace")
    nights.run(f"INSERT INTO T SELECT i, {NOON}, 'n' || i FROM range(10) t(i)")
    nights.migrate()
    nights.run("UPDATE T SET note = repeat('x', 2000000) WHERE id = 3")
    database.execute('ALTER TABLE "T" ADD CONSTRAINT short CHECK (length(note) < 100)')
    told = nights.migrate(code=1)
    assert "short" in str(told)
    database.execute('ALTER TABLE "T" ALTER note SET DEFAULT 5')
    nights.run("UPDATE T SET note = 'n3' WHERE id = 3")
    told = nights.migrate(code=1)
    assert "--restart-table" in str(told)
    nights.command("migrate", "--restart-table", "T")
    assert nights.loaded() == nights.rows()
    assert database.value("SELECT count(*) FROM pg_class WHERE relname LIKE 'snowmelt%'") == 0
