"""How a target is replaced by what was loaded beside it: in one moment, or refilled while readers wait."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from snowmelt.formats import counted
from snowmelt.preflight.surroundings import TargetSurroundings
from snowmelt.refusal import Refusal


class Way(StrEnum):
    """What the last transaction of a load does."""

    SWAP = "swap"
    """The loaded table takes the target's name and place."""
    REFILL = "refill"
    """The target is truncated and filled from the loaded table; whoever reads it waits."""


@dataclass(frozen=True, slots=True)
class Replacement:
    """The way, and what stands in the way of a swap."""

    way: Way
    obstacles: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """What a plan says of it."""
        if self.way is Way.SWAP:
            return "by swap: readers have the old rows until the new table takes its place"
        return (
            "by TRUNCATE and INSERT in one transaction, for which readers wait, as it can't be "
            f"swapped: {'; '.join(self.obstacles)}"
        )


def replacement(around: TargetSurroundings | None) -> Replacement:
    """How a target can be replaced. What is not known keeps it from being swapped."""
    if around is None:
        return Replacement(Way.REFILL, ("what stands around it is not known",))
    obstacles = _obstacles(around) if around.exists else ()
    return Replacement(Way.REFILL if obstacles else Way.SWAP, obstacles)


def _obstacles(around: TargetSurroundings) -> tuple[str, ...]:
    found = []
    if around.dependents is None:
        found.append("what depends on it is not known")
    elif around.dependents:
        found.append(f"it would leave behind {_shortened(around.dependents)}")
    place = around.inheritance
    if place.key:
        found.append("it is partitioned")
    if place.partition_of:
        found.append(f"it is a partition of {place.partition_of}")
    if place.parents or place.children:
        found.append("it inherits, or is inherited from")
    if around.publications is None:
        found.append("whether it is published is not known")
    elif around.publications:
        found.append(f"it is published by {', '.join(around.publications)}")
    if not around.owned:
        found.append(f"role {around.role} is no member of its owner")
    elif around.owner_lacks_create:
        found.append(f"its owner {around.owner_lacks_create} may not create tables in its schema")
    return tuple(found)


def _shortened(names: tuple[str, ...], most: int = 5) -> str:
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {counted(len(names) - most, 'other')}"


def replace_refusals(
    found: Replacement, around: TargetSurroundings | None, *, keeps: bool
) -> tuple[Refusal, ...]:
    """What keeps a target from being replaced at all; `keeps` says that the replaced table is to be kept."""
    refusals = []
    if keeps and found.way is Way.REFILL and around is not None and around.exists:
        refusals.append(
            Refusal(
                f"keep_previous_hours needs a swap, which is not possible: {'; '.join(found.obstacles)}",
                "leave keep_previous_hours out, or remove what is in the way",
            )
        )
    if around is not None and around.exists and not around.may_create:
        schema = around.name.rpartition(".")[0]
        refusals.append(
            Refusal(
                f"role {around.role} may not create the table that is loaded beside the target",
                f"GRANT CREATE ON SCHEMA {schema} TO {around.role};",
            )
        )
    return tuple(refusals)
