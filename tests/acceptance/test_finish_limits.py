"""The end of a load takes as long as its table is large, whatever limits its role has for other work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

import snowmelt
from snowmelt.config import load_config
from snowmelt.deadline import Deadline
from snowmelt.status import State
from tests.acceptance.nights import NOON, Nights
from tests.support import Database, config_for, write_config

ROWS = 40
SECONDS = 30
"""What the role's limits end is tried again until the time is up."""
LIMITS = ["statement_timeout = '1s'", "transaction_timeout = '1s'"]
SLOW: Any = """
    CREATE FUNCTION slow(x bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS
        'BEGIN PERFORM pg_sleep(0.04); RETURN x; END';
    CREATE FUNCTION dally() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.04); RETURN NEW; END'
"""
# Statistics of an expression are those of its values for all rows.
INDEX = 'CREATE INDEX slow ON "T" (slow(id))'
TRIGGER = 'CREATE TRIGGER dally BEFORE INSERT ON "T" FOR EACH ROW EXECUTE FUNCTION dally()'


@pytest.fixture(params=LIMITS)
def hasty(database: Database, request: pytest.FixtureRequest) -> Database:
    """The database by a role of such a limit."""
    role = f"hasty_{database.name}"
    made: Any = f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'hasty'"
    limited: Any = f"ALTER ROLE {role} SET {request.param}"
    database.execute(made)
    dsn = psycopg.conninfo.make_conninfo(database.dsn, user=role, password="hasty")
    database.execute(limited)
    return Database(database.name, dsn)


def ends(nights: Nights, hasty: Database) -> None:
    """What is there already is loaded by another; so the ledger is there as well."""
    nights.migrate(disable_index=False)
    nights.run(f"INSERT INTO T SELECT i, {NOON}, 'n' || i FROM range({ROWS}) t(i)")
    document = config_for(hasty, nights.source, nights.table)
    config = write_config(nights.folder, document)
    with snowmelt.open(load_config(config, environ={})) as mover:
        report = mover.run(mover.plan(), deadline=Deadline.after(SECONDS, 1))
    assert report.state is State.COMPLETED, report
    assert nights.loaded() == nights.rows()


@pytest.mark.parametrize("mode", ["truncate", "replace"])
def test_statistics(database: Database, hasty: Database, tmp_path: Path, mode: str) -> None:
    nights = Nights(database, tmp_path, mode=mode, disable_index=mode == "truncate")
    database.execute('CREATE TABLE "T" (id bigint, seen timestamp, note text)')
    database.execute(SLOW)
    database.execute(INDEX)
    ends(nights, hasty)


def test_a_refill(database: Database, hasty: Database, tmp_path: Path) -> None:
    nights = Nights(database, tmp_path, mode="replace", keep_previous_hours=0)
    database.execute('CREATE TABLE "T" (id bigint, seen timestamp, note text)')
    database.execute(SLOW)
    database.execute(TRIGGER)
    database.execute('CREATE MATERIALIZED VIEW depends AS SELECT id FROM "T"')
    ends(nights, hasty)
