"""What stands in a target table, and creating one that is not there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import LiteralString

import psycopg
from psycopg import errors as pg
from psycopg import sql

from snowmelt.errors import RetriableError, TableError
from snowmelt.model import Column, TargetColumn, TargetState, TargetTable
from snowmelt.postgres.connect import Session
from snowmelt.types import created_type

_COLUMNS: LiteralString = """
    SELECT a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull,
           a.atthasdef OR a.attidentity <> '', a.attgenerated <> '' OR a.attidentity = 'a'
    FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = to_regnamespace(quote_ident(%(schema)s)) AND c.relname = %(table)s
    ORDER BY a.attnum
"""
LOCK_TIMEOUT_MS = 10_000
"""For a look at the target: what stands locked for longer is somebody's maintenance."""

_KIND: LiteralString = """
    SELECT c.relkind::text FROM pg_class c
    WHERE c.relnamespace = to_regnamespace(quote_ident(%(schema)s)) AND c.relname = %(table)s
"""
_UNIQUE_KEYS: LiteralString = """
    SELECT ARRAY(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY k(attnum, place)
                 JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum ORDER BY k.place)
    FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
    WHERE c.relnamespace = to_regnamespace(quote_ident(%(schema)s)) AND c.relname = %(table)s
      AND i.indisunique
"""
_TABLE_KINDS = frozenset("rp")
_OTHER_KINDS = {
    "v": "a view",
    "m": "a materialized view",
    "f": "a foreign table",
    "S": "a sequence",
}


def inspect(session: Session, table: TargetTable) -> TargetState:
    """Columns, unique keys and whether there are rows, by the server's catalogue.

    Raises TableError when the name belongs to something that rows can't be loaded into.
    """
    names = {"schema": table.schema, "table": table.name}
    with looking(session, table) as connection:
        if not exists(connection, table):
            return TargetState(exists=False)
        keys = tuple(tuple(key) for (key,) in connection.execute(_UNIQUE_KEYS, names).fetchall())
        found = connection.execute(
            sql.SQL("SELECT EXISTS (SELECT 1 FROM {})").format(identifier(table))
        ).fetchone()
        return TargetState(True, columns(connection, table), bool(found and found[0]), keys)


@contextmanager
def looking(session: Session, table: TargetTable) -> Iterator[psycopg.Connection]:
    """A transaction to look at a table in, which waits `LOCK_TIMEOUT_MS` for a lock. Raises TableError then."""
    try:
        with session.transaction() as connection:
            connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
            yield connection
    except RetriableError as error:
        if not isinstance(error.__cause__, pg.LockNotAvailable):
            raise
        raise TableError(
            "another session holds the target locked",
            table=str(table),
            remedy="wait for it to end, or see who it is in pg_locks",
        ) from error


def exists(connection: psycopg.Connection, table: TargetTable) -> bool:
    """Whether the table is there. Raises TableError when its name is something else's."""
    names = {"schema": table.schema, "table": table.name}
    found = connection.execute(_KIND, names).fetchone()
    if found is None:
        return False
    (kind,) = found
    if kind not in _TABLE_KINDS:
        raise TableError(
            f"the target is {_OTHER_KINDS.get(kind, 'no table')}",
            table=str(table),
            remedy="name a table, or a name that is free",
        )
    return True


def columns(connection: psycopg.Connection, table: TargetTable) -> tuple[TargetColumn, ...]:
    """The table's columns in order, within a transaction that is already open."""
    names = {"schema": table.schema, "table": table.name}
    return tuple(TargetColumn(*row) for row in connection.execute(_COLUMNS, names))


def create(session: Session, table: TargetTable, columns: Sequence[Column]) -> None:
    """Create the table from the source's columns, names exact, keys left for the finish.

    Idempotent: a table that another process of the run created meanwhile is left as it is. Raises TableError
    for a source type that has no PostgreSQL type.
    """
    parts = []
    for column in columns:
        type = created_type(column.type, column.source_type)
        if type is None:
            raise no_type(table, column)
        nullable = sql.SQL("") if column.nullable else sql.SQL(" NOT NULL")
        parts.append(
            sql.SQL("{} {}{}").format(sql.Identifier(column.name), sql.SQL(type), nullable)
        )
    with session.transaction(durable=True) as connection:
        # CREATE ... IF NOT EXISTS of two processes at once may still collide in the catalogue.
        connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('snowmelt create ' || %s, 0))",
            [str(table)],
        )
        found = connection.execute(
            "SELECT to_regnamespace(quote_ident(%s)) IS NOT NULL", [table.schema]
        ).fetchone()
        if not (found and found[0]):
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(table.schema)))
        connection.execute(
            sql.SQL("CREATE TABLE IF NOT EXISTS {} ({})").format(
                identifier(table), sql.SQL(", ").join(parts)
            )
        )


def no_type(table: TargetTable, column: Column) -> TableError:
    """The refusal of a source type."""
    return TableError(
        f"{column.source_type or column.type} has no PostgreSQL type here",
        table=str(table),
        column=f'"{column.name}"',
        remedy="cast the column to text in a view and migrate the view",
    )


def identifier(table: TargetTable) -> sql.Identifier:
    """Schema and table, quoted as one name."""
    return sql.Identifier(table.schema, table.name)
