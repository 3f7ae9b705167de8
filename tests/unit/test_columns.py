"""Which column of a source goes where: every one has a place, and no target column two."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.alterations import retype
from snowmelt.choices import ColumnNames, Mode, NewColumns
from snowmelt.columns import Columns, found, match, needed, spelled
from snowmelt.model import (
    ChunkKey,
    Column,
    LastLoad,
    Relation,
    SourceTable,
    TableJob,
    TargetColumn,
    TargetState,
    TargetTable,
)
from snowmelt.postgres.stored_columns import columns_from_json, columns_to_json, comment_from_json
from snowmelt.preflight.surroundings import Inheritance, TargetSurroundings, UniqueKey
from snowmelt.preflight.target_limits import uniqueness
from snowmelt.refusal import Refusal

JOB = TableJob("s", SourceTable("", "", "t"), TargetTable("db", "public", "t"))
AROUND = TargetSurroundings("public.t", "loader", exists=True)
NAMES = ("a", "A", "b", "B", "ab", "aB", "AB", "Ab", "c")
names = st.lists(st.sampled_from(NAMES), unique=True, max_size=6)


def columns(*names: str, type: pa.DataType | None = None) -> tuple[Column, ...]:
    return tuple(Column(name, type or pa.int64()) for name in names)


def target(*names: str) -> TargetState:
    return TargetState(True, tuple(TargetColumn(name, "bigint", True) for name in names))


def matched(
    source: tuple[Column, ...],
    there: TargetState,
    last: LastLoad | None = None,
    around: TargetSurroundings = AROUND,
    **job: Any,
) -> Columns:
    return match(replace(JOB, **job), Relation(source, (), {}), there, last=last, around=around)


@given(source=names, there=names, wish=st.sampled_from(NewColumns), known=names)
def test_every_column_has_a_place(
    source: list[str], there: list[str], wish: NewColumns, known: list[str]
) -> None:
    last = LastLoad(columns(*known[::2]), tuple(known[1::2]), kept=())
    made = matched(columns(*source), target(*there), last, new_columns=wish)
    read = {column.name: column.into for column in made.read}
    left = {column.name for column in made.left_out}
    told = " ".join(refusal.what for refusal in made.refusals)
    assert not left & set(read)
    assert all(name in read or name in left or f'"{name}"' in told for name in source)
    assert [c.name for c in made.read] == [name for name in source if name in read]
    filled = Counter(into for name, into in read.items() if into in there)
    assert all(count == 1 for count in filled.values()) or made.refusals
    for name, into in read.items():
        assert into == name if name in there else into.lower() == name.lower()
    added = {column.into for column in made.added}
    assert added == {into for into in read.values() if into not in there} or made.refusals
    fresh = {column.name for column in made.added}
    taken = {into for name, into in read.items() if name not in fresh}
    assert {c.name for c in made.kept} == set(there) - taken
    if wish is NewColumns.LEAVE_OUT:
        assert not made.added
    if wish is NewColumns.ADD:
        assert not left


@given(source=names, there=names)
def test_only_case_that_leaves_no_doubt_is_passed_over(source: list[str], there: list[str]) -> None:
    for column in matched(columns(*source), target(*there)).read:
        if column.name not in there:
            assert [n.lower() for n in source].count(column.name.lower()) == 1
            assert [n.lower() for n in there].count(column.name.lower()) == 1


A, B, X = columns("a", "b", "x")
TEXT = Column("x", pa.string())


@pytest.mark.parametrize(
    ("source", "there", "last", "added", "left_out", "refused"),
    [
        # Without a load of ours nobody knows that a column is new.
        ((A, X), ("a",), None, "", "x", ""),
        ((A, X), ("a",), LastLoad((A,)), "x", "", ""),
        ((A, X), ("a",), LastLoad((A,), ("x",)), "", "x", ""),
        ((A, X), ("a",), LastLoad((A,), ("X",)), "", "x", ""),
        # A column that the last load filled, and that somebody took away.
        ((A, X), ("a",), LastLoad((A, X), kept=()), "", "x", ""),
        ((A, X), ("a", "y"), LastLoad((A, X), kept=()), "", "", 'RENAME COLUMN "y" TO "x";'),
        ((A, X), ("a", "y"), LastLoad((A, X), kept=("y",)), "", "x", ""),
        ((A, X), ("a", "y"), LastLoad((A, X)), "", "x", ""),
        ((A, TEXT), ("a", "y"), LastLoad((A, TEXT), kept=()), "", "x", ""),
        # One is gone from the source as another has come.
        ((A, X), ("a", "b"), LastLoad((A, B)), "", "", 'RENAME COLUMN "b" TO "x";'),
        ((A, TEXT), ("a", "b"), LastLoad((A, B)), "x", "", ""),
        ((A, X), ("a",), LastLoad((A, B)), "x", "", ""),
        ((X,), ("a", "b"), LastLoad((A, B)), "", "", 'TO "x"; or ALTER TABLE public.t RENAME'),
    ],
)
def test_what_the_last_load_tells(
    source: tuple[Column, ...],
    there: tuple[str, ...],
    last: LastLoad | None,
    added: str,
    left_out: str,
    refused: str,
) -> None:
    made = matched(source, target(*there), last)
    assert [c.name for c in made.added] == list(added)
    assert [c.name for c in made.left_out] == list(left_out)
    assert bool(made.refusals) == bool(refused)
    assert refused in "".join(refusal.remedy for refusal in made.refusals)


def test_who_may_not_alter_the_target_is_told_what_its_owner_has_to_run() -> None:
    job: dict[str, Any] = {"new_columns": NewColumns.ADD}
    (refusal,) = matched(
        columns("a", "x"), target("a"), around=replace(AROUND, owned=False), **job
    ).refusals
    assert "role loader does not own the target" in refusal.what
    assert refusal.remedy.startswith('ALTER TABLE public.t ADD COLUMN "x" bigint;')
    part = replace(AROUND, inheritance=Inheritance(partition_of="public.whole"))
    (refusal,) = matched(columns("a", "x"), target("a"), around=part, **job).refusals
    assert refusal.remedy.startswith('ALTER TABLE public.whole ADD COLUMN "x" bigint;')


def test_names_of_columns_that_are_added() -> None:
    """As the table has the others: only a name with capitals tells."""
    job: dict[str, Any] = {"new_columns": NewColumns.ADD}
    for source, there, into in (
        (("ID", "New"), ("id",), "new"),
        (("ID", "New"), ("ID",), "New"),
        (("id", "New"), ("id",), "New"),
        (("ID", "Note", "New"), ("id", "Note"), "New"),
    ):
        (added,) = matched(columns(*source), target(*there), **job).added
        assert added.into == into
    lower: dict[str, Any] = {**job, "column_names": ColumnNames.LOWER}
    (added,) = matched(columns("id", "New"), target("id"), **lower).added
    assert added.into == "new"


def test_names_of_a_table_that_is_created() -> None:
    nowhere = TargetState(exists=False)
    assert [c.into for c in matched(columns("Id", "AT"), nowhere).read] == ["Id", "AT"]
    lower: dict[str, Any] = {"column_names": ColumnNames.LOWER}
    assert [c.into for c in matched(columns("Id", "AT"), nowhere, **lower).read] == ["id", "at"]
    (refusal,) = matched(columns("Id", "ID"), nowhere, **lower).refusals
    assert 'columns "Id", "ID" would all be "id"' in refusal.what


def test_columns_that_a_mode_needs_are_not_left_out() -> None:
    made = matched(columns("a", "x", "y"), target("a"))
    job = replace(JOB, uniqueness_columns=("x",), source_watermark="y")
    assert needed(job, made) == ()
    upsert = needed(replace(job, mode=Mode.UPSERT), made)
    assert [refusal.what.split()[0] for refusal in upsert] == [
        "source_watermark",
        "uniqueness_columns",
    ]


def test_names_of_a_config_are_found_without_regard_to_case() -> None:
    job = replace(JOB, uniqueness_columns=("id", "x", "gone"), keys=(ChunkKey("AT", None),))
    made = spelled(job, columns("ID", "x", "X", "at"))
    assert made.uniqueness_columns == ("ID", "x", "gone")
    assert made.keys == (ChunkKey("at", None),)
    assert found("Gone", ["gone", "GONE"]) is None


def test_what_is_left_out_weighs_nothing_and_is_worth_no_note() -> None:
    long = Column("x", pa.string())
    notes = ('column "x": VARIANT is read as text', 'column "a": fine')
    relation = Relation((A, long), (), {}, notes=notes, row_bytes=1_000)
    read = match(JOB, relation, target("a")).of(relation)
    assert read.columns == (A,)
    assert (read.row_bytes or 0) < 500
    assert read.notes == notes[1:]


def test_columns_are_stored_whole() -> None:
    found = (
        Column("A", pa.decimal128(38, 0), False, "NUMBER(38,0)", "a", "in % 'words' 雪"),
        Column("b", pa.timestamp("ns", "UTC")),
    )
    stored = columns_to_json(found, "of the table")
    assert (columns_from_json(stored), comment_from_json(stored)) == (found, "of the table")
    described: Any = stored["columns"]
    for entry in described:
        del entry["target"]  # as a release before 0.5.0 stored it
    assert columns_from_json(stored) == (replace(found[0], target=None), found[1])
    assert (columns_from_json({}), comment_from_json({})) == ((), "")


def test_a_key_beside_an_expression_that_partitions_is_refused() -> None:
    parted = Inheritance("RANGE (lower(a))", 1, key_columns=(None,))
    refusal = uniqueness(("a",), replace(AROUND, inheritance=parted))
    assert isinstance(refusal, Refusal)
    assert "partitioned by an expression" in refusal.what
    whole = replace(parted, key_columns=("a",))
    key = UniqueKey("t_a", ("a",))
    assert uniqueness(("a",), replace(AROUND, inheritance=whole, unique_keys=(key,))) == key


@pytest.mark.parametrize(
    ("old", "new", "way", "loss"),
    [
        ("point", "bigint", 'DROP COLUMN "c", ADD COLUMN "c" bigint;', "its values are lost"),
        ("bigint", "integer", 'ALTER COLUMN "c" TYPE integer;', "fails on those out of range"),
        ("real", "double precision", 'ALTER COLUMN "c" TYPE double precision;', ""),
        ("bytea", "text", 'ALTER COLUMN "c" TYPE text;', ""),
    ],
)
def test_statements_of_another_type(old: str, new: str, way: str, loss: str) -> None:
    made = retype("public.t", "c", old, new)
    assert made.statement == f"ALTER TABLE public.t {way}"
    assert loss in made.loss
    assert bool(loss) == bool(made.loss)
