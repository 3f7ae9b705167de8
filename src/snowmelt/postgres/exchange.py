"""One table takes the name and place of another, in a transaction that is open.

What of the outgoing table can be made on another one is carried over; whatever else depends on it stops the
exchange.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from snowmelt.errors import TableError
from snowmelt.model import TargetTable
from snowmelt.postgres.ddl import identifier
from snowmelt.postgres.locks import patiently
from snowmelt.postgres.queries import query
from snowmelt.postgres.shadow import oid_of

_RENAMES: dict[str, LiteralString] = {
    "index": "ALTER INDEX {} RENAME TO {}",
    "statistics": "ALTER STATISTICS {} RENAME TO {}",
    "sequence": "ALTER SEQUENCE {} RENAME TO {}",
    "table": "ALTER TABLE {} RENAME TO {}",
}
PATIENCE_SECONDS = 60.0
"""Of one attempt at an exchange; a load that is complete tries again as often as it takes."""


@dataclass(frozen=True, slots=True)
class Name:
    """Something beside a table that has a name of its own: as it is called now, and as it is to be."""

    kind: str
    schema: str
    now: str
    then: str

    @property
    def turned(self) -> Name:
        return Name(self.kind, self.schema, self.then, self.now)


def carry_early(
    connection: psycopg.Connection, outgoing: TargetTable, incoming: TargetTable, prefix: str
) -> None:
    """Storage options, statistics targets, extended statistics and replica identity, which ANALYZE and the
    building of indexes go by; twice is no harm. Names of statistics begin with `prefix`."""
    oids = _oids(connection, outgoing, incoming)
    _carry(connection, oids, "carry_options", "carry_statistics_targets", "carry_replica_identity")
    cursor = connection.cursor(row_factory=dict_row)
    for row in cursor.execute(
        query("carry_extended_statistics"), {**oids, "prefix": prefix}
    ).fetchall():
        place = TargetTable("", row["schema"], row["made_as"])
        drop: LiteralString = "DROP STATISTICS IF EXISTS {}"
        connection.execute(sql.SQL(drop).format(identifier(place)))
        for statement in (row["statement"], row["goal"], row["owner"], row["comment"]):
            if statement is not None:
                connection.execute(_spelled(statement))


def statistics_made(
    connection: psycopg.Connection, outgoing: TargetTable, prefix: str
) -> tuple[Name, ...]:
    """The names of the extended statistics that `carry_early` made. Those that came since are not carried."""
    cursor = connection.cursor(row_factory=dict_row)
    oid = oid_of(connection, outgoing)
    rows = cursor.execute(
        query("carry_extended_statistics"), {"outgoing": oid, "incoming": oid, "prefix": prefix}
    ).fetchall()
    found = (Name("statistics", row["schema"], row["made_as"], row["name"]) for row in rows)
    return tuple(name for name in found if _exists(connection, name))


def exchange(
    connection: psycopg.Connection,
    outgoing: TargetTable,
    incoming: TargetTable,
    names: Iterable[Name],
    aside: TargetTable,
) -> tuple[Name, ...]:
    """Put `incoming` in the place of `outgoing`, which is then `aside`.

    `names` are those of the incoming table's indexes and statistics. Readers wait for the moment that this takes,
    and for each try at the lock. Returns the names of what the outgoing table has, by their `then` they go back.
    Raises Blocked where the lock is not to be had, TableError where the tables differ or something would be left
    behind.
    """
    lock: LiteralString = "LOCK TABLE {} IN ACCESS EXCLUSIVE MODE"
    statement = sql.SQL(lock).format(identifier(outgoing))

    def once() -> tuple[Name, ...]:
        connection.execute(statement)
        return _exchange(connection, outgoing, incoming, tuple(names), aside)

    return patiently(
        connection, (outgoing,), once, purpose="exchange the table", patience=PATIENCE_SECONDS
    )


def _exchange(
    connection: psycopg.Connection,
    outgoing: TargetTable,
    incoming: TargetTable,
    names: tuple[Name, ...],
    aside: TargetTable,
) -> tuple[Name, ...]:
    oids = _oids(connection, outgoing, incoming)
    _require_alike(connection, outgoing, oids)
    _carry(connection, oids, "carry_owner", "carry_grants", "carry_comments", "carry_sequences")
    sequences = _identities(connection, oids)
    for _, statements in sequences:
        for statement in statements:
            connection.execute(_spelled(statement))
    views = [row[1] for row in connection.execute(query("views_on"), oids).fetchall()]
    arriving = [*names, *(one for one, _ in sequences)]
    kept = []
    for number, one in enumerate(arriving):
        spare = Name(one.kind, one.schema, one.then, f"{aside.name}_{number}")
        if _exists(connection, spare):
            rename(connection, spare)
            kept.append(spare.turned)
    rename(connection, Name("table", outgoing.schema, outgoing.name, aside.name))
    for one in arriving:
        rename(connection, one)
    rename(connection, Name("table", incoming.schema, incoming.name, outgoing.name))
    for view in views:
        connection.execute(_spelled(view))
    return tuple(kept)


def _require_alike(
    connection: psycopg.Connection, outgoing: TargetTable, oids: Mapping[str, int]
) -> None:
    dependents = _column(connection, "dependents", {"table_oid": oids["outgoing"]})
    if dependents:
        raise TableError(
            f"the table can't be exchanged any more: it would leave behind {', '.join(dependents)}",
            table=str(outgoing),
            remedy="drop what refers to the table and run again, or run with --restart-table to refill it instead",
        )
    changed = [
        *_column(connection, "differing_columns", oids),
        *_column(connection, "differing_checks", oids),
    ]
    if changed:
        raise TableError(
            f"the table was altered since the one in its stead was made: {', '.join(changed)}",
            table=str(outgoing),
            remedy="run with --restart-table: it is loaded anew, as the table is now",
        )


def _identities(
    connection: psycopg.Connection, oids: Mapping[str, int]
) -> list[tuple[Name, list[str]]]:
    """Sequences of identity columns, with what makes the incoming one what the other is."""
    cursor = connection.cursor(row_factory=dict_row)
    rows = cursor.execute(query("identity_sequences"), oids).fetchall()
    return [
        (
            Name("sequence", row["schema"], row["made_as"], row["name"]),
            [row["value"], *row["grants"]],
        )
        for row in rows
    ]


def _carry(connection: psycopg.Connection, oids: Mapping[str, int], *statements: str) -> None:
    for name in statements:
        for statement in _column(connection, name, oids):
            connection.execute(_spelled(statement))


def _column(
    connection: psycopg.Connection, name: str, parameters: Mapping[str, object]
) -> list[str]:
    return [row[0] for row in connection.execute(query(name), parameters).fetchall() if row[0]]


def _spelled(statement: str) -> sql.SQL:
    """A statement that the server composed of its own catalogue, quoted by format()."""
    return sql.SQL(statement)


def _oids(
    connection: psycopg.Connection, outgoing: TargetTable, incoming: TargetTable
) -> dict[str, int]:
    found = {"outgoing": oid_of(connection, outgoing), "incoming": oid_of(connection, incoming)}
    for place, table in (("outgoing", outgoing), ("incoming", incoming)):
        if found[place] is None:
            raise TableError(
                "the table is gone",
                table=str(table),
                remedy="run with --restart-table: it is loaded anew",
            )
    return {place: oid for place, oid in found.items() if oid is not None}


def _exists(connection: psycopg.Connection, one: Name) -> bool:
    if one.kind == "statistics":
        row = connection.execute(
            "SELECT EXISTS (SELECT FROM pg_statistic_ext WHERE stxname = %s AND stxnamespace = "
            "to_regnamespace(quote_ident(%s)))",
            [one.now, one.schema],
        ).fetchone()
        return bool(row and row[0])
    return oid_of(connection, TargetTable("", one.schema, one.now)) is not None


def rename(connection: psycopg.Connection, one: Name) -> None:
    place = sql.Identifier(one.schema, one.now)
    connection.execute(sql.SQL(_RENAMES[one.kind]).format(place, sql.Identifier(one.then)))
