"""What stands around a target table, and what of it a plan should tell or refuse."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from snowmelt.preflight.indexes import TableIndex
from snowmelt.refusal import Refusal

APPEND = frozenset({"SELECT", "INSERT"})
"""Rights on a table that rows are appended to."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A right that a role lacks: `INSERT` on the `TABLE` `public.visits`; the name as SQL quotes it."""

    privilege: str
    kind: str
    name: str

    def __str__(self) -> str:
        kind = "" if self.kind == "TABLE" else f"{self.kind.lower()} "
        return f"{self.privilege} on {kind}{self.name}"

    def statement(self, role: str) -> str:
        """What gives it; `role` as SQL quotes it.

        >>> Grant("CREATE", "SCHEMA", "bi").statement("loader")
        'GRANT CREATE ON SCHEMA bi TO loader'
        """
        return f"GRANT {self.privilege} ON {self.kind} {self.name} TO {role}"


@dataclass(frozen=True, slots=True)
class Trigger:
    """A user's trigger that an INSERT into the table may fire, on it or on a partition of it.

    `state` is how it is enabled: `origin`, `replica`, `always` or `disabled`; `fires` says whether it does so in
    sessions of this role.
    """

    name: str
    table: str
    timing: str
    each_row: bool
    state: str
    fires: bool


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key from a table to another; `checked` says whether an INSERT is held against it."""

    name: str
    table: str
    refers_to: str
    checked: bool


@dataclass(frozen=True, slots=True)
class UniqueKey:
    """A unique index on columns, in the index's order.

    `unfit` says why ON CONFLICT can't go by it, and is None where it can; beside a deferrable one on the same
    columns it goes by none. `nulls_distinct` says that rows without a value never meet. A key that is yet to be
    made has no name.
    """

    name: str
    columns: tuple[str, ...]
    nulls_distinct: bool = True
    unfit: str | None = None
    deferrable: bool = False


@dataclass(frozen=True, slots=True)
class Inheritance:
    """How a table stands to others. `key` is that of a partitioned table, as `RANGE (day)`; `key_columns` are
    those of all levels, which a unique index must hold; one of None is an expression."""

    key: str | None = None
    partitions: int = 0
    default_partition: bool = False
    partition_of: str | None = None
    parents: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    key_columns: tuple[str | None, ...] = ()


@dataclass(frozen=True, slots=True)
class TargetSurroundings:
    """What the server's catalogue tells of a table, or of the place where it is to be created.

    Names are as SQL quotes them, those of tables with their schema. None means: could not be found out;
    `unknown` says of each such fact what it is and why.
    """

    name: str
    role: str
    exists: bool
    lacks: tuple[Grant, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    rules: tuple[str, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    referring: tuple[ForeignKey, ...] = ()
    checks: int = 0
    exclusions: tuple[str, ...] = ()
    unique_keys: tuple[UniqueKey, ...] = ()
    row_security: bool = False
    inheritance: Inheritance = Inheritance()
    unlogged: bool = False
    publications: tuple[str, ...] | None = ()
    tablespace: str | None = None
    """Its own; None where it lies in the database's."""
    analyzed: bool = True
    """Whether the role may run ANALYZE on it; the server passes over one that it may not."""
    size_bytes: int | None = None
    indexes: tuple[TableIndex, ...] = ()
    dependents: tuple[str, ...] | None = ()
    """What refers to it and would not go over to another table that takes its place."""
    owned: bool = True
    """Whether the role may do what an owner may."""
    owner_lacks_create: str | None = None
    """Its owner, where that may not create tables in its schema."""
    may_create: bool = True
    """Whether the role may create tables in its schema."""
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Problems:
    """What stands in the way, and what is worth a line."""

    refusals: tuple[Refusal, ...]
    notes: tuple[str, ...]


