"""Tables that were replaced and are kept for a while: taking them back, and dropping them in the end."""

from __future__ import annotations

import dataclasses
import getpass
import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from snowmelt.errors import Blocked, ConnectionLost, Refused, RetriableError, TableError
from snowmelt.formats import utc
from snowmelt.model import TargetTable
from snowmelt.postgres.claims import brief
from snowmelt.postgres.connect import Session
from snowmelt.postgres.ddl import identifier
from snowmelt.postgres.exchange import Name, exchange, rename
from snowmelt.postgres.failures import translate
from snowmelt.postgres.marks import forget_marks
from snowmelt.postgres.queries import query
from snowmelt.postgres.shadow import oid_of

_log = logging.getLogger(__name__)

LOCK_MS = 300
"""For dropping a table that nobody should read any more; those that it refers to are locked as well."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A replaced table that is still there. `names` are those of its indexes and the like."""

    table_id: int
    target: TargetTable
    previous: TargetTable
    names: tuple[Name, ...]
    replaced_at: datetime
    keep_until: datetime
    rolled_back_at: datetime | None
    is_over: bool
    is_alone: bool = False
    """Whether it went back to a name that was free: nothing is kept in its stead."""


def kept(session: Session, target: TargetTable | None = None) -> tuple[Kept, ...]:
    """Of one target, or of all, newest first."""
    with session.transaction() as connection:
        return _kept(connection, session.server.database, target)


def _kept(
    connection: psycopg.Connection, database: str, target: TargetTable | None
) -> tuple[Kept, ...]:
    cursor = connection.cursor(row_factory=dict_row)
    names = {"schema": target and target.schema, "table": target and target.name}
    return tuple(_from_row(row, database) for row in cursor.execute(query("kept"), names))


def _from_row(row: dict[str, Any], database: str) -> Kept:
    return Kept(
        row["table_id"],
        TargetTable(database, row["target_schema"], row["target_table"]),
        TargetTable(database, row["target_schema"], row["previous"]),
        tuple(Name(**name) for name in row["names"]),
        row["replaced_at"],
        row["keep_until"],
        row["rolled_back_at"],
        row["is_over"],
    )


def roll_back(session: Session, target: TargetTable) -> Kept:
    """Put the table that was replaced last back in its place, in one transaction; the other is kept in its stead.

    Raises Refused where there is none, where it was done already, or where the target was written since; Blocked
    where the lock is not to be had.
    """
    with brief(session) as connection:
        connection.execute(query("lock_recording"))
        found = _to_roll_back(connection, session.server.database, target)
        gone = oid_of(connection, target) is None
        try:
            left = _moved_in(connection, found) if gone else _exchanged(connection, found)
        except TableError as error:
            raise Refused(
                f"it can't be rolled back: {error.what}",
                table=error.table or str(target),
                remedy=f"remove what is in the way, or copy the rows by hand: they are in {found.previous}",
            ) from error
        forget_marks(connection, target)
        connection.execute(
            query("note_rolled_back"),
            {
                "table_id": found.table_id,
                "by": f"{getpass.getuser()}@{socket.gethostname()}",
                "names": Jsonb([dataclasses.asdict(name) for name in left]),
            },
        )
        if gone:
            connection.execute(query("note_previous_dropped"), {"table_id": found.table_id})
    _log.warning(
        "%s: rolled back to the table that was replaced %s; what it held is %s",
        target,
        utc(found.replaced_at),
        "gone" if gone else f"in {found.previous}",
        extra={"action": "rolled_back", "table": str(target)},
    )
    return dataclasses.replace(found, is_alone=gone)


def _to_roll_back(connection: psycopg.Connection, database: str, target: TargetTable) -> Kept:
    """The table that was replaced last. Raises Refused where it can't come back."""
    found = next(iter(_kept(connection, database, target)), None)
    if found is None:
        raise Refused(
            "no replaced table is kept",
            table=str(target),
            remedy="mode: replace keeps it with keep_previous_hours",
        )
    if found.rolled_back_at is not None:
        raise Refused(
            f"it was rolled back {utc(found.rolled_back_at)}; what it held then is in {found.previous}",
            table=str(target),
            remedy="run snowmelt migrate to load the table anew",
        )
    if oid_of(connection, found.previous) is None:
        raise Refused(
            f"{found.previous}, in which the replaced rows were kept, is gone",
            table=str(target),
            remedy="run snowmelt migrate to load the table anew",
        )
    _require_newest(connection, found)
    return found


def _exchanged(connection: psycopg.Connection, found: Kept) -> tuple[Name, ...]:
    """The names of what the target had until now."""
    target = found.target
    aside = TargetTable("", target.schema, found.previous.name.replace("_old_", "_new_"))
    names = [name for name in found.names if name.kind != "sequence"]
    left = exchange(connection, target, found.previous, names, aside)
    # The rolled back rows are kept under the name that the other table had.
    rename(connection, Name("table", target.schema, aside.name, found.previous.name))
    return left


def _moved_in(connection: psycopg.Connection, found: Kept) -> tuple[Name, ...]:
    """The target was dropped or renamed: its name is free."""
    target = found.target
    try:
        for name in found.names:
            rename(connection, name)
    except psycopg.errors.DuplicateTable as error:
        raise TableError(translate(error).what, table=str(target)) from error
    rename(connection, Name("table", target.schema, found.previous.name, target.name))
    return ()


def _require_newest(connection: psycopg.Connection, found: Kept) -> None:
    """Raise Refused where a load has written the target since, or may be about to."""
    names = {"schema": found.target.schema, "table": found.target.name}
    row = connection.execute(
        query("written_since"), {**names, "table_id": found.table_id}
    ).fetchone()
    if row is not None:
        raise Refused(
            f"run {row[0]} has written the table since, or may be about to: its rows would be lost",
            table=str(found.target),
            remedy=f"end it with: snowmelt abort {row[0]}"
            if row[1]
            else f"the replaced rows are in {found.previous}",
        )


def drop_kept(session: Session, found: Sequence[Kept]) -> tuple[tuple[Kept, str], ...]:
    """Drop replaced tables, each in a transaction of its own; returns those that are left, and why."""
    left = []
    drop: LiteralString = "DROP TABLE IF EXISTS {}"
    for one in found:
        try:
            with brief(session) as connection:
                connection.execute(f"SET LOCAL lock_timeout = {LOCK_MS}")
                connection.execute(sql.SQL(drop).format(identifier(one.previous)))
                connection.execute(query("note_previous_dropped"), {"table_id": one.table_id})
        except Blocked:
            left.append((one, "another session works with it"))
        except (RetriableError, TableError) as error:
            if isinstance(error, ConnectionLost):
                raise
            left.append((one, error.what))
    return tuple(left)
