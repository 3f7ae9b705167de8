"""The stand-in's functions of numbers, floats and texts give what Snowflake's do, for any value."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import closing
from decimal import ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_UP, Context, Decimal
from typing import Any

import pyarrow as pa
import pytest
import snowflake.connector
from hypothesis import example, given, settings
from hypothesis import strategies as st
from snowflake.connector.errors import ProgrammingError

from snowmelt.standin.server import StandIn, StandInColumn

Cursor = Any  # the connector has no types of its own

WIDE = Context(prec=200)
LIMIT = Decimal(10**38)
NUMBER = re.compile(r" *[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)? *", re.ASCII)


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


def ask(cursor: Cursor, statement: str) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = cursor.execute(statement).fetchall()
    return rows


def filled(server: StandIn, kinds: dict[str, str], rows: pa.Table) -> None:
    """The table T with columns of these names and types, and an `at` that counts its rows."""
    columns = [StandInColumn("at", "NUMBER(9,0)")]
    columns += [StandInColumn(name, kind) for name, kind in kinds.items()]
    rows = rows.add_column(0, "at", pa.array(range(rows.num_rows), pa.int64()))
    server.create_table("D", "PUBLIC", "T", columns, rows)


def half_up(value: Decimal, scale: int) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP, WIDE)


def limited(value: Decimal | None) -> Decimal | None:
    return value if value is None or abs(value) < LIMIT else None


# --- numbers --------------------------------------------------------------------------------------


def written(digits: int, *ends: str) -> st.SearchStrategy[str]:
    """Numbers of so many digits before and after the point, and what looks like them."""
    some = st.text("0123456789", max_size=digits)
    signs = st.sampled_from(["", "+", "-", "--", " -", "  "])
    points = st.sampled_from(["", ".", ".5", ".49999999999999999999", "."])
    return st.builds("{}{}{}{}{}".format, signs, some, points, some, st.sampled_from(ends))


# With an exponent, the stand-in is exact to 38 digits in all.
WRITTEN = written(45, "", " ", "x") | written(12, "e3", "E-2", "e+1", "e", "e60", "E-60")


@settings(max_examples=12)
@given(texts=st.lists(st.none() | WRITTEN | st.text("0123456789.eE+- _xNa\t", max_size=6)))
@example(
    texts=["12.5", "-12.5", " 1e3 ", "1_000", "", ".", "NaN", "inf", "0x10", "5.", ".5", "\t1"]
)
def test_the_number_that_a_text_is(
    server: StandIn, cursor: Cursor, texts: list[str | None]
) -> None:
    filled(server, {"t": "VARCHAR"}, pa.table({"t": pa.array(texts, pa.string())}))
    found = ask(cursor, 'SELECT TRY_TO_NUMBER("t", 38, 0) FROM T ORDER BY "at"')
    expected = [
        None
        if one is None or NUMBER.fullmatch(one) is None
        else limited(half_up(Decimal(one.strip()), 0))
        for one in texts
    ]
    assert [row[0] for row in found] == expected


@st.composite
def exact(draw: st.DrawFn) -> tuple[int, list[Decimal | None]]:
    scale = draw(st.sampled_from([0, 2, 10, 37]))
    digits = draw(st.integers(1, 38))
    whole = st.integers(-(10**digits) + 1, 10**digits - 1)
    values = draw(st.lists(st.none() | whole, max_size=30))
    return scale, [v if v is None else Decimal(v).scaleb(-scale, WIDE) for v in values]


@settings(max_examples=12)
@given(case=exact())
def test_exact_numbers_as_texts_and_floats(
    server: StandIn, cursor: Cursor, case: tuple[int, list[Decimal | None]]
) -> None:
    scale, values = case
    rows = pa.table({"n": pa.array(values, pa.decimal128(38, scale))})
    filled(server, {"n": f"NUMBER(38,{scale})"}, rows)
    found = ask(
        cursor, 'SELECT TO_VARCHAR("n"), "n"::FLOAT, TO_VARCHAR(ABS("n")) FROM T ORDER BY "at"'
    )
    assert found == [
        (None, None, None)
        if one is None
        else (f"{one:.{scale}f}", float(one), f"{one.copy_abs():.{scale}f}")
        for one in values
    ]


CENT = Decimal("0.01")
SMALL = st.integers(-(10**12), 10**12)


@settings(max_examples=12)
@given(
    scales=st.tuples(st.sampled_from([0, 4]), st.sampled_from([0, 3])),
    pairs=st.lists(st.tuples(SMALL, SMALL | st.sampled_from([1, -1, 4_000_000])), max_size=30),
)
@example(scales=(0, 0), pairs=[(3_999_999, 4_000_000), (-1, 2_000_001), (1, 2_000_000)])
def test_quotients_are_rounded_as_snowflake_rounds_them(
    server: StandIn, cursor: Cursor, scales: tuple[int, int], pairs: list[tuple[int, int]]
) -> None:
    """To six digits more than the dividend has: FLOOR of one may be more than the true quotient's."""
    given_pairs = [
        (Decimal(a).scaleb(-scales[0]), Decimal(b).scaleb(-scales[1])) for a, b in pairs if b
    ]
    kinds = {name: f"NUMBER(18,{scale})" for name, scale in zip("ab", scales, strict=True)}
    rows = pa.table(
        {
            name: pa.array([pair[at] for pair in given_pairs], pa.decimal128(18, scales[at]))
            for at, name in enumerate("ab")
        }
    )
    filled(server, kinds, rows)
    query = (
        'SELECT "a" / "b", FLOOR("a" / "b"), "a" - "b", "a" * 3 + "b", MOD("a", "b"), TRUNC("a", 2)'
        ' FROM T ORDER BY "at"'
    )
    quotients = [half_up(WIDE.divide(a, b), min(scales[0] + 6, 12)) for a, b in given_pairs]
    assert ask(cursor, query) == [
        (
            one,
            one.to_integral_value(ROUND_FLOOR),
            a - b,
            a * 3 + b,
            a % b,
            a.quantize(CENT, ROUND_DOWN),
        )
        for one, (a, b) in zip(quotients, given_pairs, strict=True)
    ]


