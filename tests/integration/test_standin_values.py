"""Every type's values come out of the stand-in, through the real connector, as they went in."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from contextlib import closing
from decimal import Context, Decimal
from typing import Any

import pyarrow as pa
import pytest
import snowflake.connector
from hypothesis import given, settings
from hypothesis import strategies as st

from snowmelt.standin.server import StandIn, StandInColumn

Connection = Any  # the connector has no types of its own

NAME = ('d "x"', "S s", 'a ""b"" c')
TABLE = '"d ""x"""."S s"."a """"b"""" c"'


@pytest.fixture(scope="module", params=[False, True], ids=["structs", "compact"])
def server(request: pytest.FixtureRequest) -> Iterator[StandIn]:
    with StandIn.start(rows_per_chunk=3, inline_rows=2, compact=request.param) as one:
        yield one


@pytest.fixture(scope="module")
def connection(server: StandIn) -> Iterator[Connection]:
    with closing(
        snowflake.connector.connect(**server.login(), arrow_number_to_decimal=True)
    ) as one:
        yield one


def batches(connection: Connection, query: str) -> tuple[list[pa.Table], Any]:
    """The result's parts as the connector decodes them, and its description."""
    with closing(connection.cursor()) as cursor:
        cursor.execute(query)
        parts = [batch.to_arrow() for batch in cursor.get_result_batches() if batch.rowcount]
        return parts, cursor.description


def column(parts: list[pa.Table], at: int) -> list[Any]:
    return [value for part in parts for value in part.column(at).to_pylist()]


def stored(
    server: StandIn, connection: Connection, of: str, values: list[Any], kind: pa.DataType
) -> list[Any]:
    rows = pa.table({"v": pa.array(values, kind)})
    server.create_table(*NAME, [StandInColumn('v "1"', of)], rows)
    parts, _ = batches(connection, f'SELECT "v ""1""" FROM {TABLE}')
    assert sum(part.num_rows for part in parts) == len(values)
    return column(parts, 0)


def lists(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.none() | values, max_size=9)


EXACT = Context(prec=38)  # the default one would round the longest numbers


@st.composite
def numbers(draw: st.DrawFn) -> tuple[int, int, list[Decimal | None]]:
    precision = draw(st.integers(1, 38))
    scale = draw(st.integers(0, precision))
    digits = draw(st.integers(1, precision))  # narrow values in a wide type
    whole = st.integers(-(10**digits) + 1, 10**digits - 1)
    found = draw(lists(whole))
    return precision, scale, [v if v is None else Decimal(v).scaleb(-scale, EXACT) for v in found]


@settings(max_examples=8)
@given(case=numbers())
def test_numbers_are_exact_up_to_38_digits(
    server: StandIn, connection: Connection, case: tuple[int, int, list[Decimal | None]]
) -> None:
    precision, scale, values = case
    of = f"NUMBER({precision},{scale})"
    assert stored(server, connection, of, values, pa.decimal128(precision, scale)) == values


def test_each_chunk_has_the_narrowest_integers_that_hold_it(
    server: StandIn, connection: Connection
) -> None:
    values = [1, 2, 2**7, 0, 0, 2**31, 0, 0, 2**63, 0, 0]
    server.create_table(
        *NAME,
        [StandInColumn("n", "NUMBER(38,0)")],
        pa.table({"n": pa.array(values, pa.decimal128(38, 0))}),
    )
    parts, _ = batches(connection, f'SELECT "n" FROM {TABLE}')
    types = [str(part.schema.field(0).type) for part in parts]
    # Two rows come with the answer, then three in a chunk: 2**7 needs 16 bits, 2**31 needs 64,
    # and 2**63 more than 64.
    assert types == ["int8", "int16", "int64", "decimal128(38, 0)"]
    assert column(parts, 0) == values


@settings(max_examples=8)
@given(values=lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))))
def test_texts(server: StandIn, connection: Connection, values: list[str | None]) -> None:
    assert stored(server, connection, "VARCHAR(16777216)", [*values, "", "🐘é"], pa.string()) == [
        *values,
        "",
        "🐘é",
    ]


