"""High-water marks: how far a source table is in a target table. They belong to the two tables, not to a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from snowmelt.chunking.bounds import bound_from_json, bound_to_json
from snowmelt.chunking.window import window_from_json
from snowmelt.model import Mark, SourceTable, TargetTable
from snowmelt.postgres.claims import brief
from snowmelt.postgres.connect import Session
from snowmelt.postgres.queries import query


def mark_of(
    session: Session, connection: str, source: SourceTable, target: TargetTable
) -> Mark | None:
    """The mark as committed."""
    with session.transaction() as opened:
        cursor = opened.cursor(row_factory=dict_row)
        row = cursor.execute(query("mark"), place_of_load(connection, source, target)).fetchone()
    if row is None:
        return None
    return Mark(
        column=row["watermark"],
        value=bound_from_json(row["value"]),
        set_at=row["set_at"],
        set_by=row["set_by"],
        run_id=row["run_id"],
        filter=row["source_filter"],
    )


def adopt_mark(
    session: Session, connection: str, source: SourceTable, target: TargetTable, mark: Mark
) -> bool:
    """Set the first mark by choice; False if there is one, which stays."""
    parameters = {
        **place_of_load(connection, source, target),
        "watermark": mark.column,
        "value": Jsonb(bound_to_json(mark.value)),
        "source_filter": mark.filter,
    }
    with brief(session) as opened:
        return opened.execute(query("adopt_mark"), parameters).rowcount == 1


def advance_mark(connection: psycopg.Connection, plan: Mapping[str, Any], table_id: int) -> None:
    """Take the upper end of a load's window as the mark, within the transaction that completes the load.

    A window without one had no row with a watermark: the mark stays.
    """
    if not plan.get("window"):
        return
    window = window_from_json(plan["window"])
    if window.high is None:
        return
    connection.execute(
        query("advance_mark"),
        {
            "table_id": table_id,
            "connection": plan["connection"],
            "watermark": window.key.column,
            "value": Jsonb(bound_to_json(window.high)),
            "source_filter": plan.get("filter"),
        },
    )


def forget_marks(connection: psycopg.Connection, target: TargetTable) -> int:
    """Drop the marks of a target whose rows are removed, within the transaction that does so."""
    names = {"schema": target.schema, "table": target.name}
    return connection.execute(query("forget_marks"), names).rowcount


def place_of_load(connection: str, source: SourceTable, target: TargetTable) -> dict[str, object]:
    """From where to where, as statements of the ledger name it."""
    return {
        "connection": connection,
        "source_database": source.database,
        "source_schema": source.schema,
        "source_table": source.name,
        "target_schema": target.schema,
        "target_table": target.name,
    }
