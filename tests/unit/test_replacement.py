"""How a target is replaced, by what is known of it."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from snowmelt.estimates.estimate import Circumstances, estimate
from snowmelt.model import Identity
from snowmelt.plan import Plan
from snowmelt.preflight.surroundings import ForeignKey, Inheritance, TargetSurroundings
from snowmelt.refusals import room_refusals
from snowmelt.replacement import Replacement, Way, replace_refusals, replacement
from tests.unit.planned import table_plan

THERE = TargetSurroundings("public.t", "loader", exists=True)


def test_a_table_that_nothing_holds_is_swapped() -> None:
    assert replacement(THERE) == Replacement(Way.SWAP)
    assert replacement(replace(THERE, exists=False, dependents=None)).way is Way.SWAP


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"dependents": None}, "not known"),
        ({"dependents": ("trigger d",)}, "trigger d"),
        ({"dependents": tuple("abcdefg")}, "a, b, c, d, e and 2 others"),
        ({"publications": None}, "not known"),
        ({"publications": ("p",)}, "published by p"),
        ({"inheritance": Inheritance(key="RANGE (day)", partitions=2)}, "partitioned"),
        ({"inheritance": Inheritance(partition_of="whole")}, "a partition of whole"),
        ({"inheritance": Inheritance(parents=("p",))}, "inherits"),
        ({"inheritance": Inheritance(children=("c",))}, "inherits"),
        ({"owned": False}, "no member of its owner"),
        ({"owner_lacks_create": "boss"}, "boss may not create"),
    ],
)
def test_what_is_there_or_not_known_has_it_refilled(change: dict[str, object], says: str) -> None:
    around = replace(THERE, **change)  # type: ignore[arg-type]
    found = replacement(around)
    assert found.way is Way.REFILL
    assert says in found.note
    (refusal,) = replace_refusals(found, around, keeps=True)
    assert says in refusal.what
    assert replace_refusals(found, around, keeps=False) == ()
    assert replacement(None).way is Way.REFILL


def test_who_may_not_create_a_table_beside_is_told_the_grant() -> None:
    around = replace(THERE, may_create=False)
    (refusal,) = replace_refusals(replacement(around), around, keeps=False)
    assert refusal.remedy == "GRANT CREATE ON SCHEMA public TO loader;"


def test_foreign_keys_of_others_have_it_refilled_which_they_refuse() -> None:
    key = ForeignKey("k", "public.child", "public.t", True)
    around = replace(THERE, referring=(key,), dependents=("constraint k on table child",))
    assert replacement(around).way is Way.REFILL


def test_both_tables_must_fit_on_the_disk() -> None:
    table = table_plan([1_000_000])
    beside = replace(table, job=replace(table.job, replace=True), replacement=Replacement(Way.SWAP))
    who = Identity("", "", ("s",))

    def refused(one: object, free: int | None) -> bool:
        around = Circumstances(free_bytes=free)
        return bool(room_refusals(Plan(UUID(int=0), who, False, (one,), circumstances=around)))  # type: ignore[arg-type]

    need = estimate([beside], Circumstances()).disk.tables
    assert refused(beside, need - 1)
    assert not refused(beside, need)
    assert not refused(beside, None)
    assert not refused(table, need - 1)  # a plan warns of that
    refilled = replace(beside, replacement=Replacement(Way.REFILL, ("x",)))
    assert estimate([refilled], Circumstances()).disk.tables > need
