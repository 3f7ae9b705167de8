"""What is refused before anything moves by names, types and what stands around the target."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from snowmelt.formats import size
from snowmelt.model import Column, Relation, TargetColumn, TargetState, TargetTable
from snowmelt.preflight.questions import Measure, questions
from snowmelt.preflight.server import ServerSurroundings, server_problems
from snowmelt.preflight.surroundings import (
    APPEND,
    ForeignKey,
    Grant,
    Inheritance,
    TargetSurroundings,
    UniqueKey,
    problems,
)
from snowmelt.preflight.target_limits import limits, notes, uniqueness
from snowmelt.refusal import Refusal

TABLE = TargetTable("db", "public", "t")
NOWHERE = TargetState(exists=False)
TEXT = pa.string()


def relation(*columns: Column) -> Relation:
    return Relation(columns, (), {})


def target(*names: str) -> TargetState:
    return TargetState(True, tuple(TargetColumn(name, "text", True) for name in names))


SYSTEM_COLUMNS = {"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"}

# --- limits ---------------------------------------------------------------------------------------


def numbered(count: int, type: pa.DataType, *, nullable: bool = True) -> Relation:
    return relation(*(Column(f"c{n}", type, nullable) for n in range(count)))


def test_1600_columns_are_taken_and_no_more() -> None:
    assert limits(numbered(1_600, pa.bool_()), NOWHERE, TABLE) == ()
    (refusal,) = limits(numbered(1_601, pa.bool_()), NOWHERE, TABLE)
    assert "1,601 columns" in refusal.what


@given(name=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=70))
def test_names_of_63_bytes_are_taken_and_no_longer_ones(name: str) -> None:
    assume(name not in SYSTEM_COLUMNS)  # refused for another reason
    refusals = limits(relation(Column(name, TEXT)), NOWHERE, TABLE)
    long = len(name.encode()) > 63
    assert bool(refusals) == long
    for place in (replace(TABLE, schema=name), replace(TABLE, name=name)):
        assert bool(limits(relation(), NOWHERE, place)) == long


def test_names_that_would_become_one_are_told_together() -> None:
    # 31 letters of two bytes are 62: a third byte more is no whole letter.
    same = ["é" * 31 + "é1", "é" * 31 + "é2"]
    refusals = limits(relation(*(Column(name, TEXT) for name in same)), NOWHERE, TABLE)
    assert [refusal.what.count("é" * 31) for refusal in refusals] == [1, 1, 3]
    assert "would all be" in refusals[2].what


def test_names_of_system_columns_are_refused_where_the_column_is_created() -> None:
    source = relation(Column("ctid", TEXT), Column("CTID", TEXT))
    (refusal,) = limits(source, NOWHERE, TABLE)
    assert '"ctid"' in refusal.what
    assert limits(source, target("CTID"), TABLE) == (refusal,)
    assert limits(relation(Column("CTID", TEXT)), target("CTID"), TABLE) == ()


@pytest.mark.parametrize(
    ("count", "type", "fits"),
    [
        (1_017, pa.int64(), True),  # 24 + 8 * 1,017 = 8,160
        (1_018, pa.int64(), False),
        (1_600, pa.int32(), True),
        (508, pa.decimal128(38, 0), True),
    ],
)
def test_rows_that_no_page_holds_are_refused_by_their_types(
    count: int, type: pa.DataType, fits: bool
) -> None:
    filled = limits(numbered(count, type, nullable=False), NOWHERE, TABLE)
    assert (not filled) == fits
    assert limits(numbered(count, type), NOWHERE, TABLE) == ()
    # Where values may be missing it is for the rows to say.
    found = [q.measure for q in questions(numbered(count, type), NOWHERE)]
    assert found == ([] if fits else [Measure.PAGE_BYTES])


def test_alignment_counts() -> None:
    mixed = [pa.bool_(), pa.int64()] * 520  # 9 bytes of values in each 16
    columns = tuple(Column(f"c{n}", type, False) for n, type in enumerate(mixed))
    assert limits(relation(*columns), NOWHERE, TABLE) != ()
    assert limits(relation(*sorted(columns, key=lambda c: c.type.bit_width)), NOWHERE, TABLE) == ()


def test_what_is_allowed_is_a_note() -> None:
    twins = relation(Column("Id", TEXT), Column("ID", TEXT), Column("x", TEXT))
    assert notes(twins, NOWHERE) == ('columns "Id", "ID" of the source differ by case only',)
    told = notes(relation(), target("a", "A"))
    assert told == ('columns "a", "A" of the target differ by case only',)
    (wide,) = notes(numbered(453, TEXT), NOWHERE)
    assert "8,178 bytes" in wide
    assert notes(numbered(452, TEXT), NOWHERE) == notes(numbered(453, TEXT), target("a")) == ()


# --- keys and surroundings ------------------------------------------------------------------------

AROUND = TargetSurroundings("public.t", "loader", exists=True)


def test_the_key_of_an_upsert_is_a_unique_index_on_exactly_its_columns() -> None:
    keys = (
        UniqueKey("wide", ("a", "b", "c")),
        UniqueKey("partial", ("a", "b"), unfit="it is partial"),
        UniqueKey("good", ("b", "a")),
        UniqueKey("better", ("a", "b"), nulls_distinct=False),
    )
    assert uniqueness(("a", "b"), replace(AROUND, unique_keys=keys)) == keys[3]
    assert uniqueness(("a", "b"), replace(AROUND, unique_keys=keys[:3])) == keys[2]
    refusal = uniqueness(("a", "b"), replace(AROUND, unique_keys=keys[:2]))
    assert isinstance(refusal, Refusal)
    assert 'no unique index is on exactly "a", "b"' in refusal.what
    assert "partial has these columns, but it is partial" in refusal.what
    assert 'CREATE UNIQUE INDEX ON public.t ("a", "b")' in refusal.remedy
    assert uniqueness(("a",), replace(AROUND, exists=False)) == UniqueKey("", ("a",))


def test_rights_are_in_the_way_where_they_are_used() -> None:
    grants = [Grant(right, "TABLE", "public.t") for right in ("INSERT", "TRUNCATE")]
    around = replace(AROUND, lacks=(Grant("USAGE", "SCHEMA", "public"), *grants))
    said = [str(refusal.what) for refusal in problems(around).refusals]
    assert said == [
        "role loader lacks USAGE on schema public",
        "role loader lacks INSERT on public.t",
    ]
    more = problems(around, APPEND | {"TRUNCATE"}).refusals
    assert more[-1].remedy == "GRANT TRUNCATE ON TABLE public.t TO loader;"


def test_a_table_that_others_refer_to_is_told_or_refused() -> None:
    around = replace(AROUND, referring=(ForeignKey("f", "public.u", "public.t", True),))
    told = problems(around)
    assert (told.refusals, told.notes) == (
        (),
        ("foreign keys refer to the table, so it can't be truncated: f of public.u",),
    )
    refused = problems(around, {"TRUNCATE"})
    assert ("f of public.u" in refused.refusals[0].what, refused.notes) == (True, ())


def test_a_partitioned_table_without_partitions_is_refused() -> None:
    (refusal,) = problems(replace(AROUND, inheritance=Inheritance("RANGE (a)"))).refusals
    assert "no partition" in refusal.what
    assert problems(replace(AROUND, inheritance=Inheritance("RANGE (a)", 1))).refusals == ()


@pytest.mark.parametrize(("open", "wanted", "told"), [(2, 8, False), (2, 9, False), (2, 10, True)])
def test_more_connections_than_there_are_is_told(open: int, wanted: int, told: bool) -> None:
    server = ServerSurroundings("18.1", "UTF8", "loader", "db", False, 10, open, None, None)
    (_, note) = server_problems(server, wanted).notes
    assert ("raise max_connections" in note) == told


def test_a_server_that_takes_no_writes_is_refused() -> None:
    server = ServerSurroundings("18.1", "UTF8", "loader", "db", True, 10, 1, None, None)
    (refusal,) = server_problems(server).refusals
    assert "standby" in refusal.what


@pytest.mark.parametrize(
    ("count", "text"), [(999, "999 bytes"), (8_160, "8.2 kB"), (1_500_000_000_000, "1.5 TB")]
)
def test_sizes_are_shown_as_a_person_reads_them(count: int, text: str) -> None:
    assert size(count) == text