@settings(max_examples=5)
@given(
    floats=lists(st.floats(allow_nan=False)),
    flags=lists(st.booleans()),
    blobs=lists(st.binary()),
    days=lists(st.dates()),
)
def test_floats_booleans_binaries_and_dates(
    server: StandIn,
    connection: Connection,
    floats: list[Any],
    flags: list[Any],
    blobs: list[Any],
    days: list[Any],
) -> None:
    assert stored(server, connection, "FLOAT", floats, pa.float64()) == floats
    assert stored(server, connection, "BOOLEAN", flags, pa.bool_()) == flags
    assert stored(server, connection, "BINARY(8388608)", [*blobs, b""], pa.binary()) == [
        *blobs,
        b"",
    ]
    ends = [*days, datetime.date.min, datetime.date.max]
    assert stored(server, connection, "DATE", ends, pa.date32()) == ends


@settings(max_examples=5)
@given(
    values=lists(
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text("aé🐘\"'\\ "),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab "), inner),
            max_leaves=5,
        )
    )
)
def test_semi_structured_values_are_json_text(
    server: StandIn, connection: Connection, values: list[Any]
) -> None:
    texts = [None if value is None else json.dumps(value) for value in values]
    for of in ("VARIANT", "OBJECT", "ARRAY"):
        found = stored(server, connection, of, texts, pa.string())
        assert [v if v is None else json.loads(v) for v in found] == values


NANOSECONDS = st.integers(0, 999_999_999)


@st.composite
def moments(draw: st.DrawFn) -> str:
    """Year 1 to 9999 to the nanosecond."""
    second = draw(st.datetimes() | st.sampled_from([datetime.datetime.min, datetime.datetime.max]))
    fraction = draw(NANOSECONDS | st.sampled_from([0, 1, 999, 999_999_999]))
    return f"{second.isoformat(' ', 'seconds')}.{fraction:09d}"


OFFSETS = st.integers(-12 * 60, 14 * 60) | st.sampled_from([-720, 840, 0])


def zoned(moment: str, offset: int) -> str:
    sign, minutes = "-" if offset < 0 else "+", abs(offset)
    return f"{moment} {sign}{minutes // 60:02d}:{minutes % 60:02d}"


@st.composite
def timestamps(draw: st.DrawFn) -> tuple[int, list[str | None], list[int]]:
    values = draw(lists(moments()))
    offsets = draw(st.lists(OFFSETS, min_size=len(values), max_size=len(values)))
    return draw(st.integers(0, 9)), values, offsets


def epoch_nanoseconds(moment: str, scale: int, offset: int = 0) -> int:
    """Nanoseconds since 1970, cut to the scale."""
    second = datetime.datetime.fromisoformat(moment[:19]) - datetime.datetime(1970, 1, 1)
    whole = second.days * 86_400 + second.seconds - offset * 60
    nanoseconds = whole * 10**9 + int(moment[20:])
    unit: int = 10 ** (9 - scale)
    return nanoseconds - nanoseconds % unit


PARTS = (
    'DATE_PART(EPOCH_SECOND, "t"), DATE_PART(NANOSECOND, "t"),'
    " TO_VARCHAR(\"t\", 'YYYY-MM-DD HH24:MI:SS.FF9 TZH:TZM')"
)


