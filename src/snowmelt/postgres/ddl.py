"""What stands in a target table, and creating one that is not there."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import LiteralString

import psycopg
from psycopg import errors as pg
from psycopg import sql

from snowmelt.chunking.bounds import Bound, Timestamp
from snowmelt.errors import RetriableError, TableError
from snowmelt.model import Column, TargetColumn, TargetState, TargetTable
from snowmelt.postgres.connect import Session
from snowmelt.postgres.locks import patiently, refusing_blocked
from snowmelt.types import created_type

_log = logging.getLogger(__name__)

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
_NULLS_MEET: LiteralString = """
    SELECT EXISTS (
        SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
        WHERE c.relnamespace = to_regnamespace(quote_ident(%(schema)s)) AND c.relname = %(table)s
          AND i.indisunique AND i.indpred IS NULL AND i.indnullsnotdistinct
          AND ARRAY(SELECT a.attname::text FROM pg_attribute a
                    WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1]) ORDER BY 1)
              = %(columns)s::text[])
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
        return TargetState(True, columns(connection, table), _has_rows(connection, table), keys)


def _has_rows(connection: psycopg.Connection, table: TargetTable) -> bool:
    statement: LiteralString = "SELECT EXISTS (SELECT 1 FROM {})"
    try:
        found = connection.execute(sql.SQL(statement).format(identifier(table))).fetchone()
    except pg.InsufficientPrivilege as error:
        grant: LiteralString = "GRANT USAGE ON SCHEMA {} TO {role}; GRANT SELECT ON {} TO {role};"
        names = (sql.Identifier(table.schema), identifier(table))
        role = sql.Identifier(connection.info.user)
        raise TableError(
            f"whether the target has rows could not be found out: {error.diag.message_primary}",
            table=str(table),
            remedy=sql.SQL(grant).format(*names, role=role).as_string(connection),
        ) from error
    return bool(found and found[0])


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


def count(session: Session, table: TargetTable) -> int:
    """All rows of the table; reads it whole."""
    with looking(session, table) as connection:
        return count_within(connection, table)


def count_within(connection: psycopg.Connection, table: TargetTable) -> int:
    """The same, within a transaction that is already open."""
    statement: LiteralString = "SELECT count(*) FROM {}"
    row = connection.execute(sql.SQL(statement).format(identifier(table))).fetchone()
    return int(row[0]) if row else 0


def latest(session: Session, table: TargetTable, column: str) -> Bound | None:
    """The greatest value of a column as a bound; None without any. Raises TableError for a column that has no
    order of time or number, or a value that no bound holds."""
    statement: LiteralString = "SELECT max({}) FROM {}"
    with looking(session, table) as connection:
        found = next((one for one in columns(connection, table) if one.name == column), None)
        kind = found.type.partition("(")[0] if found else ""
        if kind not in _ORDERED:
            raise TableError(
                f"is {found.type if found else 'not there'}, and a mark is a time or a number",
                table=str(table),
                column=f'"{column}"',
                remedy="name a column of a time or number as target_watermark",
            )
        connection.execute("SET LOCAL TimeZone = 'UTC'")
        row = connection.execute(
            sql.SQL(statement).format(sql.Identifier(column), identifier(table))
        ).fetchone()
    value = row[0] if row else None
    if isinstance(value, datetime):
        return Timestamp(value.astimezone(UTC) if value.tzinfo else value)
    return value


_ORDERED = frozenset(
    {
        "date",
        "timestamp without time zone",
        "timestamp with time zone",
        "smallint",
        "integer",
        "bigint",
        "numeric",
    }
)


def nulls_meet(connection: psycopg.Connection, table: TargetTable, keys: Sequence[str]) -> bool:
    """Whether a unique index on exactly the key columns finds rows without a value as well."""
    names = {"schema": table.schema, "table": table.name, "columns": sorted(keys)}
    row = connection.execute(_NULLS_MEET, names).fetchone()
    return bool(row and row[0])


