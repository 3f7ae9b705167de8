"""What loads leave behind in a target database, and taking it away."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from snowmelt.errors import Blocked, ConnectionLost, RetriableError, TableError
from snowmelt.model import SourceTable, TargetTable
from snowmelt.postgres.claims import brief
from snowmelt.postgres.connect import Session
from snowmelt.postgres.locks import held_by
from snowmelt.postgres.queries import query
from snowmelt.postgres.rollback import Kept, drop_kept, kept
from snowmelt.postgres.shadow import drop_table
from snowmelt.postgres.staging import SCHEMA, STAGING_NAME

LOCK_MS = 1_000
"""For what somebody still works with: it stays."""
WORKERS_KEPT_HOURS = 24.0
"""For a look at which process did what."""
SILENT_HOURS = 1.0
"""After its lease, until a worker of which nothing was heard is taken for gone for good."""
_STAGING: LiteralString = """
    SELECT relname::text FROM pg_class
    WHERE relnamespace = to_regnamespace(%(schema)s) AND relkind = 'r' AND relname LIKE 'stage\\_%%'
    ORDER BY relname
"""


@dataclass(frozen=True, slots=True)
class Left:
    """What could not be removed, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Unreleased:
    """A load whose snapshot nobody reads any more; `connection` is where its source read from."""

    table_id: int
    run_id: UUID
    source_name: str
    source: SourceTable
    snapshot: Mapping[str, object]
    connection: str
    settled: bool
    """Whether it is final. Another may be resumed by name, and makes what it needs anew."""


@dataclass(frozen=True, slots=True)
class OldRun:
    """A run past its time: those of its loads whose targets have newer ones, and whether that is all (`whole`)."""

    run_id: UUID
    whole: bool
    table_ids: tuple[int, ...]
    targets: tuple[str, ...]