def problems(around: TargetSurroundings, rights: Collection[str] = APPEND) -> Problems:
    """Of one table. `rights` are those that the load will use on a table that exists, TRUNCATE among them
    where it may come to that; on schemas and databases all that is lacking is in the way."""
    lacking = (g for g in around.lacks if g.kind != "TABLE" or g.privilege in rights)
    refusals = [lacks(around.role, grant) for grant in lacking]
    if around.row_security:
        refusals.append(
            Refusal(
                f"row level security is in force for role {around.role}, and COPY does not load through it",
                f"ALTER TABLE {around.name} DISABLE ROW LEVEL SECURITY for the load, or load as a role with "
                "BYPASSRLS, or as its owner where it is not forced",
            )
        )
    if around.inheritance.key and not around.inheritance.partitions:
        refusals.append(
            Refusal(
                f"the table is partitioned by {around.inheritance.key} and has no partition: no row has a place",
                "create its partitions, or a DEFAULT partition",
            )
        )
    if "TRUNCATE" in rights and around.referring:
        keys = _listed(f"{key.name} of {key.table}" for key in around.referring)
        refusals.append(
            Refusal(
                f"foreign keys refer to the table, and PostgreSQL then refuses TRUNCATE: {keys}",
                "drop them and create them again after the load, or DELETE the rows yourself",
            )
        )
    return Problems(
        tuple(refusals), (*_firing(around), *_checked(around, rights), *_standing(around))
    )


def lacks(role: str, grant: Grant) -> Refusal:
    """The refusal for a right that is not there."""
    return Refusal(f"role {role} lacks {grant}", f"{grant.statement(role)};")


def _firing(around: TargetSurroundings) -> list[str]:
    notes = []
    firing = [trigger for trigger in around.triggers if trigger.fires]
    for each_row, what in ((True, "row"), (False, "chunk")):
        names = [_named(t.name, t.table, around) for t in firing if t.each_row is each_row]
        if names:
            notes.append(
                f"{_counted(names, 'trigger fires', 'triggers fire')} for each {what}: {_listed(names)}"
            )
    before = [t for t in firing if t.each_row and t.timing == "BEFORE"]
    if before:
        names = [_named(t.name, t.table, around) for t in before]
        notes.append(f"BEFORE triggers may change rows or drop them: {_listed(names)}")
    if around.rules:
        notes.append(f"COPY passes by the rules for INSERT: {_listed(around.rules)}")
    return notes


def _checked(around: TargetSurroundings, rights: Collection[str]) -> list[str]:
    notes = []
    keys = [f"{key.name} to {key.refers_to}" for key in around.foreign_keys if key.checked]
    if keys:
        notes.append(f"foreign keys are checked for each row: {_listed(keys)}")
    if around.checks:
        checks = (
            "1 CHECK constraint is"
            if around.checks == 1
            else f"{around.checks:,} CHECK constraints are"
        )
        notes.append(f"{checks} checked for each row")
    if around.exclusions:
        notes.append(
            f"exclusion constraints are checked for each row: {_listed(around.exclusions)}"
        )
    if around.referring and "TRUNCATE" not in rights:
        keys = [f"{key.name} of {key.table}" for key in around.referring]
        notes.append(f"foreign keys refer to the table, so it can't be truncated: {_listed(keys)}")
    return notes


def _standing(around: TargetSurroundings) -> list[str]:
    notes = []
    place = around.inheritance
    if place.key and place.partitions:
        parts = _counted(range(place.partitions), "partition", "partitions")
        told = f"partitioned by {place.key}: {parts}"
        notes.append(
            told
            if place.default_partition
            else f"{told}, and a row that fits in none ends its chunk"
        )
    if place.partition_of:
        notes.append(
            f"a partition of {place.partition_of}: a row outside of its bounds ends its chunk"
        )
    if place.parents:
        notes.append(f"inherits from {_listed(place.parents)}, whose queries see its rows")
    if place.children:
        notes.append(
            f"{_listed(place.children)} inherit from it: counted as its rows, and truncated with it"
        )
    if around.unlogged:
        notes.append(
            "UNLOGGED: a crash of the server empties it, and the ledger still says that it is loaded"
        )
    if around.publications:
        notes.append(f"its rows are sent to subscribers of {_listed(around.publications)}")
    if around.tablespace:
        notes.append(f"lies in the tablespace {around.tablespace}, perhaps on a disk of its own")
    if not around.analyzed:
        notes.append(
            f"role {around.role} may not ANALYZE it, so PostgreSQL passes over that at the end"
        )
    return [*notes, *(f"not known: {one}" for one in around.unknown)]


def _named(name: str, table: str, around: TargetSurroundings) -> str:
    return name if table == around.name else f"{name} on {table}"


def _counted(things: Collection[object], one: str, many: str) -> str:
    return f"{len(things):,} {one if len(things) == 1 else many}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
