"""Making a target ready for a load's rows: the table in its stead, and indexes that are dropped for the time."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from snowmelt.choices import Mode
from snowmelt.errors import TableError
from snowmelt.model import Column, TargetTable
from snowmelt.postgres.builds import FINISH, Builds
from snowmelt.postgres.claims import brief
from snowmelt.postgres.connect import Session
from snowmelt.postgres.ddl import add_columns_within, create_within
from snowmelt.postgres.locks import patiently, refusing_blocked
from snowmelt.postgres.post_data import PostData, foreign_keys, indexes
from snowmelt.postgres.queries import query
from snowmelt.postgres.shadow import Shadow, create_shadow, drop_table, oid_of, shadow_of
from snowmelt.preflight.indexes import droppable
from snowmelt.replacement import Way

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a load needs of its target, by its plan and its config."""

    columns: tuple[Column, ...]
    """Those that are loaded."""
    added: tuple[Column, ...] = ()
    """Those of them that the target lacks."""
    comment: str = ""
    """Of a table that is created."""
    keys: tuple[str, ...] = ()
    """The uniqueness columns, as the target names them."""
    disable_index: bool = False
    any_rows: bool = False
    """Whether rows of unknown origin may be replaced as well."""


def prepare_load(session: Session, table_id: int, wishes: Wishes) -> None:
    """Make the target of an unfinished load ready; twice is no harm. What could not be built gets its attempts
    back.

    Raises TableError where the table in the target's stead is gone with rows in it, and Blocked where the lock to
    drop an index is not to be had.
    """
    with brief(session) as connection:
        cursor = connection.cursor(row_factory=dict_row)
        load = cursor.execute(query("lock_load"), {"table_id": table_id}).fetchone()
        if load is None or load["completed"]:
            return
        done = cursor.execute(query("recount"), {"table_id": table_id}).fetchone() or {}
        target = TargetTable("", load["target_schema"], load["target_table"])
        shadow = shadow_of(load["plan"], target.schema)
        builds = Builds(session, target, shadow.table if shadow else target, table_id)
        if shadow is not None and oid_of(connection, target) is not None:
            kept: list[PostData] = [*indexes(connection, target), *foreign_keys(connection, target)]
            builds.forget_changed(connection, {(one.kind, one.name): one for one in kept})
        builds.reopen(load["run_id"])
        if shadow is not None:
            _stand_in(connection, target, shadow, wishes, rows=done["rows_written"])
            if wishes.any_rows:
                connection.execute(query("allow_any_rows"), {"table_id": table_id})
        elif wishes.disable_index and done["open_chunks"]:
            _disable(connection, builds, table_id, target, load["plan"], wishes)


def _stand_in(
    connection: psycopg.Connection,
    target: TargetTable,
    shadow: Shadow,
    wishes: Wishes,
    *,
    rows: int,
) -> None:
    if oid_of(connection, shadow.table) is not None:
        return
    if rows:
        raise TableError(
            f"{rows:,} rows were loaded into {shadow.table}, which is gone",
            table=str(target),
            remedy="run with --restart-table: it is loaded anew",
        )
    if oid_of(connection, target) is not None:
        if shadow.way is Way.REFILL:
            add_columns_within(connection, target, wishes.added)
        create_shadow(connection, target, shadow, wishes.columns)
        # A table that takes the target's place brings them with it.
        add_columns_within(connection, shadow.table, wishes.added)
    else:
        create_within(connection, shadow.table, wishes.columns, comment=wishes.comment)


def _disable(
    connection: psycopg.Connection,
    builds: Builds,
    table_id: int,
    target: TargetTable,
    plan: dict[str, Any],
    wishes: Wishes,
) -> None:
    """Drop what the load can do without, and note it, in one transaction."""
    merges = Mode(plan.get("mode", Mode.APPEND)) is not Mode.APPEND
    going = droppable(
        indexes(connection, target),
        wishes.keys,
        merges=merges,
        began_empty=plan.get("began_empty", True),
    )
    if not going:
        return
    statements = [index.drop(target) for index in going]

    def drop() -> None:
        for statement in statements:
            connection.execute(statement)

    patiently(connection, (target,), drop, purpose="drop indexes of the target")
    builds.note(connection, table_id, {index.name: index for index in going}, dropped=True)
    connection.execute(query("note_disabled"), {"table_id": table_id})
    _log.info(
        "%s: dropped until the rows are loaded: %s",
        target,
        ", ".join(index.name for index in going),
        extra={"action": "indexes_disabled", "table": str(target)},
    )


def drop_shadows(session: Session, run_id: UUID) -> None:
    """Drop what an aborted run has loaded beside its targets."""
    with brief(session) as connection:
        cursor = connection.cursor(row_factory=dict_row)
        for row in cursor.execute(query("shadows"), {"run_id": run_id}).fetchall():
            shadow = shadow_of(row["plan"], row["target_schema"])
            if shadow is not None:
                drop_table(connection, shadow.table)


def abandon_load(session: Session, run_id: UUID, table_id: int) -> None:
    """Drop a load from the ledger, with what was loaded beside its target."""
    with brief(session) as connection:
        cursor = connection.cursor(row_factory=dict_row)
        load = cursor.execute(query("lock_load"), {"table_id": table_id}).fetchone()
        shadow = shadow_of(load["plan"], load["target_schema"]) if load else None
        if load is not None:
            target = TargetTable("", load["target_schema"], load["target_table"])
            _await_builders(connection, table_id, shadow.table if shadow else target)
        if shadow is not None:
            drop_table(connection, shadow.table)
        connection.execute(query("forget_noted"), {"run_id": run_id, "table_id": table_id})
        connection.execute(query("abandon_load"), {"run_id": run_id, "table_id": table_id})


def _await_builders(connection: psycopg.Connection, table_id: int, into: TargetTable) -> None:
    """Wait for who builds on a load's table, or finishes it. Raises Refused with who that is."""
    lock = {"table_id": table_id, "chunk_id": FINISH}
    with refusing_blocked():
        patiently(
            connection,
            (into,),
            lambda: connection.execute(query("await_finish"), lock),
            purpose="plan the table anew",
        )
