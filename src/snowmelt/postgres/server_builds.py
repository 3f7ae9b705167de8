"""What the server builds for processes that may be gone, and how far it is."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from snowmelt.errors import Blocked
from snowmelt.model import TargetTable
from snowmelt.postgres.builds import Builds
from snowmelt.postgres.claims import brief
from snowmelt.postgres.connect import Session
from snowmelt.postgres.queries import query
from snowmelt.slices import ServerBuild

LOCK_MS = 1_000
"""For a load's row, which a finish may hold."""
_NO_TABLE = {"run_id": None, "schema": None, "table": None}


def builds_of_run(session: Session, run_id: UUID) -> tuple[ServerBuild, ...]:
    """The builds that processes of a run have handed to the server and that it has not ended. It is noted how far
    it is with them, and which have ended without a word."""
    with session.transaction() as connection:
        begun = connection.execute(query("begun_builds"), {"run_id": run_id}).fetchall()
    for schema, target, built_on in begun:
        into = TargetTable("", schema, built_on)
        Builds(session, TargetTable("", schema, target), into).note_lost()
    if not begun:
        return ()
    with session.transaction() as connection:
        rows = _rows(connection, {**_NO_TABLE, "run_id": run_id})
    # Who waits for a lock comes no further, whatever it was doing before.
    at_work = [row for row in rows if not row["waits"]]
    for table_id in dict.fromkeys(row["table_id"] for row in at_work):
        places = [row["place"] for row in at_work if row["table_id"] == table_id]
        _note_advance(session, table_id, places)
    with session.transaction() as connection:
        return tuple(_told(connection, row) for row in rows)


def builds_on(connection: psycopg.Connection, target: TargetTable) -> tuple[ServerBuild, ...]:
    """What any session builds for a target just now, as snowmelt's sessions do."""
    names = {**_NO_TABLE, "schema": target.schema, "table": target.name}
    return tuple(_told(connection, row) for row in _rows(connection, names))


def _rows(connection: psycopg.Connection, names: dict[str, Any]) -> list[dict[str, Any]]:
    cursor = connection.cursor(row_factory=dict_row)
    return cursor.execute(query("server_builds"), names).fetchall()


def _note_advance(session: Session, table_id: int, places: list[Any]) -> None:
    try:
        with brief(session) as connection:
            connection.execute(f"SET LOCAL lock_timeout = {LOCK_MS}")
            told = {"table_id": table_id, "building": Jsonb(places)}
            connection.execute(query("note_advance"), told)
    except Blocked:
        return  # then it is seen the next time


def _told(connection: psycopg.Connection, row: dict[str, Any]) -> ServerBuild:
    since = connection.execute(query("since_advance"), {"table_id": row["table_id"]}).fetchone()
    return ServerBuild(
        row["table"],
        "foreign key" if row["kind"] == "foreign_key" else "index",
        row["name"],
        row["pid"],
        max(row["seconds"] or 0.0, 0.0),
        row["phase"] or "",
        row["share"],
        row["waits"],
        since[0] if since else None,
    )
