"""Who is named when a lock on a table is not to be had."""

from __future__ import annotations

import pytest

from snowmelt.errors import Blocked
from snowmelt.model import TargetTable
from snowmelt.postgres.locks import LOCK_MS, patiently
from tests.support import Database


def test_a_try_takes_no_longer_than_it_may_and_its_work_as_long_as_it_likes(
    database: Database,
) -> None:
    """By the server's own limit for locks, which ends with the wait."""
    limits: list[object] = []
    with database.connect() as connection:

        def work() -> None:
            limits.extend(connection.execute("SHOW lock_timeout").fetchall())

        patiently(connection, [], work, purpose="test")
        limits.extend(connection.execute("SHOW lock_timeout").fetchall())
    assert limits == [(f"{LOCK_MS}ms",), ("0",)]


def test_who_came_while_the_lock_was_waited_for_is_not_named(database: Database) -> None:
    """Readers that queue behind a try read once it is given up: ending them would help nobody."""
    tables = [TargetTable(database.name, "public", name) for name in ("A", "B")]
    database.execute('CREATE TABLE "A" (id int); CREATE TABLE "B" (id int)')
    with database.connect() as connection, database.connect() as holder, database.connect() as late:

        def work() -> None:
            late.execute('SELECT count(*) FROM "A"')
            connection.execute('LOCK TABLE "B" IN ACCESS EXCLUSIVE MODE')

        late.autocommit = False
        holder.autocommit = False
        holder.execute('SELECT count(*) FROM "B"')
        with pytest.raises(Blocked) as caught:
            patiently(connection, tables, work, purpose="test", lock_ms=50, patience=0)
        told = str(caught.value)
        assert told.startswith("table public.B: the lock to test was not to be had")
        assert f"pid {holder.info.backend_pid}" in told
        assert f"pid {late.info.backend_pid}" not in told


def test_who_came_after_the_transaction_began_and_holds_the_lock_is_named(
    database: Database,
) -> None:
    """What is done before the lock is asked for may take minutes: statistics, a count."""
    database.execute('CREATE TABLE "A" (id int)')
    tables = [TargetTable(database.name, "public", "A")]
    with (
        database.connect() as connection,
        database.connect() as holder,
        connection.transaction(),
    ):
        connection.execute("SELECT")
        holder.execute("BEGIN")
        holder.execute('SELECT count(*) FROM "A"')
        with pytest.raises(Blocked, match=f"pid {holder.info.backend_pid} "):
            patiently(
                connection,
                tables,
                lambda: connection.execute('LOCK TABLE "A" IN ACCESS EXCLUSIVE MODE'),
                purpose="test",
                lock_ms=50,
                patience=0,
            )
