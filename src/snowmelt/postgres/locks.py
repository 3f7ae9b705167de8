"""Locks on tables that others read: asked for in short tries, so that nobody queues behind a request for long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import LiteralString, TypeVar

import psycopg
from psycopg import errors as pg
from psycopg import sql
from psycopg.rows import dict_row

from snowmelt.errors import Blocked, Refused
from snowmelt.model import TargetTable
from snowmelt.postgres.connect import Session

LOCK_MS = 300
"""For one try at a lock that readers queue behind."""
WRITERS_LOCK_MS = 2_000
"""For one try at a lock that only writers queue behind. An autovacuum makes way for who waits longer than
`deadlock_timeout`, which is a second by default."""
PATIENCE_SECONDS = 10.0
PAUSE_SECONDS = 0.5
_HOLDERS: LiteralString = """
    SELECT l.pid, l.mode, a.usename, a.application_name, a.state, left(a.query, 200) AS query
    FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'relation' AND l.granted AND l.pid <> pg_backend_pid()
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND l.relation = to_regclass(format('%%I.%%I', %(schema)s::text, %(table)s::text))
      -- who began later has waited for the try itself, and has the lock since it was given up
      AND coalesce(a.xact_start <= %(tried)s, true)
    ORDER BY a.xact_start
"""
_TRY: LiteralString = "SELECT clock_timestamp(), set_config('lock_timeout', %s, true)"
_NO_WRITERS: LiteralString = "LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE"

T = TypeVar("T")


def lock_writers_out(connection: psycopg.Connection, target: TargetTable) -> None:
    """Until the transaction ends nobody else writes the table, and everybody reads it. Raises Blocked."""
    statement = sql.SQL(_NO_WRITERS).format(sql.Identifier(target.schema, target.name))
    patiently(
        connection,
        (target,),
        lambda: connection.execute(statement),
        purpose="keep writers out of the table",
        lock_ms=WRITERS_LOCK_MS,
    )


@contextmanager
def refusing_blocked() -> Iterator[None]:
    """Before anything moved a lock that is not to be had refuses the run."""
    try:
        yield
    except Blocked as error:
        raise Refused(error.what, table=error.table, remedy=error.remedy) from error


def patiently(
    connection: psycopg.Connection,
    tables: Sequence[TargetTable],
    work: Callable[[], T],
    *,
    purpose: str,
    lock_ms: int = LOCK_MS,
    patience: float | None = None,
) -> T:
    """Do work that takes locks on the tables, in short tries: one that fails gives all of it back.

    Raises Blocked with who holds the locks after `patience` seconds, `PATIENCE_SECONDS` if it is left out;
    `purpose` says what they are for.
    """
    patience = PATIENCE_SECONDS if patience is None else patience
    deadline = time.monotonic() + patience
    tried = datetime.max.replace(tzinfo=UTC)
    while True:
        try:
            with connection.transaction():
                ((tried, _),) = connection.execute(_TRY, (f"{lock_ms}ms",)).fetchall()
                done = work()
                connection.execute("SET LOCAL lock_timeout = 0")
            return done
        except (pg.LockNotAvailable, pg.DeadlockDetected) as error:
            if time.monotonic() > deadline:
                raise _blocked(connection, tables, tried, purpose, patience) from error
            time.sleep(PAUSE_SECONDS)


def held_by(session: Session, table: TargetTable) -> str:
    """Who holds locks on a table just now; empty where nobody does."""
    with session.transaction() as connection:
        return _holders(connection, table, datetime.max.replace(tzinfo=UTC))


def _blocked(
    connection: psycopg.Connection,
    tables: Sequence[TargetTable],
    tried: datetime,
    purpose: str,
    patience: float,
) -> Blocked:
    held = {table: _holders(connection, table, tried) for table in tables}
    held = {table: told for table, told in held.items() if told}
    return Blocked(
        f"the lock to {purpose} was not to be had in {patience:.0f} s; "
        f"it is held by {'; '.join(held.values()) or 'nobody any more'}",
        table=", ".join(map(str, held or tables)),
        remedy="wait for them to end, or end them with pg_terminate_backend(pid); then run again",
    )


def _holders(connection: psycopg.Connection, target: TargetTable, tried: datetime) -> str:
    """Who held the table's locks already when the last try began, at the server's time `tried`."""
    cursor = connection.cursor(row_factory=dict_row)
    names = {"schema": target.schema, "table": target.name, "tried": tried}
    found = cursor.execute(_HOLDERS, names).fetchall()
    return "; ".join(
        f"pid {one['pid']} ({one['usename'] or 'unknown role'}, {one['application_name'] or 'unnamed'}, "
        f"{one['state'] or 'state unknown'}, {one['mode']}): {' '.join((one['query'] or '').split())}"
        for one in found
    )
