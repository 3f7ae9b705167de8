"""Which indexes of a target a load can do without while its rows come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar


class TableIndex(Protocol):
    """What is to be known of an index for that."""

    @property
    def name(self) -> str: ...
    @property
    def columns(self) -> tuple[str, ...]: ...
    @property
    def is_unique(self) -> bool: ...
    @property
    def is_valid(self) -> bool: ...
    @property
    def is_conditional(self) -> bool:
        """On an expression, or partial."""
        ...

    @property
    def is_referenced(self) -> bool:
        """Foreign keys of other tables go by it."""
        ...

    @property
    def is_partitioned(self) -> bool: ...
    @property
    def is_replica_identity(self) -> bool: ...
    @property
    def is_exclusion(self) -> bool: ...


AnIndex = TypeVar("AnIndex", bound=TableIndex)


def droppable(
    found: Sequence[AnIndex], keys: Sequence[str], *, merges: bool, began_empty: bool
) -> tuple[AnIndex, ...]:
    """Those that can be dropped for a load and built again at its end.

    One stays that a mode which merges finds rows by: on exactly its `keys`, or any unique one without them. So
    does one that foreign keys of others or replication go by, or that spans partitions; and what forbids rows,
    where rows are there already.
    """
    kept = _needed(found, keys) if merges else frozenset()
    return tuple(
        index
        for index in found
        if index.name not in kept
        and index.is_valid
        and not (index.is_referenced or index.is_partitioned or index.is_replica_identity)
        and not index.is_exclusion
        and (began_empty or not index.is_unique)
    )


def _needed(found: Sequence[TableIndex], keys: Sequence[str]) -> frozenset[str]:
    unique = (index for index in found if index.is_unique)
    if not keys:
        return frozenset(index.name for index in unique)
    return frozenset(
        index.name
        for index in unique
        if not index.is_conditional and set(index.columns) == set(keys)
    )


def index_note(
    found: Sequence[TableIndex], keys: Sequence[str], *, merges: bool, began_empty: bool
) -> str:
    """What a plan says of a load that drops them."""
    going = droppable(found, keys, merges=merges, began_empty=began_empty)
    names = [index.name for index in going]
    stay = [index.name for index in found if index.name not in names]
    if not going:
        return f"disable_index: none can be dropped; in place stay {', '.join(stay) or 'none'}"
    told = f"disable_index: dropped for the load and built at its end: {', '.join(names)}"
    return f"{told}; in place stay {', '.join(stay)}" if stay else told
