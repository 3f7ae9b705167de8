"""The table that is loaded beside its target: created like it, and dropped where it is not wanted any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import LiteralString
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from snowmelt.model import Column, TargetTable
from snowmelt.postgres.ddl import identifier
from snowmelt.postgres.queries import query
from snowmelt.replacement import Way

_LIKE: LiteralString = """
    CREATE {}TABLE {} (LIKE {} INCLUDING ALL EXCLUDING INDEXES EXCLUDING STATISTICS) USING {}{}
"""
_ROWS_ALONE: LiteralString = (
    "CREATE TABLE {} WITH (autovacuum_enabled = off) AS SELECT {} FROM {} WITH NO DATA"
)


@dataclass(frozen=True, slots=True)
class Shadow:
    """How a load replaces its target, as the ledger keeps it with the load's plan.

    `rows` are how many the target must have when it is replaced, None for any; `hours` for how long the replaced
    table is kept.
    """

    table: TargetTable
    way: Way
    rows: int | None
    hours: int

    @property
    def previous(self) -> TargetTable:
        """The name under which the replaced table is kept."""
        name = self.table.name.replace("_new_", "_old_")
        return TargetTable(self.table.database, self.table.schema, name)


def new_shadow_name() -> str:
    """A name that no other load has; 25 bytes. The ledger keeps it with the load."""
    return f"snowmelt_new_{uuid4().hex[:12]}"


def shadow_of(plan: object, schema: str, database: str = "") -> Shadow | None:
    """What a load's plan in the ledger says of it; None where rows go straight into the target."""
    found = plan.get("replaces") if isinstance(plan, Mapping) else None
    if not isinstance(found, Mapping):
        return None
    table = TargetTable(database, schema, str(found["shadow"]))
    return Shadow(table, Way(found["way"]), found["rows"], int(found["hours"]))


def oid_of(connection: psycopg.Connection, table: TargetTable) -> int | None:
    """The table's OID; None where there is no such table."""
    names = {"schema": table.schema, "table": table.name}
    row = connection.execute(query("oid_of"), names).fetchone()
    return row[0] if row else None


def create_shadow(
    connection: psycopg.Connection,
    target: TargetTable,
    shadow: Shadow,
    columns: Sequence[Column],
) -> None:
    """Create it like its target, which is there, without indexes; to be refilled from, with the columns that are
    loaded alone."""
    if shadow.way is Way.REFILL:
        names = sql.SQL(", ").join(sql.Identifier(column.into) for column in columns)
        connection.execute(
            sql.SQL(_ROWS_ALONE).format(identifier(shadow.table), names, identifier(target))
        )
        return
    cursor = connection.cursor(row_factory=dict_row)
    like = (
        cursor.execute(query("like_table"), {"table_oid": oid_of(connection, target)}).fetchone()
        or {}
    )
    unlogged: LiteralString = "UNLOGGED " if like["unlogged"] else ""
    place: sql.Composable = sql.SQL("")
    if like["tablespace"]:
        place = sql.SQL(" TABLESPACE {}").format(sql.Identifier(like["tablespace"]))
    connection.execute(
        sql.SQL(_LIKE).format(
            sql.SQL(unlogged),
            identifier(shadow.table),
            identifier(target),
            sql.Identifier(like["access_method"]),
            place,
        )
    )
    # Before the rows come: a fillfactor holds for those that are written then.
    oids = {"outgoing": oid_of(connection, target), "incoming": oid_of(connection, shadow.table)}
    for (statement,) in connection.execute(query("carry_options"), oids).fetchall():
        connection.execute(sql.SQL(statement))


def drop_table(connection: psycopg.Connection, table: TargetTable) -> None:
    """Drop a shadow, if it is there, and forget what was to be built on it."""
    drop: LiteralString = "DROP TABLE IF EXISTS {}"
    connection.execute(sql.SQL(drop).format(identifier(table)))
    names = {"schema": table.schema, "built_on": table.name}
    connection.execute(query("forget_post_data"), names)
