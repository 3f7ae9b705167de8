"""Sequences that give a column its values: past what was loaded, so that no INSERT meets a key that is there."""

from __future__ import annotations

import logging
from typing import LiteralString

import psycopg
from psycopg import errors as pg
from psycopg import sql
from psycopg.rows import dict_row

from snowmelt.model import TargetTable
from snowmelt.postgres.ddl import identifier
from snowmelt.postgres.queries import query
from snowmelt.postgres.shadow import oid_of

_log = logging.getLogger(__name__)

_PAST: LiteralString = """
    SELECT setval({sequence}, found.value)
    FROM (SELECT {reach}({column}) AS value FROM {table}) found, {name} s
    WHERE CASE WHEN {descends} THEN found.value < s.last_value OR found.value = s.last_value AND NOT s.is_called
               ELSE found.value > s.last_value OR found.value = s.last_value AND NOT s.is_called END
"""


def past_the_rows(
    connection: psycopg.Connection, target: TargetTable, rows_of: TargetTable
) -> None:
    """Set the sequences of the target's serial and identity columns past the values that are in `rows_of`, which
    has the same columns. A sequence never goes back; this outlives a rollback. One that may not be set, or can't
    go so far, is told of."""
    cursor = connection.cursor(row_factory=dict_row)
    table_oid = oid_of(connection, target)
    there = {
        row[0]
        for row in connection.execute(
            query("columns_of"), {"schema": rows_of.schema, "table": rows_of.name}
        )
    }
    for row in cursor.execute(query("sequences_of"), {"table_oid": table_oid}).fetchall():
        if row["column"] not in there:
            continue
        reach: LiteralString = "min" if row["descends"] else "max"
        statement = sql.SQL(_PAST).format(
            sequence=sql.Literal(row["sequence"]),
            reach=sql.SQL(reach),
            column=sql.Identifier(row["column"]),
            table=identifier(rows_of),
            name=sql.Identifier(row["schema"], row["name"]),
            descends=sql.Literal(row["descends"]),
        )
        try:
            with connection.transaction():
                connection.execute(statement)
        except (pg.InsufficientPrivilege, pg.NumericValueOutOfRange) as error:
            _log.warning(
                "%s: the sequence %s may be behind the rows: %s",
                target,
                row["sequence"],
                error.diag.message_primary,
                extra={"action": "sequence_behind", "table": str(target)},
            )
