"""Emptying a target, with its record, in the transaction that records the run."""

from __future__ import annotations

import getpass
import logging
import socket
from collections.abc import Mapping
from typing import LiteralString
from uuid import UUID

import psycopg
from psycopg import sql

from snowmelt.errors import Refused
from snowmelt.model import TargetTable
from snowmelt.postgres.connect import Session, without_time_limits
from snowmelt.postgres.ddl import count_within, identifier
from snowmelt.postgres.locks import lock_writers_out, patiently, refusing_blocked
from snowmelt.postgres.marks import forget_marks
from snowmelt.postgres.queries import query

_log = logging.getLogger(__name__)

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
        without_time_limits(connection)
        found = {target: _counted(connection, target, rows) for target, rows in tables.items()}
        # At once: a try that fails gives all back, and no table is closed to readers while another is waited for.
        statement = sql.SQL(_TRUNCATE).format(sql.SQL(", ").join(map(identifier, found)))
        with refusing_blocked():
            patiently(
                connection,
                tuple(found),
                lambda: connection.execute(statement),
                purpose="truncate the target",
            )
        for target, rows in found.items():
            note_removal(connection, run_id, target, rows)


def _counted(connection: psycopg.Connection, target: TargetTable, rows: int | None) -> int:
    """Lock writers out, and count; raises Refused if there are not as many as there must be."""
    with refusing_blocked():
        lock_writers_out(connection, target)
    found = count_within(connection, target)
    if rows is not None and found != rows:
        raise Refused(
            f"the target had {rows:,} rows when it was planned, and has {found:,} now: nothing was truncated",
            table=str(target),
            remedy="see who writes the target; to remove the rows all the same: --allow-truncate",
        )
    return found


def note_removal(
    connection: psycopg.Connection,
    run_id: UUID,
    target: TargetTable,
    rows: int,
    action: str = "truncated",
) -> None:
    """Note that the rows of a target went, and forget how far its sources were in it. A person is told where there
    were any."""
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
    _log.log(
        logging.WARNING if rows else logging.INFO,
        "%s %s: %s rows removed",
        action,
        target,
        f"{rows:,}",
        extra={"action": action, "table": str(target), "rows": rows},
    )
