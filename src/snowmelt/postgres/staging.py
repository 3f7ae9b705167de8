"""Staging tables: where a chunk's rows wait for the statement that merges them into the target.

One UNLOGGED table for each worker thread and load, made once and truncated for each chunk: a temporary table per
chunk would grow the catalogue, and could not be had behind a transaction pooler.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import LiteralString
from uuid import UUID

from psycopg import errors as pg
from psycopg import sql

from snowmelt.errors import SnowmeltError
from snowmelt.model import TargetTable
from snowmelt.postgres.connect import Session
from snowmelt.postgres.ddl import identifier

SCHEMA = "migration_status"
STAGING_NAME = re.compile(r"stage_(\d+)_([0-9a-f]{12})_(\d+)")
"""The load, the first digits of the worker's id, and a number that tells its threads apart."""
LOCK_MS = 1_000
"""For the thread's own table. What holds it longer is a backend of a connection that was lost, and keeps it."""
_MAKE: LiteralString = """
    CREATE UNLOGGED TABLE IF NOT EXISTS {} WITH (autovacuum_enabled = off) AS SELECT {} FROM {} WITH NO DATA
"""

_numbers = itertools.count()


class Staging:
    """The staging tables of one worker thread."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._made: dict[int, TargetTable] = {}

    def emptied(
        self, table_id: int, worker_id: UUID, target: TargetTable, columns: Sequence[str]
    ) -> TargetTable:
        """The thread's table for a load, without rows: the target's columns, no constraints.

        It is truncated in a transaction of its own, which commits. A server that crashes soon after a transaction
        that made a file of an unlogged table was rolled back may not start again: recovery makes the file anew,
        and finds the rest of it there ("could not create file: File exists", PostgreSQL 18.4).
        """
        stage = self._made.get(table_id)
        if stage is not None and self._truncated(stage):
            return stage
        stage = TargetTable("", SCHEMA, staging_name(table_id, worker_id, next(_numbers)))
        names = sql.SQL(", ").join(map(sql.Identifier, columns))
        make = sql.SQL(_MAKE).format(identifier(stage), names, identifier(target))
        with self._session.transaction() as connection:
            connection.execute(make)
        self._made[table_id] = stage
        return stage

    def forget(self, table_id: int) -> None:
        """Make another table when the load needs one next; this one goes when the load is finished."""
        self._made.pop(table_id, None)

    def _truncated(self, stage: TargetTable) -> bool:
        """False if the table is gone, or is held."""
        truncate: LiteralString = "TRUNCATE {}"
        try:
            with self._session.transaction(durable=True) as connection:
                connection.execute(f"SET LOCAL lock_timeout = {LOCK_MS}")
                connection.execute(sql.SQL(truncate).format(identifier(stage)))
        except SnowmeltError as error:
            if isinstance(error.__cause__, pg.UndefinedTable | pg.LockNotAvailable):
                return False
            raise
        return True


def staging_name(table_id: int, worker_id: UUID, number: int) -> str:
    """
    >>> staging_name(7, UUID(int=255), 1)
    'stage_7_000000000000_1'
    """
    return f"stage_{table_id}_{worker_id.hex[:12]}_{number}"
