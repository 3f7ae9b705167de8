"""Giving targets back the indexes that loads have dropped: after a run that failed, and by hand."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Sequence

from snowmelt.database import Database
from snowmelt.errors import Blocked
from snowmelt.model import TargetTable
from snowmelt.ports import Executor
from snowmelt.postgres.connect import Session
from snowmelt.postgres.migrations import migrate_ledger
from snowmelt.postgres.restoring import (
    Missing,
    Restored,
    builds_at,
    builds_of,
    missing,
    outcome,
)
from snowmelt.slices import ServerBuild

_log = logging.getLogger(__name__)

BLOCKED_PAUSE_SECONDS = 1.0
TOLD_SECONDS = 5.0
"""A build of another session that takes longer is told of."""
PATIENCE = 60
"""Tries at an index whose table others hold locked, each of which waits for some seconds."""


def restore(
    database: Database,
    executor: Executor,
    *,
    threads: int,
    only: Collection[TargetTable] | None = None,
    halt: threading.Event | None = None,
    sessions: list[Session] | None = None,
    goes_on: bool = False,
) -> tuple[Restored, ...]:
    """Build what is missing in the targets, or in some of them, `threads` indexes at a time. One that fails stops
    no other. Targets that live workers load are left to them.

    `halt`, once set, lets none begin; `sessions` gets those that build, which may then be interrupted. `goes_on`:
    what takes long the server ends, should this process be gone by then, and is not waited for where it does so
    already.
    """
    migrate_ledger(database.session)
    halt = halt or threading.Event()
    sessions = [] if sessions is None else sessions
    found = [
        one
        for one in missing(database.session)
        if not one.in_use and (only is None or one.target in only)
    ]
    return tuple(
        _restored(database, executor, one, threads, halt, sessions, goes_on) for one in found
    )


def _restored(
    database: Database,
    executor: Executor,
    found: Missing,
    threads: int,
    halt: threading.Event,
    sessions: list[Session],
    goes_on: bool,
) -> Restored:
    builds_of(database.session, found.target).reopen()

    def work() -> None:
        session = Session(database.server, halt, reached=True)
        sessions.append(session)
        try:
            _build(session, found, halt, goes_on)
        finally:
            session.close()

    executor.run(work, min(threads, len(found.names)))
    return outcome(database.session, found)


def _build(session: Session, found: Missing, halt: threading.Event, goes_on: bool) -> None:
    """One after the other, until none is left that nobody is about."""
    builds = builds_of(session, found.target)
    tries = 0
    told: set[int] = set()
    while not halt.is_set():
        try:
            if not builds.step(goes_on=goes_on):
                if not builds.left():
                    return
                # What is left is in other hands; what they have built is then to be attached.
                under_way = builds_at(session, found.target)
                if goes_on and under_way:
                    return
                _tell(under_way, told)
                halt.wait(0.1)
        except Blocked:
            tries += 1
            if tries > PATIENCE:
                return
            halt.wait(BLOCKED_PAUSE_SECONDS)


def _tell(under_way: Sequence[ServerBuild], told: set[int]) -> None:
    """What is waited for, once."""
    for one in under_way:
        if one.pid not in told and one.seconds > TOLD_SECONDS:
            _log.info("%s: it is waited for", one, extra={"action": "build_waited_for"})
            told.add(one.pid)


def log_restored(one: Restored) -> None:
    """Tell of a target's indexes in the log."""
    if one.back:
        _log.info(
            "%s: built again: %s",
            one.target,
            ", ".join(one.back),
            extra={"action": "indexes_restored", "table": str(one.target)},
        )
    missed = [*(f"{name} ({why})" for name, why in one.failed), *one.left]
    if missed:
        _log.warning(
            "%s lacks indexes that its load dropped: %s; see to the cause, then: snowmelt indexes restore",
            one.target,
            ", ".join(missed),
            extra={"action": "indexes_missing", "table": str(one.target)},
        )


def all_back(done: Sequence[Restored]) -> bool:
    """Whether nothing is missing any more."""
    return not any(one.failed or one.left for one in done)
