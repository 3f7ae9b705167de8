"""What a table gets once all its rows are there, noted as post-data by whoever comes first."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from snowmelt.model import TargetTable
from snowmelt.postgres.builds import Builds
from snowmelt.postgres.connect import Session
from snowmelt.postgres.exchange import carry_early
from snowmelt.postgres.post_data import Index, foreign_keys, indexes
from snowmelt.postgres.queries import query
from snowmelt.postgres.shadow import Shadow, oid_of, shadow_of
from snowmelt.replacement import Way

NAME_BYTES = 63
"""The server cuts off the rest of a name."""
_LISTED: LiteralString = """
    SELECT string_agg(quote_ident(name), ', ' ORDER BY place)
    FROM unnest(%s::text[]) WITH ORDINALITY c(name, place)
"""


@dataclass(frozen=True, slots=True)
class Load:
    """A load as the ledger has it when it is about to be finished."""

    table_id: int
    run_id: UUID
    target: TargetTable
    shadow: Shadow | None
    plan: Mapping[str, Any]
    planned_rows: int | None
    completed: bool
    furnished: bool

    @property
    def into(self) -> TargetTable:
        return self.shadow.table if self.shadow else self.target

    def builds(self, session: Session) -> Builds:
        return Builds(session, self.target, self.into, self.table_id)


def load_of(connection: psycopg.Connection, table_id: int, *, locked: bool) -> Load | None:
    """The load; None if it is gone from the ledger. `locked` takes its row until the transaction ends."""
    cursor = connection.cursor(row_factory=dict_row)
    statement = query("lock_load") if locked else query("read_load")
    row = cursor.execute(statement, {"table_id": table_id}).fetchone()
    if row is None:
        return None
    plan = row["plan"] if isinstance(row["plan"], dict) else {}
    return Load(
        table_id,
        row["run_id"],
        TargetTable("", row["target_schema"], row["target_table"]),
        shadow_of(plan, row["target_schema"]),
        plan,
        row["planned_rows"],
        row["completed"],
        row["furnished"],
    )


def swaps(load: Load) -> bool:
    """Whether a table takes the target's place, and needs all that belongs to it."""
    return load.shadow is not None and load.shadow.way is Way.SWAP


def gets_more(load: Load) -> bool:
    """Whether the table gets what is noted once all rows are there: of its target, or its primary key."""
    return swaps(load) or (load.shadow is None and bool(load.plan.get("primary_key")))


def note_rest(session: Session, connection: psycopg.Connection, load: Load) -> None:
    """Note what is to be built, and not noted yet, within a transaction that has the finish's lock."""
    if swaps(load):
        _note_others(session, connection, load)
    else:
        _note_key(session, connection, load)


def _note_key(session: Session, connection: psycopg.Connection, load: Load) -> None:
    """The primary key of a table that was created, unless somebody has given it one."""
    if not any(index.is_primary for index in indexes(connection, load.target)):
        names = (_key_name(load.target, number) for number in itertools.count())
        free = (
            n for n in names if oid_of(connection, dataclasses.replace(load.target, name=n)) is None
        )
        name = next(free)
        key = _primary_key(connection, name, load.plan["primary_key"])
        load.builds(session).note(connection, load.table_id, {name: key}, dropped=False)
    connection.execute(query("note_furnished"), {"table_id": load.table_id})


def unnoted(connection: psycopg.Connection, load: Load) -> list[Index]:
    """Indexes of the target that the table in its stead is not to get yet."""
    if oid_of(connection, load.target) is None:
        return []
    noted = {name for name, _ in names_in(connection, load)}
    return [
        index
        for index in indexes(connection, load.target)
        if index.is_valid and index.name not in noted
    ]


def names_in(connection: psycopg.Connection, load: Load) -> list[tuple[str, str]]:
    """The names of indexes in the target, and on the table in its stead."""
    names = {"schema": load.target.schema, "built_on": load.into.name}
    return connection.execute(query("noted_indexes"), names).fetchall()


def _note_others(session: Session, connection: psycopg.Connection, load: Load) -> None:
    builds, into = load.builds(session), load.into
    taken = {built_as for _, built_as in names_in(connection, load)}
    if oid_of(connection, load.target) is None:
        key = load.plan.get("primary_key", [])
        name = _key_name(load.target)
        made = [_primary_key(connection, name, key)] if key and not taken else []
    else:
        carry_early(connection, load.target, into, f"{into.name}_s")
        made = unnoted(connection, load)
    free = (name for n in itertools.count() if (name := f"{into.name}_{n}") not in taken)
    named = dict(zip(free, made, strict=False))
    builds.note(connection, load.table_id, named, dropped=False)
    if not load.furnished:
        keys = {key.name: key for key in foreign_keys(connection, load.target)}
        builds.note(connection, load.table_id, keys, dropped=False)
    connection.execute(query("note_furnished"), {"table_id": load.table_id})


def _key_name(target: TargetTable, number: int = 0) -> str:
    """As the server names one, with a number where that is taken."""
    end = f"_pkey{number or ''}"
    return target.name.encode()[: NAME_BYTES - len(end)].decode(errors="ignore") + end


def _primary_key(connection: psycopg.Connection, name: str, columns: list[str]) -> Index:
    """Spelled as the server does, to be known again where somebody has built it by hand."""
    row = connection.execute(_LISTED, [columns]).fetchone()
    listed = row[0] if row else ""
    return Index(
        name, f"btree ({listed})", tuple(columns), is_unique=True, is_primary=True, constraint="p"
    )
