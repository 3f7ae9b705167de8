"""Building what the ledger notes as post-data: each index in a transaction of its own, by as many sessions as
come.

An index and the note that it is built commit together. Who builds one holds its row of the ledger, which others
pass over; when it dies, the server rolls both back.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from snowmelt.errors import Blocked, ConnectionLost, RetriableError, RunError
from snowmelt.model import TargetTable
from snowmelt.ports import Building, OnBuilding
from snowmelt.postgres.claims import PAUSE_LIMIT_MS
from snowmelt.postgres.connect import Session
from snowmelt.postgres.failures import translate
from snowmelt.postgres.locks import patiently
from snowmelt.postgres.post_data import ForeignKey, Index, PostData, from_json, indexes, to_json
from snowmelt.postgres.queries import query
from snowmelt.postgres.watching import watched

_log = logging.getLogger(__name__)

FINISH = -1
"""The finish of a table holds an advisory lock as a move does, by which an abort finds it, and each build a shared
one; no chunk has this number."""
ATTEMPTS = 3
"""At a build that fails for want of memory, or for a deadlock."""
BUILD_LOCK_MS = 10_000
"""For the lock that a build takes on its table, behind which only writers wait."""
_CHECK_CLIENT: LiteralString = "SET LOCAL client_connection_check_interval = 10000"
_MEMORY: LiteralString = "SELECT set_config('maintenance_work_mem', %s, true)"


def _nobody(_: Building) -> None:
    """For who asks nothing."""


class Builds:
    """The post-data of a target that is to be built on a table: on itself, or on the one loaded in its stead."""

    def __init__(
        self,
        session: Session,
        target: TargetTable,
        into: TargetTable,
        table_id: int | None = None,
    ) -> None:
        """`table_id` is the load for which they are built, if it is one: an abort of its run ends them."""
        self._session = session
        self._into = into
        self._table_id = table_id
        self._names = {
            "schema": target.schema,
            "table": target.name,
            "built_on": into.name,
        }

    def note(
        self,
        connection: psycopg.Connection,
        table_id: int,
        data: Mapping[str, PostData],
        *,
        dropped: bool,
    ) -> None:
        """Note what is to be built, by the names that it gets, within a transaction that is open."""
        for name, one in data.items():
            noted = {
                "table_id": table_id,
                "kind": one.kind,
                "name": one.name,
                "built_as": name,
                "definition": Jsonb(to_json(one)),
                "dropped": dropped,
            }
            connection.execute(query("note_post_data"), {**self._names, **noted})

    def left(self) -> tuple[str, ...]:
        """What is not there yet, and has not failed."""
        return tuple(str(one["name"]) for one in self._open() if not one["failed"])

    def failures(self) -> Mapping[str, str]:
        """What could not be built, with the reason."""
        return {
            str(one["name"]): str(one["error_message"]) for one in self._open() if one["failed"]
        }

    def _open(self) -> list[dict[str, Any]]:
        with self._session.transaction() as connection:
            cursor = connection.cursor(row_factory=dict_row)
            return cursor.execute(query("open_post_data"), self._names).fetchall()

    def forget_changed(
        self, connection: psycopg.Connection, there: Mapping[tuple[str, str], PostData]
    ) -> None:
        """Forget what failed and is not `there` any more, by kind and name, or is there otherwise: whoever saw to
        the cause may have dropped it. What was made of it goes."""
        cursor = connection.cursor(row_factory=dict_row)
        for row in cursor.execute(query("failed_post_data"), self._names).fetchall():
            one = from_json(row["kind"], row["definition"])
            if there.get((one.kind, one.name)) == one:
                continue
            connection.execute(one.undo(self._into, row["built_as"]))
            connection.execute(query("forget_failed"), {"id": row["post_data_id"]})

    def reopen(self) -> None:
        """Give what failed its attempts back."""
        with self._session.transaction(durable=True) as connection:
            connection.execute(query("reopen_post_data"), self._names)

    def step(self, tell: OnBuilding = _nobody) -> bool:
        """Build one of them that no other session is about; False if there is none just now. `tell` hears how far
        it is.

        What can't be built is noted with its reason, and stops no other. Raises RetriableError for what passes,
        and RunError.
        """
        ended: RunError | None = None
        with self._building() as connection:
            cursor = connection.cursor(row_factory=dict_row)
            row = cursor.execute(query("next_post_data"), self._names).fetchone()
            if row is None or not self._begun(connection):
                return False
            try:
                with connection.transaction():
                    self._make(connection, row, tell)
            except psycopg.Error as error:
                ended = self._note_failure(connection, row, error)
        if ended is not None:
            raise ended
        return True

    def _begun(self, connection: psycopg.Connection) -> bool:
        """False while the load is being finished."""
        if self._table_id is None:
            return True
        lock = {"table_id": self._table_id, "chunk_id": FINISH}
        row = connection.execute(query("share_finish"), lock).fetchone()
        return bool(row and row[0])

    def _make(
        self, connection: psycopg.Connection, row: Mapping[str, Any], tell: OnBuilding
    ) -> None:
        one = from_json(row["kind"], row["definition"])
        done = {"id": row["post_data_id"]}
        name = row["built_as"]
        there = self._there(connection, one, name)
        if not row["is_built"]:
            if there is None:
                statements = one.build(self._into, name)
                pid = connection.info.backend_pid
                with watched(self._session.server, pid, one.name, tell):
                    _all(connection, statements)
            connection.execute(query("built_post_data"), done)
            return
        if isinstance(one, Index) and there is not None and there.constraint:
            one = dataclasses.replace(one, constraint=None)
        statements = one.attach(self._into, name)
        patiently(
            connection,
            (self._into,),
            lambda: _all(connection, statements),
            purpose="attach what was built",
        )
        connection.execute(query("attached_post_data"), done)

    def _there(self, connection: psycopg.Connection, one: PostData, name: str) -> Index | None:
        """What somebody has built by hand meanwhile, with its constraint or without."""
        if isinstance(one, ForeignKey):
            return None
        found = next((i for i in indexes(connection, self._into) if i.name == name), None)
        if found is None or not found.is_valid or found.constraint not in (None, one.constraint):
            return None
        timing = (one.is_deferrable, one.is_deferred)
        if found.constraint and (found.is_deferrable, found.is_deferred) != timing:
            return None
        same = (found.using, found.is_unique) == (one.using, one.is_unique)
        return found if same else None

    @contextmanager
    def _building(self) -> Iterator[psycopg.Connection]:
        """A transaction that may take hours, and ends when its client does."""
        with self._session.transaction(durable=True) as connection:
            connection.execute(f"SET LOCAL idle_in_transaction_session_timeout = {PAUSE_LIMIT_MS}")
            connection.execute("SET LOCAL statement_timeout = 0")
            connection.execute(f"SET LOCAL lock_timeout = {BUILD_LOCK_MS}")
            connection.execute(_CHECK_CLIENT)
            memory = self._session.server.settings.maintenance_work_mem
            if memory:
                connection.execute(_MEMORY, [memory])
            yield connection

    def _note_failure(
        self, connection: psycopg.Connection, row: Mapping[str, Any], error: psycopg.Error
    ) -> RunError | None:
        """Note why one was not built, while no other session can take it; returns what ends the run. Raises what
        says nothing of it: a lock that is not to be had, or a connection that is lost."""
        known = translate(error).located(table=str(self._into))
        if isinstance(known, Blocked | ConnectionLost):
            raise known from error
        passes = isinstance(known, RetriableError) and row["attempts"] + 1 < ATTEMPTS
        noted = {"id": row["post_data_id"], "error": known.what, "failed": not passes}
        connection.execute(query("attempted_post_data"), noted)
        known.what = f"{row['name']}: {known.what}"
        _log.warning("%s", known, extra={"action": "build_failed", "table": str(self._into)})
        return known if isinstance(known, RunError) else None


def _all(connection: psycopg.Connection, statements: list[sql.Composed]) -> None:
    for statement in statements:
        connection.execute(statement)