@pytest.mark.parametrize(
    "quotient", ["1 / 0", "a / (a - a)", "MOD(a, a - a)", "a::FLOAT / 0", "1 / (a::FLOAT - a)"]
)
def test_nothing_is_divided_by_zero(cursor: Cursor, quotient: str) -> None:
    query = f"SELECT {quotient} FROM VALUES (1), (2) AS v (a)"
    with pytest.raises(ProgrammingError) as error:
        ask(cursor, query)
    assert (error.value.errno, error.value.sqlstate) == (100051, "22012")
    guarded = f"SELECT IFF(a IS NULL, {quotient}, 0) FROM VALUES (1), (2) AS v (a)"
    assert ask(cursor, guarded) == [(0,), (0,)]


def test_counts_and_choices(cursor: Cursor) -> None:
    source = "FROM VALUES (1, TRUE), (-2, FALSE), (300, NULL), (NULL, NULL) AS v (n, b)"
    query = "SELECT COUNT_IF(b), COUNT_IF(n > 0), COUNT(b), SUM(n), MIN(ABS(n)), MAX(-n)"
    assert ask(cursor, f"{query} {source}") == [(1, 2, 2, 299, 1, 2)]
    chosen = (
        f"SELECT IFF(b, n, 0), CASE n WHEN 1 THEN 'a' WHEN 300 THEN 'b' END {source} ORDER BY n"
    )
    assert ask(cursor, chosen) == [(0, None), (1, "a"), (0, "b"), (0, None)]


# --- floats ---------------------------------------------------------------------------------------

FLOATS = st.floats() | st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, 2.5, -2.5])


def rank(value: float) -> tuple[bool, float]:
    """Snowflake's order: NaN equals NaN, and is greater than all others."""
    return (True, 0.0) if math.isnan(value) else (False, value)


def shown(value: object) -> object:
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