def create(
    session: Session,
    table: TargetTable,
    columns: Sequence[Column],
    unique: Sequence[str] = (),
    *,
    primary: bool = False,
    comment: str = "",
) -> None:
    """Create the table from the source's columns, with its comments. A primary key is left for the finish;
    `unique` is a key that rows are found by while they are loaded, by the target's names; `primary` says that it
    is the primary one.

    Idempotent: a table that another process of the run created meanwhile is left as it is. Raises TableError
    for a source type that has no PostgreSQL type.
    """
    with session.transaction(durable=True) as connection:
        create_within(connection, table, columns, unique, primary=primary, comment=comment)


def create_within(
    connection: psycopg.Connection,
    table: TargetTable,
    columns: Sequence[Column],
    unique: Sequence[str] = (),
    *,
    primary: bool = False,
    comment: str = "",
) -> None:
    """The same, within a transaction that is already open."""
    parts = [
        sql.SQL("{}{}").format(
            _definition(table, column), sql.SQL("" if column.nullable else " NOT NULL")
        )
        for column in columns
    ]
    if unique:
        kind: LiteralString = "PRIMARY KEY ({})" if primary else "UNIQUE ({})"
        parts.append(sql.SQL(kind).format(sql.SQL(", ").join(map(sql.Identifier, unique))))
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
    if connection.execute(_KIND, {"schema": table.schema, "table": table.name}).fetchone():
        return
    connection.execute(
        sql.SQL("CREATE TABLE IF NOT EXISTS {} ({})").format(
            identifier(table), sql.SQL(", ").join(parts)
        )
    )
    _comment(connection, table, columns, comment)


def add_columns(session: Session, table: TargetTable, wanted: Sequence[Column]) -> None:
    """Add the columns that are not there, nullable and with the source's comments: all or none, durably.

    Nothing is rewritten; the lock is taken in short tries. Idempotent. Raises Refused with who holds the table,
    TableError for a source type that has no PostgreSQL type.
    """
    with session.transaction(durable=True) as connection, refusing_blocked():
        add_columns_within(connection, table, wanted)


def add_columns_within(
    connection: psycopg.Connection, table: TargetTable, wanted: Sequence[Column]
) -> None:
    """The same, within a transaction that is already open. Raises Blocked with who holds the table."""
    each: LiteralString = "ADD COLUMN IF NOT EXISTS {}"
    alter: LiteralString = "ALTER TABLE {} {}"
    there = {column.name for column in columns(connection, table)}
    new = [column for column in wanted if column.into not in there]
    if not new:
        return
    parts = [sql.SQL(each).format(_definition(table, column)) for column in new]
    statement = sql.SQL(alter).format(identifier(table), sql.SQL(", ").join(parts))
    patiently(
        connection,
        (table,),
        lambda: connection.execute(statement),
        purpose="add columns to the target",
    )
    _comment(connection, table, new)


def _definition(table: TargetTable, column: Column) -> sql.Composed:
    type = created_type(column.type, column.source_type)
    if type is None:
        raise no_type(table, column)
    return sql.SQL("{} {}").format(sql.Identifier(column.into), sql.SQL(type))


def _comment(
    connection: psycopg.Connection,
    table: TargetTable,
    columns: Sequence[Column],
    comment: str = "",
) -> None:
    """Say of table and columns what the source says. A comment that the database's encoding does not hold is left
    out: no row depends on it."""
    of_table: LiteralString = "COMMENT ON TABLE {} IS {}"
    of_column: LiteralString = "COMMENT ON COLUMN {}.{} IS {}"
    name = identifier(table)
    statements = [sql.SQL(of_table).format(name, sql.Literal(comment))] if comment else []
    statements += [
        sql.SQL(of_column).format(name, sql.Identifier(column.into), sql.Literal(column.comment))
        for column in columns
        if column.comment
    ]
    for statement in statements:
        try:
            with connection.transaction():
                connection.execute(statement)
        except psycopg.DataError as error:
            _log.warning(
                "%s: a comment was left out: %s",
                table,
                str(error).strip(),
                extra={"action": "comment_left_out", "table": str(table)},
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
