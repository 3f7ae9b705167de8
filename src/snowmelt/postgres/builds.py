"""Building what the ledger notes as post-data: each index in a transaction of its own, by as many sessions as
come.

An index and the note that it is built commit together. Who builds one holds its row of the ledger, which others
pass over; when it dies, the server rolls both back, or where that was asked for goes on without it.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from snowmelt.errors import Blocked, ConnectionLost, RetriableError, RunError
from snowmelt.model import TargetTable
from snowmelt.ports import Building, OnBuilding
from snowmelt.postgres.claims import PAUSE_LIMIT_MS
from snowmelt.postgres.connect import Session, without_time_limits
from snowmelt.postgres.failures import translate
from snowmelt.postgres.handover import ATTEMPTS, handed_over
from snowmelt.postgres.locks import patiently
from snowmelt.postgres.post_data import ForeignKey, Index, PostData, from_json, indexes, to_json
from snowmelt.postgres.queries import query
from snowmelt.postgres.watching import watched

_log = logging.getLogger(__name__)

FINISH = -1
"""The finish of a table holds an advisory lock as a move does, by which an abort finds it, and each build a shared
one; no chunk has this number."""
GRACE_SECONDS = 10.0
"""From the announcement of a build to its begin, at most; one that nobody holds after that has ended."""
BUILD_LOCK_MS = 10_000
"""For the lock that a build takes on its table, behind which only writers wait."""
_CHECK_CLIENT: LiteralString = "SET LOCAL client_connection_check_interval = 10000"
_MEMORY: LiteralString = "SELECT set_config('maintenance_work_mem', %s, true)"


def _nobody(_: Building) -> None:
    """For who asks nothing."""


@dataclass(frozen=True, slots=True)
class _Step:
    """What is done next of one noted index or key, and the note that it is. `is_long`: it reads all rows."""

    row: Mapping[str, Any]
    name: str
    statements: Sequence[sql.Composed]
    done: LiteralString
    is_long: bool

    @property
    def id(self) -> dict[str, Any]:
        return {"id": self.row["post_data_id"]}


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
            "table_id": table_id,
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
            undo = one.undo(self._into, row["built_as"])
            # The server may be building another on the same table.
            patiently(
                connection,
                (self._into,),
                partial(connection.execute, undo),
                purpose="drop what was given up",
            )
            connection.execute(query("forget_failed"), {"id": row["post_data_id"]})

    def reopen(self, run_id: UUID | None = None) -> None:
        """Give what failed its attempts back; for a run, what had failed before it was begun or taken up again."""
        with self._session.transaction(durable=True) as connection:
            connection.execute(query("reopen_post_data"), {**self._names, "run_id": run_id})

    def step(self, tell: OnBuilding = _nobody, *, goes_on: bool = False) -> bool:
        """Build one of them that no other session is about; False if there is none just now. `tell` hears how far
        it is. `goes_on`: the server is to end what takes long if this process is gone before that is done.

        What can't be built is noted with its reason, and stops no other. Raises RetriableError for what passes,
        and RunError.
        """
        ended: RunError | None = None
        begun: datetime | None = None
        with self._building() as connection:
            self._note_lost(connection)
            cursor = connection.cursor(row_factory=dict_row)
            row = cursor.execute(query("next_post_data"), self._names).fetchone()
            if row is None or not self._begun(connection):
                return False
            step = self._step(connection, row)
            if goes_on and step.is_long:
                (begun,) = connection.execute(query("begin_post_data"), step.id).fetchone() or (
                    None,
                )
            else:
                connection.execute(query("lock_build"), step.id)
                try:
                    with connection.transaction():
                        self._make(connection, step, tell)
                except psycopg.Error as error:
                    ended = self._note_failure(connection, row, error)
        if begun is not None:
            ended = self._hand_over(step, begun, tell)
        if ended is not None:
            raise ended
        return True

    def note_lost(self) -> None:
        """Note which builds that were handed to the server have ended without a word, as an attempt at each."""
        with self._session.transaction(durable=True) as connection:
            self._note_lost(connection)

    def _note_lost(self, connection: psycopg.Connection) -> None:
        terms = {**self._names, "limit": ATTEMPTS, "grace_seconds": GRACE_SECONDS}
        for name, what, _ in connection.execute(query("lost_post_data"), terms).fetchall():
            extra = {"action": "build_lost", "table": str(self._into)}
            _log.warning("%s: %s", name, what, extra=extra)

    def _begun(self, connection: psycopg.Connection) -> bool:
        """False while the load is being finished."""
        if self._table_id is None:
            return True
        lock = {"table_id": self._table_id, "chunk_id": FINISH}
        row = connection.execute(query("share_finish"), lock).fetchone()
        return bool(row and row[0])

    def _step(self, connection: psycopg.Connection, row: Mapping[str, Any]) -> _Step:
        one = from_json(row["kind"], row["definition"])
        name = row["built_as"]
        found = indexes(connection, self._into) if isinstance(one, Index) else ()
        there = _there(found, one, name)
        is_index = isinstance(one, Index)
        if _is_keyed(found, one, name):
            done = query("attached_post_data" if row["is_built"] else "built_post_data")
            return _Step(row, one.name, [], done, is_long=False)
        if not row["is_built"]:
            statements = [] if there else one.build(self._into, name)
            done = query("built_post_data")
            return _Step(row, one.name, statements, done, is_long=is_index and not there)
        if isinstance(one, Index) and there is not None and there.constraint:
            one = dataclasses.replace(one, constraint=None)
        statements = one.attach(self._into, name)
        # To check a foreign key is to read the table.
        return _Step(row, one.name, statements, query("attached_post_data"), not is_index)

    def _make(self, connection: psycopg.Connection, step: _Step, tell: OnBuilding) -> None:
        if step.row["is_built"]:
            patiently(
                connection,
                (self._into,),
                lambda: _all(connection, step.statements),
                purpose="attach what was built",
            )
        elif step.statements:
            pid = connection.info.backend_pid
            with watched(self._session.server, pid, step.name, tell):
                _all(connection, step.statements)
        connection.execute(step.done, step.id)

    def _hand_over(self, step: _Step, begun: datetime, tell: OnBuilding) -> RunError | None:
        """Let the server do what takes long, and wait for it; returns what ends the run. What the server meets it
        notes by itself. Raises as `_note_failure`."""
        with self._session.handing_over() as connection:
            self._settle_in(connection)
            announced = {**step.id, "begun_at": begun}
            if connection.execute(query("begun_post_data"), announced).fetchone() is None:
                return None  # it took too long to come here, and is somebody else's now
            if not self._begun(connection):
                connection.execute(query("put_off_post_data"), step.id)
                connection.execute("COMMIT")
                return None
            (_, pid) = connection.execute(query("lock_build"), step.id).fetchone() or (None, 0)
            done = psycopg.ClientCursor(connection).mogrify(step.done, step.id)
            with watched(self._session.server, pid, step.name, tell), self._session.going_on():
                error = handed_over(connection, step.id["id"], step.statements, done)
        return self._judged(step.row, error) if error is not None else None

    @contextmanager
    def _building(self) -> Iterator[psycopg.Connection]:
        """A transaction that may take hours, and ends when its client does."""
        with self._session.transaction(durable=True) as connection:
            self._settle_in(connection)
            connection.execute(_CHECK_CLIENT)
            yield connection

    def _settle_in(self, connection: psycopg.Connection) -> None:
        """What a transaction that builds needs of its session."""
        connection.execute(f"SET LOCAL idle_in_transaction_session_timeout = {PAUSE_LIMIT_MS}")
        without_time_limits(connection)
        connection.execute(f"SET LOCAL lock_timeout = {BUILD_LOCK_MS}")
        memory = self._session.server.settings.maintenance_work_mem
        if memory:
            connection.execute(_MEMORY, [memory])

    def _note_failure(
        self, connection: psycopg.Connection, row: Mapping[str, Any], error: psycopg.Error
    ) -> RunError | None:
        """Note why one was not built, while no other session can take it; returns what ends the run. Raises what
        says nothing of it: a lock that is not to be had, or a connection that is lost."""
        known = translate(error)
        if not isinstance(known, Blocked | ConnectionLost):
            passes = isinstance(known, RetriableError) and row["attempts"] + 1 < ATTEMPTS
            noted = {"id": row["post_data_id"], "error": known.what, "failed": not passes}
            connection.execute(query("attempted_post_data"), noted)
        return self._judged(row, error)

    def _judged(self, row: Mapping[str, Any], error: psycopg.Error) -> RunError | None:
        known = translate(error).located(table=str(self._into))
        if isinstance(known, Blocked | ConnectionLost):
            raise known from error
        known.what = f"{row['name']}: {known.what}"
        _log.warning("%s", known, extra={"action": "build_failed", "table": str(self._into)})
        return known if isinstance(known, RunError) else None


def _there(there: Sequence[Index], one: PostData, name: str) -> Index | None:
    """What somebody has built by hand meanwhile, with its constraint or without."""
    if isinstance(one, ForeignKey):
        return None
    found = next((i for i in there if i.name == name), None)
    if found is None or not found.is_valid or found.constraint not in (None, one.constraint):
        return None
    timing = (one.is_deferrable, one.is_deferred)
    if found.constraint and (found.is_deferrable, found.is_deferred) != timing:
        return None
    same = (found.using, found.is_unique) == (one.using, one.is_unique)
    return found if same else None


def _is_keyed(there: Sequence[Index], one: PostData, name: str) -> bool:
    """Whether somebody has given the table a primary key in place of this one: a table has one alone."""
    is_key = isinstance(one, Index) and one.is_primary
    return is_key and any(index.is_primary and index.name != name for index in there)


def _all(connection: psycopg.Connection, statements: Sequence[sql.Composed]) -> None:
    for statement in statements:
        connection.execute(statement)
