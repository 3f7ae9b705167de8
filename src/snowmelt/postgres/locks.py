"""Locks of tables that others use: taken in short tries, so that nobody queues behind one that is waited for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import LiteralString

import psycopg
from psycopg import errors as pg
from psycopg import sql
from psycopg.rows import dict_row

from snowmelt.errors import Refused
from snowmelt.model import TargetTable

LOCK_MS = 300
"""For one try at a lock. Whoever comes after the request waits behind it, readers too, so it is short."""
PATIENCE_SECONDS = 10.0
PAUSE_SECONDS = 0.5
_HOLDERS: LiteralString = """
    SELECT l.pid, l.mode, a.usename, a.application_name, a.state, left(a.query, 200) AS query
    FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'relation' AND l.granted AND l.pid <> pg_backend_pid()
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND l.relation = to_regclass(format('%%I.%%I', %(schema)s::text, %(table)s::text))
    ORDER BY a.xact_start
"""


def locked(
    connection: psycopg.Connection,
    targets: Sequence[TargetTable],
    statement: sql.Composed,
    purpose: str,
) -> None:
    """Run a statement that takes locks, in short tries, within a transaction that is already open.

    Raises Refused with who holds them; `purpose` says what the lock is for.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with connection.transaction():
                connection.execute(f"SET LOCAL lock_timeout = {LOCK_MS}")
                connection.execute(statement)
                connection.execute("SET LOCAL lock_timeout = 0")
            return
        except (pg.LockNotAvailable, pg.DeadlockDetected) as error:
            if time.monotonic() > deadline:
                held = {target: _holders(connection, target) for target in targets}
                held = {target: told for target, told in held.items() if told}
                raise Refused(
                    f"the lock to {purpose} was not to be had in {PATIENCE_SECONDS:.0f} s; "
                    f"it is held by {'; '.join(held.values()) or 'nobody any more'}",
                    table=", ".join(map(str, held or targets)),
                    remedy="wait for them to end, or end them with pg_terminate_backend(pid); then run again",
                ) from error
            time.sleep(PAUSE_SECONDS)


def _holders(connection: psycopg.Connection, target: TargetTable) -> str:
    cursor = connection.cursor(row_factory=dict_row)
    names = {"schema": target.schema, "table": target.name}
    found = cursor.execute(_HOLDERS, names).fetchall()
    return "; ".join(
        f"pid {one['pid']} ({one['usename'] or 'unknown role'}, {one['application_name'] or 'unnamed'}, "
        f"{one['state'] or 'state unknown'}, {one['mode']}): {' '.join((one['query'] or '').split())}"
        for one in found
    )