@settings(max_examples=12)
@given(pairs=st.lists(st.tuples(st.none() | FLOATS, st.none() | FLOATS), max_size=30))
@example(pairs=[(math.nan, 1.0), (1.0, math.nan), (math.nan, math.nan), (None, 1.0), (1.0, None)])
def test_floats(
    server: StandIn, cursor: Cursor, pairs: list[tuple[float | None, float | None]]
) -> None:
    columns = {
        name: pa.array([pair[at] for pair in pairs], pa.float64()) for at, name in enumerate("xy")
    }
    filled(server, {"x": "FLOAT", "y": "FLOAT"}, pa.table(columns))
    query = (
        'SELECT LEAST("x", "y"), GREATEST("x", "y", "x"), FLOOR("x"), ABS("x"), "x" > "y", "x" = "y",'
        ' LEAST(GREATEST("x", 0), 100) FROM T ORDER BY "at"'
    )
    found = [tuple(map(shown, row)) for row in ask(cursor, query)]
    assert found == [tuple(map(shown, of_floats(x, y))) for x, y in pairs]


def of_floats(x: float | None, y: float | None) -> tuple[object, ...]:
    """What the query above answers for one row."""
    whole = x if x is None or not math.isfinite(x) else float(math.floor(x))
    clipped = None if x is None else min(max(x, 0.0, key=rank), 100.0, key=rank)
    size = None if x is None else abs(x)
    if x is None or y is None:
        return None, None, whole, size, None, None, clipped
    least, most = min(x, y, key=rank), max(x, y, key=rank)
    return least, most, whole, size, rank(x) > rank(y), rank(x) == rank(y), clipped


@settings(max_examples=12)
@given(values=st.lists(st.none() | FLOATS, max_size=30))
@example(values=[math.nan, math.inf, None, 1.0])
def test_nan_is_the_greatest_float(
    server: StandIn, cursor: Cursor, values: list[float | None]
) -> None:
    filled(server, {"x": "FLOAT"}, pa.table({"x": pa.array(values, pa.float64())}))
    known = sorted((one for one in values if one is not None), key=rank)
    ordered = [shown(row[0]) for row in ask(cursor, 'SELECT "x" FROM T ORDER BY "x"')]
    assert ordered == [*map(shown, known), *[None] * (len(values) - len(known))]
    ends = (shown(known[0]), shown(known[-1])) if known else (None, None)
    ((least, most),) = ask(cursor, 'SELECT MIN("x"), MAX("x") FROM T')
    assert (shown(least), shown(most)) == ends


# --- texts ----------------------------------------------------------------------------------------

TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.text("aé\0🐘'\\")


@settings(max_examples=12)
@given(texts=st.lists(st.none() | TEXTS, max_size=20), length=st.integers(0, 5))
@example(texts=["", "\0", "a\0b", "🐘é", None], length=1)
def test_texts(server: StandIn, cursor: Cursor, texts: list[str | None], length: int) -> None:
    filled(server, {"t": "VARCHAR"}, pa.table({"t": pa.array(texts, pa.string())}))
    query = (
        f'SELECT HEX_ENCODE("t"), LEFT("t", {length}), LENGTH("t"), OCTET_LENGTH("t"),'
        ' CONTAINS("t", CHR(0)), POSITION(CHR(0) IN "t"), COLLATE("t", \'utf8\') FROM T ORDER BY "at"'
    )
    assert ask(cursor, query) == [
        (None,) * 7
        if one is None
        else (
            one.encode().hex().upper(),
            one[:length],
            len(one),
            len(one.encode()),
            "\0" in one,
            one.find("\0") + 1,
            one,
        )
        for one in texts
    ]
    found = ask(cursor, 'SELECT "t", LEAST("t", \'b\'), GREATEST("t", \'b\') FROM T ORDER BY "t"')
    known = sorted((one for one in texts if one is not None), key=str.encode)
    assert found == [
        *((one, min(one, "b", key=str.encode), max(one, "b", key=str.encode)) for one in known),
        *[(None, None, None)] * (len(texts) - len(known)),
    ]
