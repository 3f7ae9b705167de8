"""Emptying a target, with its record, in the transaction that records the run."""

from __future__ import annotations

import getpass
import logging
import socket
import time
from collections.abc import Mapping, Sequence
from typing import LiteralString
from uuid import UUID

import psycopg
from psycopg import errors as pg
from psycopg import sql
from psycopg.rows import dict_row

from snowmelt.errors import Refused
from snowmelt.model import TargetTable
from snowmelt.postgres.connect import Session
from snowmelt.postgres.ddl import count_within, identifier
from snowmelt.postgres.marks import forget_marks
from snowmelt.postgres.queries import query

_log = logging.getLogger(__name__)

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
_NO_WRITERS: LiteralString = "LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE"
_TRUNCATE: LiteralString = "TRUNCATE {}"


def truncate(session: Session, run_id: UUID, tables: Mapping[TargetTable, int | None]) -> None:
    """Remove all rows of the tables, and note it in the run's loads, within the session's transaction.

    They are counted while nobody can write and everybody can read; the values are how many there must be, None
    where any may go. Marks of the tables go with them. Raises Refused where there are others, or where a lock is
    not to be had in time.
    """
    if not tables:
        return
    with session.transaction(durable=True) as connection:
        # The role's limit would end a count that nobody can do without; the waits have limits of their own.
        connection.execute("SET LOCAL statement_timeout = 0")
        found = {target: _counted(connection, target, rows) for target, rows in tables.items()}
        # At once: a try that fails gives all back, and no table is closed to readers while another is waited for.
        names = sql.SQL(", ").join(map(identifier, found))
        _locked(connection, tuple(found), sql.SQL(_TRUNCATE).format(names))
        for target, rows in found.items():
            _note(connection, run_id, target, rows)


def _counted(connection: psycopg.Connection, target: TargetTable, rows: int | None) -> int:
    """Lock writers out, and count; raises Refused if there are not as many as there must be."""
    _locked(connection, (target,), sql.SQL(_NO_WRITERS).format(identifier(target)))
    found = count_within(connection, target)
    if rows is not None and found != rows:
        raise Refused(
            f"the target had {rows:,} rows when it was planned, and has {found:,} now: nothing was truncated",
            table=str(target),
            remedy="see who writes the target; to remove the rows all the same: --allow-truncate",
        )
    return found


def _note(connection: psycopg.Connection, run_id: UUID, target: TargetTable, rows: int) -> None:
    forget_marks(connection, target)
    connection.execute(
        query("note_truncation"),
        {
            "run_id": run_id,
            "schema": target.schema,
            "table": target.name,
            "rows": rows,
            "by": f"{getpass.getuser()}@{socket.gethostname()}",
        },
    )
    _log.warning(
        "truncated %s: %s rows removed",
        target,
        f"{rows:,}",
        extra={"action": "truncated", "table": str(target), "rows": rows},
    )


def _locked(
    connection: psycopg.Connection, targets: Sequence[TargetTable], statement: sql.Composed
) -> None:
    """Run a statement that takes locks, in short tries. Raises Refused with who holds them."""
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
                    f"the lock to truncate the target was not to be had in {PATIENCE_SECONDS:.0f} s; "
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
