"""Chunks that meet rows that are there: what is written, what is left alone, and what is refused by name."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from decimal import Decimal
from typing import Any, LiteralString

import pyarrow as pa
import pytest

from snowmelt.choices import Mode
from snowmelt.errors import Blocked, TableError
from snowmelt.postgres import load as loading
from tests.acceptance.processes import wait_until
from tests.integration.merging import INSERT_ONLY, UPSERT, Bench, Benches, batch
from tests.support import Database


@pytest.fixture
def bench(database: Database) -> Iterator[Benches]:
    with ExitStack() as stack:
        yield Benches(database, stack)


# --- what is left alone ---------------------------------------------------------------------------

LONG = "x" * 100_000
SAME: list[tuple[LiteralString, Any, Any]] = [
    ("json", ['{"a": 1}'], ['{"a": 1}']),
    ("jsonb", ['{"a": 1, "b": 2}'], ['{"b":2,"a":1}']),
    ("numeric", [Decimal("1.0")], [Decimal("1.0")]),
    ("float8", [float("nan")], [float("nan")]),
    ("text", pa.array([None], pa.string()), pa.array([None], pa.string())),
    ("text", [LONG], [LONG]),
    ("char(5)", ["ab"], ["ab   "]),
    ("bytea", [b"\0"], [b"\0"]),
]
OTHER: list[tuple[LiteralString, Any, Any]] = [
    ("json", ['{"a": 1}'], ['{"a":1}']),
    ("jsonb", ['{"a": 1}'], ['{"a": 1.0}']),
    ("numeric", [Decimal("1.0")], [Decimal("1.00")]),
    ("float8", [0.0], [-0.0]),
    ("text", ["a"], pa.array([None], pa.string())),
    ("text", ["a"], ["A"]),
    ("text", [LONG + "a"], [LONG + "b"]),
    ("bytea", [b"\0"], [b"\0\0"]),
]


@pytest.mark.parametrize(("type", "first", "second"), SAME, ids=lambda v: str(v)[:12])
def test_a_row_that_is_there_already_is_not_written_again(
    bench: Benches, type: LiteralString, first: Any, second: Any
) -> None:
    here = bench("CREATE TABLE t (k int PRIMARY KEY, v " + type + ")", UPSERT, "k")
    assert here.load(k=[1], v=first) == 1
    before = here.versions()
    assert here.load(k=[1], v=second) == 0
    assert here.versions() == before
    assert here.counts() == [(1, 1, 0), (1, 0, 1)]


@pytest.mark.parametrize(("type", "first", "second"), OTHER, ids=lambda v: str(v)[:12])
def test_a_row_that_differs_in_its_bytes_is_written(
    bench: Benches, type: LiteralString, first: Any, second: Any
) -> None:
    here = bench("CREATE TABLE t (k int PRIMARY KEY, v " + type + ")", UPSERT, "k")
    here.load(k=[1], v=first)
    assert here.load(k=[1], v=second) == 1
    ((kept,),) = here.rows("v::text", "1")
    assert here.load(k=[1], v=second) == 0
    here.database.execute("CREATE TABLE other (k int, v " + type + ")")
    there = Bench(here.database, here._stack, Mode.APPEND, name="other")
    there.load(k=[1], v=second)
    assert there.rows("v::text", "1") == [(kept,)]


def test_only_rows_that_change_are_counted_as_written(bench: Benches) -> None:
    here = bench("CREATE TABLE t (k int PRIMARY KEY, v text)", UPSERT, "k")
    here.load(k=[1, 2, 3], v=["a", "b", "c"])
    assert here.load(k=[4, 3, 2, 1], v=["d", "c", "B", "a"]) == 2
    assert here.rows() == [(1, "a"), (2, "B"), (3, "c"), (4, "d")]
    assert here.counts() == [(3, 3, 0), (4, 2, 2)]


def test_columns_that_only_the_target_has_keep_their_values(bench: Benches) -> None:
    here = bench(
        "CREATE TABLE t (own text NOT NULL DEFAULT 'ours', v text, k int PRIMARY KEY)", UPSERT, "k"
    )
    here.load(k=[1, 2], v=["a", "b"])
    here.database.execute("UPDATE t SET own = 'edited' WHERE k = 1")
    assert here.load(k=[1, 2, 3], v=["A", "b", "c"]) == 2
    assert here.rows("k, v, own") == [(1, "A", "edited"), (2, "b", "ours"), (3, "c", "ours")]


def test_a_table_of_nothing_but_its_key(bench: Benches) -> None:
    here = bench("CREATE TABLE t (a int, b int, PRIMARY KEY (a, b))", UPSERT, "a", "b")
    here.load(a=[1, 1], b=[1, 2])
    assert here.load(a=[1, 1, 1], b=[2, 3, 3]) == 1
    assert here.rows() == [(1, 1), (1, 2), (1, 3)]


# --- the watermark --------------------------------------------------------------------------------

STAMPED: LiteralString = "CREATE TABLE t (k int PRIMARY KEY, w int, v text)"


def ints(*values: int | None) -> pa.Array:
    return pa.array(values, pa.int32())


def test_of_one_chunk_the_newest_row_goes_in(bench: Benches) -> None:
    here = bench(STAMPED, UPSERT, "k", source_watermark="w")
    here.load(k=[1, 1, 1, 2, 2], w=ints(1, 3, None, None, None), v=["a", "b", "c", "d", "d"])
    assert here.rows() == [(1, 3, "b"), (2, None, "d")]
    assert here.counts() == [(5, 2, 3)]


@pytest.mark.parametrize(
    ("there", "coming", "kept"),
    [(1, 2, "new"), (2, 1, "old"), (1, 1, "new"), (1, None, "old"), (None, 1, "new"), (None, None, "new")],
)  # fmt: skip
def test_an_older_row_does_not_take_the_place_of_a_newer_one(
    bench: Benches, there: int | None, coming: int | None, kept: str
) -> None:
    here = bench(STAMPED, UPSERT, "k", source_watermark="w")
    here.load(k=[1], w=ints(there), v=["old"])
    assert here.load(k=[1], w=ints(coming), v=["new"]) == (kept == "new")
    assert here.rows("v", "1") == [(kept,)]


def test_a_watermark_that_is_part_of_the_key(bench: Benches) -> None:
    here = bench(
        "CREATE TABLE t (k int, w int, v text, UNIQUE (k, w))",
        UPSERT,
        "k",
        "w",
        source_watermark="w",
    )
    here.load(k=[1, 1], w=[1, 2], v=["a", "b"])
    assert here.load(k=[1, 1], w=[2, 3], v=["B", "c"]) == 2
    assert here.rows() == [(1, 1, "a"), (1, 2, "B"), (1, 3, "c")]


@pytest.mark.parametrize("first", ["older", "newer"])
def test_of_two_chunks_at_once_the_newest_row_stays(bench: Benches, first: str) -> None:
    """The second waits for the first, and looks at what it has committed."""
    here = bench(STAMPED, UPSERT, "k", source_watermark="w")
    chunks = {
        "older": batch(k=[1, 2], w=[1, 1], v=["older", "older"]),
        "newer": batch(k=[2, 1], w=[2, 2], v=["newer", "newer"]),
    }
    other = here.another()
    written: list[int] = []
    with here.worker.moving(chunks.pop(first)) as load:
        assert load.complete(2) == 2
        ((_, second),) = chunks.items()
        thread = threading.Thread(target=lambda: written.append(other.load(second)))
        thread.start()
        waits_for_a_key(here.database)
        load.commit()
        thread.join(20)
    assert here.rows() == [(1, 2, "newer"), (2, 2, "newer")]
    assert written == [2 if first == "older" else 0]


def waits_for_a_key(database: Database) -> None:
    """Until some transaction waits for another."""
    waiting: LiteralString = (
        "SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted"
    )
    wait_until(lambda: database.value(waiting), "one who waits")


def test_a_key_that_another_worker_keeps_is_not_waited_for_long(
    bench: Benches, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "KEY_PATIENCE_MS", 100)
    here = bench(STAMPED, UPSERT, "k", source_watermark="w")
    other = here.another()
    with here.worker.moving(batch(k=[1], w=[1], v=["a"])) as load:
        load.complete(1)
        with pytest.raises(Blocked, match="lock timeout"):
            other.load(batch(k=[0, 1], w=[2, 2], v=["b", "b"]))
        load.commit()
    assert here.rows() == [(1, 1, "a")]
    assert other.load(batch(k=[0, 1], w=[2, 2], v=["b", "b"])) == 2
    assert here.rows() == [(0, 2, "b"), (1, 2, "b")]


# --- keys -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [UPSERT, INSERT_ONLY])
def test_rows_go_in_by_the_order_of_their_keys(bench: Benches, mode: Mode) -> None:
    """Two workers that meet on several keys then wait in one direction only."""
    here = bench("CREATE TABLE t (a text, b int, v int, UNIQUE (b, a))", mode, "b", "a")
    here.insist(a=["x", "x"], b=[0, 0], v=[0, 0])
    here.load(a=["y", "x", "z", "x"], b=[2, 2, 1, 1], v=[1, 2, 3, 4])
    assert here.rows("b, a", "ctid")[1:] == [(1, "x"), (1, "z"), (2, "x"), (2, "y")]


@pytest.mark.parametrize("mode", [UPSERT, INSERT_ONLY])
def test_rows_without_a_key_are_refused(bench: Benches, mode: Mode) -> None:
    here = bench("CREATE TABLE t (a int, b int, v text, UNIQUE (a, b))", mode, "a", "b")
    here.insist(a=[1, 1], b=[1, 1], v=["there", "there"])
    with pytest.raises(TableError) as told:
        here.load(a=[1, 2, None], b=[None, 2, None], v=["x", "y", "z"])
    assert "2 rows have no value in a key column" in told.value.what
    assert "NULLS NOT DISTINCT" in (told.value.remedy or "")
    assert told.value.where.startswith("table public.t, chunk 1")
    assert here.rows() == [(1, 1, "there")]


@pytest.mark.parametrize(("mode", "kept"), [(UPSERT, "second"), (INSERT_ONLY, "first")])
def test_rows_without_a_key_meet_where_the_index_says_so(
    bench: Benches, mode: Mode, kept: str
) -> None:
    here = bench(
        "CREATE TABLE t (a int, b int, v text, UNIQUE NULLS NOT DISTINCT (b, a))", mode, "a", "b"
    )
    here.load(a=ints(1, None), b=ints(None, None), v=["first", "first"])
    here.insist(a=ints(1, None, None), b=ints(None, None, None), v=["second"] * 3)
    assert here.rows("v", "1") == [(kept,), (kept,)]


ANOTHER: LiteralString = "CREATE TABLE t (k int PRIMARY KEY, other int CONSTRAINT only_one UNIQUE)"


@pytest.mark.parametrize("mode", [UPSERT, INSERT_ONLY])
def test_another_unique_index_than_the_key_is_named(bench: Benches, mode: Mode) -> None:
    here = bench(ANOTHER, mode, "k")
    here.load(k=[1], other=[7])
    with pytest.raises(TableError, match=r'"only_one".*\(other\)=\(7\)') as told:
        here.insist(k=[2], other=[7])
    assert told.value.sqlstate == "23505"
    assert "unique key" in (told.value.remedy or "")
    assert here.rows() == [(1, 7)]


def test_without_a_named_key_any_unique_index_decides(bench: Benches) -> None:
    here = bench(ANOTHER, INSERT_ONLY)
    here.load(k=[1], other=[7])
    assert here.insist(k=[1, 2, 3, 3], other=[8, 7, 9, 10]) == 1
    assert here.rows() == [(1, 7), (3, 9)]
    assert here.counts() == [(1, 1, 0), (4, 1, 3)]
