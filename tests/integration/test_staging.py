"""A staging table whose target is altered between two chunks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, LiteralString

import pyarrow as pa
import pytest

from snowmelt.errors import RetriableError, TableError
from tests.integration.merging import INSERT_ONLY, UPSERT, Benches
from tests.support import Database


@pytest.fixture
def bench(database: Database) -> Iterator[Benches]:
    with ExitStack() as stack:
        yield Benches(database, stack)


ALTERED: list[tuple[LiteralString, LiteralString, Any, Any]] = [
    ("bigint", "float8", pa.array([7], pa.int32()), 7.0),
    ("integer", "bigint", pa.array([7], pa.int32()), 7),
    ("varchar(2)", "text", ["long"], "long"),
    ("json", "jsonb", ['{"a": 1}'], {"a": 1}),
]


@pytest.mark.parametrize("mode", [UPSERT, INSERT_ONLY])
@pytest.mark.parametrize(("before", "after", "values", "kept"), ALTERED, ids=lambda v: str(v)[:11])
def test_values_are_those_of_the_source_whatever_type_the_column_has_now(
    bench: Benches, mode: Any, before: LiteralString, after: LiteralString, values: Any, kept: Any
) -> None:
    """The chunk is given back once, and then goes through another staging table."""
    here = bench("CREATE TABLE t (k int PRIMARY KEY, v " + before + ")", mode, "k")
    none = pa.array([None], values.type if isinstance(values, pa.Array) else pa.string())
    here.load(k=[1], v=none)
    assert here.insist(k=[1], v=none) == 0
    here.database.execute("ALTER TABLE t ALTER v TYPE " + after)
    with pytest.raises(RetriableError, match="has changed"):
        here.load(k=[2], v=values)
    assert here.load(k=[2], v=values) == 1
    assert here.rows() == [(1, None), (2, kept)]


def test_a_type_that_takes_no_value_as_it_is_ends_the_table(bench: Benches) -> None:
    here = bench("CREATE TABLE t (k int PRIMARY KEY, v timestamp)", UPSERT, "k")
    noon = pa.array([0], pa.timestamp("us"))
    here.load(k=[1], v=noon)
    here.database.execute("ALTER TABLE t ALTER v TYPE timestamptz")
    with pytest.raises(RetriableError, match="has changed"):
        here.load(k=[2], v=noon)
    with pytest.raises(TableError, match='no loadable column "v"'):
        here.load(k=[2], v=noon)
    assert here.rows("k", "1") == [(1,)]


def test_a_column_that_is_gone_ends_the_table(bench: Benches) -> None:
    here = bench("CREATE TABLE t (k int PRIMARY KEY, v int)", UPSERT, "k")
    here.load(k=[1], v=[1])
    here.database.execute("ALTER TABLE t DROP v")
    with pytest.raises(RetriableError, match="has changed"):
        here.load(k=[2], v=[2])
    with pytest.raises(TableError, match='"v"'):
        here.load(k=[2], v=[2])
    assert here.rows("k", "1") == [(1,)]


def test_a_column_that_the_source_lacks_may_change(bench: Benches) -> None:
    here = bench("CREATE TABLE t (k int PRIMARY KEY, v int, own int)", UPSERT, "k")
    here.load(k=[1], v=[1])
    here.database.execute("ALTER TABLE t ALTER own TYPE text")
    assert here.load(k=[2], v=[2]) == 1
    assert here.rows("k, v", "1") == [(1, 1), (2, 2)]
