"""Indexes that a load dropped and that are not back: which, and building them outside of a run."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from snowmelt.errors import Refused
from snowmelt.model import TargetTable
from snowmelt.postgres.builds import Builds
from snowmelt.postgres.connect import Session
from snowmelt.postgres.post_data import Index, from_json
from snowmelt.postgres.queries import query
from snowmelt.postgres.server_builds import builds_on
from snowmelt.slices import ServerBuild


@dataclass(frozen=True, slots=True)
class Missing:
    """Indexes that a target lacks; `in_use` while live workers load it, who build them themselves."""

    target: TargetTable
    names: tuple[str, ...]
    in_use: bool


@dataclass(frozen=True, slots=True)
class Restored:
    """What became of a target's indexes: those that are back, those that failed with the reason, and those that
    are left since the building was stopped."""

    target: TargetTable
    back: tuple[str, ...]
    failed: tuple[tuple[str, str], ...] = ()
    left: tuple[str, ...] = ()


def missing(session: Session) -> tuple[Missing, ...]:
    """Of every target in the database."""
    with session.transaction() as connection:
        rows = connection.execute(query("missing_post_data")).fetchall()
    database = session.server.database
    return tuple(
        Missing(TargetTable(database, schema, table), tuple(names), in_use)
        for schema, table, names, in_use in rows
    )


def builds_of(session: Session, target: TargetTable) -> Builds:
    """What is to be built on the target itself."""
    return Builds(session, target, target)


def builds_at(session: Session, target: TargetTable) -> tuple[ServerBuild, ...]:
    """What any session builds for the target just now."""
    with session.transaction() as connection:
        return builds_on(connection, target)


def give_up(session: Session, target: TargetTable, only: Sequence[str]) -> tuple[Index, ...]:
    """Forget what is not back, or those of it that are named; returns what is forgotten.

    Raises Refused, and nothing is forgotten, while one of them is being built.
    """
    names = {"schema": target.schema, "table": target.name, "names": list(only)}
    with session.transaction(durable=True) as connection:
        rows = connection.execute(query("give_up_post_data"), names).fetchall()
        held = [one for one in builds_on(connection, target) if not only or one.name in only]
        if held:
            raise Refused(
                f"{'; '.join(map(str, held))}: nothing is forgotten",
                table=str(target),
                remedy="wait for it, or end it with pg_terminate_backend(pid); then run again",
            )
    found = (from_json("index", definition) for _, definition in rows)
    return tuple(one for one in found if isinstance(one, Index))


def outcome(session: Session, found: Missing) -> Restored:
    """What has become of what was missing."""
    builds = builds_of(session, found.target)
    failed = builds.failures()
    left = builds.left()
    gone: Collection[str] = {*failed, *left}
    back = tuple(name for name in found.names if name not in gone)
    if not gone:
        with session.transaction(durable=True) as connection:
            names = {"schema": found.target.schema, "table": found.target.name}
            connection.execute(query("note_restored"), names)
    return Restored(found.target, back, tuple(failed.items()), left)