def drop_staging(
    session: Session, table_ids: Sequence[int]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Drop the staging tables of loads; returns the names of those that are dropped, and of those that another
    session holds or another role owns."""
    wanted = set(table_ids)
    dropped, left = _drop(
        session, (n for n, table_id, _ in _staging(session) if table_id in wanted)
    )
    return dropped, tuple(one.name for one in left)


class Cleaning:
    """What can be removed from one database, each kind as it is found now, and its removal.

    A removal is short and waits a second at most for who holds what it removes: that is left. The newest load of
    each target stays, by which the truncation protection knows its rows, as does what may still be resumed within
    `resume_hours` of its last activity; `days` is how long runs stay after their end, None for ever.
    """

    def __init__(self, session: Session, *, days: int | None, resume_hours: float) -> None:
        self._session = session
        self._terms = {"days": days, "resume_hours": resume_hours}

    def staging(self) -> tuple[str, ...]:
        """Staging tables that no live worker of an unfinished load can need."""
        found = _staging(
            self._session
        )  # before those who use them: a new one is of a worker that is there
        with self._session.transaction() as connection:
            in_use = set(connection.execute(query("staging_in_use")).fetchall())
        return tuple(name for name, table_id, worker in found if (table_id, worker) not in in_use)

    def drop(self, names: Iterable[str]) -> tuple[tuple[str, ...], tuple[Left, ...]]:
        """Drop staging tables; returns those that are dropped, and those that are left."""
        return _drop(self._session, names)

    def replaced(self) -> tuple[Kept, ...]:
        """Replaced tables whose time is over."""
        return tuple(one for one in kept(self._session) if one.is_over)

    def drop_replaced(self, found: Sequence[Kept]) -> tuple[Left, ...]:
        """Drop them; returns those that are left."""
        return tuple(Left(str(one.previous), why) for one, why in drop_kept(self._session, found))

    def shadows(self) -> tuple[TargetTable, ...]:
        """Tables that were loaded in another's stead, and whose load does not go on."""
        with self._session.transaction() as connection:
            there = connection.execute(query("shadows_there")).fetchall()
            in_use = set(connection.execute(query("shadows_in_use")).fetchall())
        return tuple(TargetTable("", *name) for name in there if name not in in_use)

    def drop_shadows(self, tables: Sequence[TargetTable]) -> tuple[Left, ...]:
        """Drop them; returns those that are left."""
        left: list[Left] = []
        for table in tables:
            with _leaving(str(table), left):
                try:
                    with _short(self._session) as connection:
                        drop_table(connection, table)
                except Blocked:
                    who = held_by(self._session, table) or "another session"
                    left.append(Left(str(table), f"it is held by {who}"))
        return tuple(left)

    def workers(self) -> tuple[Mapping[UUID, str], Mapping[UUID, str]]:
        """Processes, by worker, that never said that they ended, and those of ended runs that can be forgotten."""
        hours = {"kept_hours": WORKERS_KEPT_HOURS, "silent_hours": SILENT_HOURS}
        with self._session.transaction() as connection:
            rows = connection.execute(query("silent_workers"), hours).fetchall()
        silent = {worker_id: process for worker_id, process, goes in rows if not goes}
        return silent, {worker_id: process for worker_id, process, goes in rows if goes}

    def end_workers(self, silent: Iterable[UUID], gone: Iterable[UUID]) -> tuple[Left, ...]:
        """Mark the first as ended, and remove the rows of the others."""
        left: list[Left] = []
        with _leaving("workers", left), _short(self._session) as connection:
            connection.execute(query("mark_silent_workers"), {"ids": list(silent)})
            connection.execute(query("remove_workers"), {"ids": list(gone)})
        return tuple(left)

    def unreleased(self, table_ids: Sequence[int]) -> tuple[Unreleased, ...]:
        """Loads whose snapshots are not known to be released, and need not stay; `table_ids` will be removed."""
        rows = self._rows(query("unreleased"), {"table_ids": list(table_ids)})
        return tuple(
            Unreleased(
                row["table_id"],
                row["run_id"],
                row["source_name"],
                SourceTable(row["source_database"], row["source_schema"], row["source_table"]),
                row["snapshot"],
                row["connection"],
                row["settled"],
            )
            for row in rows
        )

    def note_released(self, table_id: int) -> None:
        """Note that nothing is left at the source of a load. What can't be noted now is released once more."""
        with _leaving("load", []), _short(self._session) as connection:
            connection.execute(query("note_released"), {"table_id": table_id})

    def runs(self, kept: Sequence[int] = ()) -> tuple[OldRun, ...]:
        """Runs past their time, oldest first, with what of them can be removed; loads in `kept` can't."""
        rows = self._rows(query("old_runs"), {**self._terms, "run_id": None, "kept": list(kept)})
        return tuple(map(_old_run, rows))

    def remove(
        self, run: OldRun, kept: Sequence[int] = ()
    ) -> tuple[OldRun | None, tuple[Left, ...]]:
        """Remove a run as far as it can be now; returns what was removed.

        Nobody resumes it meanwhile: runs are recorded under the lock that is taken here.
        """
        left: list[Left] = []
        with _leaving(f"run {run.run_id}", left), _short(self._session) as connection:
            connection.execute(query("lock_recording"))
            cursor = connection.cursor(row_factory=dict_row)
            terms = {**self._terms, "run_id": run.run_id, "kept": list(kept)}
            row = cursor.execute(query("old_runs"), terms).fetchone()
            if row is None:
                return None, ()
            connection.execute(query("remove_loads"), {"table_ids": row["table_ids"]})
            if row["whole"]:
                connection.execute(query("remove_run"), {"run_id": run.run_id})
            return _old_run(row), ()
        return None, tuple(left)

    def _rows(
        self, statement: LiteralString, parameters: Mapping[str, object]
    ) -> list[dict[str, Any]]:
        with self._session.transaction() as connection:
            cursor = connection.cursor(row_factory=dict_row)
            return cursor.execute(statement, parameters).fetchall()


def _old_run(row: Mapping[str, Any]) -> OldRun:
    return OldRun(row["run_id"], row["whole"], tuple(row["table_ids"]), tuple(row["targets"]))


@contextmanager
def _short(session: Session) -> Iterator[psycopg.Connection]:
    """A transaction of the ledger that waits for nobody long."""
    with brief(session) as connection:
        connection.execute(f"SET LOCAL lock_timeout = {LOCK_MS}")
        yield connection


@contextmanager
def _leaving(name: str, left: list[Left]) -> Iterator[None]:
    """Note what can't be removed, and why; what ends everything is raised."""
    try:
        yield
    except Blocked:
        left.append(Left(name, "another session works with it"))
    except (RetriableError, TableError) as error:
        if isinstance(error, ConnectionLost):
            raise
        left.append(Left(name, error.what))


def _staging(session: Session) -> list[tuple[str, int, str]]:
    """Name, load and worker of each staging table."""
    with session.transaction() as connection:
        rows = connection.execute(_STAGING, {"schema": SCHEMA}).fetchall()
    matches = (STAGING_NAME.fullmatch(name) for (name,) in rows)
    return [(match[0], int(match[1]), match[2]) for match in matches if match]


def _drop(session: Session, names: Iterable[str]) -> tuple[tuple[str, ...], tuple[Left, ...]]:
    """Each in a transaction of its own."""
    dropped: list[str] = []
    left: list[Left] = []
    drop: LiteralString = "DROP TABLE IF EXISTS {}"
    for name in names:
        with _leaving(name, left):
            with _short(session) as connection:
                connection.execute(sql.SQL(drop).format(sql.Identifier(SCHEMA, name)))
            dropped.append(name)
    return tuple(dropped), tuple(left)
