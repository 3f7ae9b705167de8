"""Ledger and protection of targets rest on this: each statement sees what was committed before it, whatever
isolation a role or a database has by default."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from snowmelt.postgres.connect import Server, Session
from tests.acceptance.nights import NOON, Nights
from tests.acceptance.processes import wait_until
from tests.support import Database

WAITS = "SELECT FROM pg_locks WHERE NOT granted AND mode = 'ShareRowExclusiveLock'"


def strict(database: Database, level: str) -> None:
    setting: Any = f"ALTER DATABASE {database.name} SET default_transaction_isolation = '{level}'"
    database.execute(setting)


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_row_that_comes_while_the_lock_is_waited_for_is_counted(
    database: Database, tmp_path: Path, level: str
) -> None:
    nights = Nights(database, tmp_path, mode="replace", keep_previous_hours=0)
    nights.run(f"INSERT INTO T SELECT i, {NOON}, 'n' || i FROM range(10) t(i)")
    nights.migrate()
    with database.connect() as writer:
        writer.execute("BEGIN")
        writer.execute("""INSERT INTO "T" VALUES (777, now(), 'of another')""")
        strict(database, level)

        def commit() -> None:
            wait_until(lambda: database.execute(WAITS), "the wait for the lock")
            writer.execute("COMMIT")

        thread = threading.Thread(target=commit)
        thread.start()
        told = nights.migrate(code=1)
        thread.join()
    assert "the target had 10 rows when it was planned, and has 11 now" in str(told)
    assert nights.database.value('SELECT count(*) FROM "T"') == 11


def test_every_transaction_of_a_session(database: Database) -> None:
    strict(database, "serializable")
    session = Session(Server.of({}, dsn=database.dsn))
    shown = "SHOW transaction_isolation"
    with session.transaction() as connection:
        assert connection.execute(shown).fetchone() == ("read committed",)
    with session.handing_over() as connection:
        assert connection.execute(shown).fetchone() == ("read committed",)
        connection.execute("COMMIT")
    session.close()