@pytest.mark.parametrize("kind", ["TIMESTAMP_NTZ", "TIMESTAMP_LTZ", "TIMESTAMP_TZ"])
@settings(max_examples=8)
@given(case=timestamps())
def test_timestamps_to_the_nanosecond(
    server: StandIn,
    connection: Connection,
    kind: str,
    case: tuple[int, list[str | None], list[int]],
) -> None:
    scale, given_values, offsets = case
    zones = offsets if kind == "TIMESTAMP_TZ" else [0] * len(offsets)
    texts = [
        v if v is None or kind == "TIMESTAMP_NTZ" else zoned(v, zone)
        for v, zone in zip(given_values, zones, strict=True)
    ]
    rows = pa.table({"t": pa.array(texts, pa.string())})
    server.create_table(*NAME, [StandInColumn("t", f"{kind}({scale})")], rows)
    parts, described = batches(connection, f"SELECT {PARTS} FROM {TABLE}")
    found = list(zip(*(column(parts, at) for at in range(3)), strict=True))
    expected: list[tuple[Any, Any, Any]] = []
    for value, zone in zip(given_values, zones, strict=True):
        if value is None:
            expected.append((None, None, None))
            continue
        nanoseconds = epoch_nanoseconds(value, scale, zone)
        fraction = int(value[20:]) - int(value[20:]) % 10 ** (9 - scale)
        shown = zoned(f"{value[:19]}.{fraction:09d}", zone)
        expected.append((nanoseconds // 10**9, fraction, shown))
    assert found == expected
    assert described is not None


@pytest.mark.parametrize("kind", ["TIMESTAMP_NTZ", "TIMESTAMP_LTZ", "TIMESTAMP_TZ"])
@settings(max_examples=8)
@given(case=timestamps())
def test_timestamps_as_the_connector_decodes_them(
    server: StandIn,
    connection: Connection,
    kind: str,
    case: tuple[int, list[str | None], list[int]],
) -> None:
    scale, given_values, offsets = case
    # The connector holds nanoseconds in 64 bits, and refuses a part with years beyond.
    values = [
        v if v is None or scale <= 6 or 1678 <= int(v[:4]) <= 2261 else "1969" + v[4:]
        for v in given_values
    ]
    values = [v if v is None else v.replace("-02-29", "-02-28") for v in values]
    zones = offsets if kind == "TIMESTAMP_TZ" else [0] * len(offsets)
    texts = [
        v if v is None or kind == "TIMESTAMP_NTZ" else zoned(v, zone)
        for v, zone in zip(values, zones, strict=True)
    ]
    rows = pa.table({"t": pa.array(texts, pa.string())})
    server.create_table(*NAME, [StandInColumn("t", f"{kind}({scale})")], rows)
    parts, described = batches(connection, f'SELECT "t" FROM {TABLE}')
    assert described[0].scale == scale
    unit = {0: 10**9, 1: 10**6, 2: 10**6, 3: 10**6, 4: 10**3, 5: 10**3, 6: 10**3}.get(scale, 1)
    found = [
        v if v is None else v * unit
        for part in parts
        for v in part.column(0).cast("int64").to_pylist()
    ]
    assert found == [
        v if v is None else epoch_nanoseconds(v, scale, zone)
        for v, zone in zip(values, zones, strict=True)
    ]


@settings(max_examples=8)
@given(
    scale=st.integers(0, 9),
    values=lists(st.tuples(st.times(), NANOSECONDS)),
)
def test_times(
    server: StandIn,
    connection: Connection,
    scale: int,
    values: list[tuple[datetime.time, int] | None],
) -> None:
    texts = [None if v is None else f"{v[0].isoformat('seconds')}.{v[1]:09d}" for v in values]
    rows = pa.table({"t": pa.array(texts, pa.string())})
    server.create_table(*NAME, [StandInColumn("t", f"TIME({scale})")], rows)
    parts, _ = batches(connection, f'SELECT "t", DATE_PART(NANOSECOND, "t") FROM {TABLE}')
    expected = [None if v is None else v[1] - v[1] % 10 ** (9 - scale) for v in values]
    assert column(parts, 1) == expected
    micros = [
        None if v is None or e is None else v[0].replace(microsecond=e // 1000)
        for v, e in zip(values, expected, strict=True)
    ]
    assert column(parts, 0) == micros


def test_arrow_timestamps_with_nanoseconds_are_kept(
    server: StandIn, connection: Connection
) -> None:
    values = [-1, 0, 1, 10**18 + 1, -(10**18) - 1, None]
    rows = pa.table(
        {
            "a": pa.array(values, pa.timestamp("ns")),
            "b": pa.array(values, pa.timestamp("ns", "UTC")),
        }
    )
    columns = [StandInColumn("a", "TIMESTAMP_NTZ(9)"), StandInColumn("b", "TIMESTAMP_TZ(9)")]
    server.create_table(*NAME, columns, rows)
    parts, _ = batches(connection, f"SELECT * FROM {TABLE}")
    for at in (0, 1):
        found = [v for part in parts for v in part.column(at).cast("int64").to_pylist()]
        assert found == values
