"""The stand-in groups, orders and compares times to the nanosecond, in every place of a query."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytest
import snowflake.connector
from hypothesis import given, settings
from hypothesis import strategies as st

from snowmelt.standin.server import StandIn, StandInColumn

Cursor = Any  # the connector has no types of its own
Rows = list[tuple[Any, ...]]

FORMAT = "'YYYY-MM-DD\"T\"HH24:MI:SS.FF9'"


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    with StandIn.start() as one:
        one.execute("CREATE DATABASE D")
        yield one


@pytest.fixture(scope="module")
def cursor(server: StandIn) -> Iterator[Cursor]:
    place = {"database": "D", "schema": "PUBLIC"}
    with (
        closing(snowflake.connector.connect(**server.login(), **place)) as connection,
        closing(connection.cursor()) as one,
    ):
        yield one


def ask(cursor: Cursor, statement: str) -> Rows:
    rows: Rows = cursor.execute(statement).fetchall()
    return rows


SECONDS = (
    "0001-01-01 00:00:00",
    "1969-12-31 23:59:59",
    "2024-02-29 12:00:00",
    "9999-12-31 23:59:59",
)
FRACTIONS = (0, 1, 2, 999, 1_000, 123_456_789, 999_999_998, 999_999_999)
EPOCH = datetime.datetime(1970, 1, 1)


@dataclass(frozen=True)
class Moment:
    """An instant as text, at an offset of so many minutes."""

    second: str
    fraction: int
    offset: int = 0

    @property
    def nanoseconds(self) -> int:
        passed = datetime.datetime.fromisoformat(self.second) - EPOCH
        return (passed.days * 86_400 + passed.seconds) * 10**9 + self.fraction

    @property
    def utc(self) -> str:
        return f"{self.second.replace(' ', 'T')}.{self.fraction:09d}"

    @property
    def text(self) -> str:
        """The clock at the offset, which is not used at either end of time."""
        if not self.offset:
            return f"{self.utc} +00:00"
        local = datetime.datetime.fromisoformat(self.second) + datetime.timedelta(
            minutes=self.offset
        )
        hours, minutes = divmod(abs(self.offset), 60)
        sign = "-" if self.offset < 0 else "+"
        return f"{local.isoformat()}.{self.fraction:09d} {sign}{hours:02d}:{minutes:02d}"


def moments(zoned: bool) -> st.SearchStrategy[Moment]:
    offsets = st.sampled_from([0, 330, -120]) if zoned else st.just(0)
    middle = st.builds(Moment, st.sampled_from(SECONDS[1:3]), st.sampled_from(FRACTIONS), offsets)
    return middle | st.builds(Moment, st.sampled_from(SECONDS), st.sampled_from(FRACTIONS))


KINDS = ("TIMESTAMP_NTZ", "TIMESTAMP_LTZ", "TIMESTAMP_TZ")


def as_text(kind: str, value: str) -> str:
    """An instant as text: in UTC, whatever its offset is."""
    converted = value if kind == "TIMESTAMP_NTZ" else f"CONVERT_TIMEZONE('UTC', {value})"
    return f"TO_VARCHAR({converted}, {FORMAT})"


@dataclass(frozen=True)
class Filled:
    """A table T with a column K of such times, and what it holds: moments in order, and NULLs."""

    kind: str
    known: Sequence[Moment]
    nulls: int

    @property
    def groups(self) -> list[tuple[str | None, int]]:
        counts = Counter(one.utc for one in self.known)
        nulls = [(None, self.nulls)] if self.nulls else []
        return [*((text, counts[text]) for text in sorted(counts)), *nulls]

    def literal(self, moment: Moment) -> str:
        zone = "" if self.kind == "TIMESTAMP_NTZ" else "+00:00"
        return f"'{moment.utc}{zone}'::{self.kind}(9)"

    def text(self, value: str) -> str:
        """SQL of an instant as text: in UTC, whatever its offset is."""
        if self.kind != "TIMESTAMP_NTZ":
            value = f"CONVERT_TIMEZONE('UTC', {value})"
        return f"TO_VARCHAR({value}, {FORMAT})"


@st.composite
def drawn(draw: st.DrawFn, kind: str) -> tuple[Filled, pa.Table]:
    values = draw(st.lists(st.none() | moments(kind == "TIMESTAMP_TZ"), max_size=30))
    known = sorted((one for one in values if one is not None), key=lambda one: one.nanoseconds)
    texts = [
        one if one is None else one.utc if kind == "TIMESTAMP_NTZ" else one.text for one in values
    ]
    rows = pa.table({"K": pa.array(texts, pa.string())})
    return Filled(kind, known, len(values) - len(known)), rows


def fill(server: StandIn, kind: str, data: st.DataObject) -> Filled:
    filled, rows = data.draw(drawn(kind))
    server.create_table("D", "PUBLIC", "T", [StandInColumn("K", f"{kind}(9)")], rows)
    return filled


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8)
@given(data=st.data())
def test_groups(server: StandIn, cursor: Cursor, kind: str, data: st.DataObject) -> None:
    filled = fill(server, kind, data)
    text = filled.text("K")
    for grouping in ("1", "ALL", "K", text):
        query = f"SELECT {text}, COUNT(*) FROM T GROUP BY {grouping} ORDER BY 1"
        assert ask(cursor, query) == filled.groups, grouping
    query = f"SELECT {filled.text('MIN(L)')}, COUNT(*) FROM (SELECT K AS L FROM T) GROUP BY L"
    assert ask(cursor, f"{query} ORDER BY L") == filled.groups
    alone = [(text,) for text, _ in filled.groups]
    assert ask(cursor, "SELECT COUNT(DISTINCT K) FROM T") == [(len(alone) - bool(filled.nulls),)]
    for some in ("SELECT DISTINCT K FROM T", "SELECT K FROM T UNION SELECT K FROM T ORDER BY 1"):
        assert ask(cursor, f"SELECT {text} FROM ({some}) ORDER BY K") == alone, some


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8)
@given(data=st.data())
def test_ends_and_parts(server: StandIn, cursor: Cursor, kind: str, data: st.DataObject) -> None:
    filled, bound = fill(server, kind, data), data.draw(moments(zoned=False))
    literal = filled.literal(bound)
    ends = f"{filled.text('MIN(L)')}, {filled.text('MAX(L)')}, MIN(L) = MAX(L)"
    part = f"CASE WHEN L < {literal} THEN 0 WHEN L >= {literal} THEN 1 END"
    expected: Rows = []
    for number, inside in enumerate((True, False)):
        some = [one for one in filled.known if (one.nanoseconds < bound.nanoseconds) is inside]
        if some:
            same = some[0].nanoseconds == some[-1].nanoseconds
            expected.append((some[0].utc, some[-1].utc, same, number, len(some)))
    if filled.nulls:
        expected.append((None, None, None, None, filled.nulls))
    query = f"WITH keys AS (SELECT K AS L FROM T) SELECT {ends}, {part}, COUNT(*) FROM keys"
    assert ask(cursor, f"{query} GROUP BY {part} ORDER BY 1") == expected


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8)
@given(data=st.data())
def test_comparisons(server: StandIn, cursor: Cursor, kind: str, data: st.DataObject) -> None:
    filled, bound = fill(server, kind, data), data.draw(moments(zoned=False))
    literal, at = filled.literal(bound), bound.nanoseconds
    equal = sum(one.nanoseconds == at for one in filled.known)
    less = sum(one.nanoseconds < at for one in filled.known)
    conditions = {
        f"K = {literal}": equal,
        f"NOT K = {literal}": len(filled.known) - equal,
        f"K <> {literal}": len(filled.known) - equal,
        f"K < {literal}": less,
        f"{literal} >= K": less + equal,
        f"K BETWEEN {literal} AND {literal}": equal,
        f"K IN ({literal}, NULL)": equal,
        f"K IS DISTINCT FROM {literal}": len(filled.known) - equal + filled.nulls,
        f"LEAST(K, {literal}) = {literal}": len(filled.known) - less,
        f"GREATEST(K, {literal}) > {literal}": len(filled.known) - less - equal,
        f"COALESCE(K, {literal}) = {literal}": equal + filled.nulls,
        f"IFF(K < {literal}, NULL, K) = {literal}": equal,
    }
    counts = ", ".join(f"COUNT_IF({condition})" for condition in conditions)
    (found,) = ask(cursor, f"SELECT {counts} FROM T")
    assert dict(zip(conditions, found, strict=True)) == conditions
    assert ask(cursor, f"SELECT COUNT(*) FROM T WHERE K < {literal}") == [(less,)]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8)
@given(data=st.data())
def test_windows(server: StandIn, cursor: Cursor, kind: str, data: st.DataObject) -> None:
    filled = fill(server, kind, data)
    upto = "ORDER BY K NULLS LAST RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"
    windows = (
        f"COUNT(*) OVER ({upto}) AS upto, COUNT(*) OVER (PARTITION BY K) AS peers,"
        " MAX(K) OVER () AS greatest_k, LAG(K) OVER (ORDER BY K) AS before_k"
    )
    greatest = filled.text("MIN(greatest_k)")
    query = (
        f"SELECT {filled.text('MAX(K)')}, upto, peers, COUNT_IF(before_k = K), {greatest}"
        f" FROM (SELECT *, {windows} FROM T) GROUP BY 2, 3 ORDER BY 2"
    )
    last = filled.known[-1].utc if filled.known else None
    total, expected = 0, []
    for text, count in filled.groups:
        total += count
        expected.append((text, total, count, count - 1 if text else 0, last))
    assert ask(cursor, query) == expected
