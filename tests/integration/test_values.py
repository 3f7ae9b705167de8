"""Which values a target does not take: the same by C and by pyarrow, and for JSON the same as by a server."""

from __future__ import annotations

import struct
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from snowmelt.postgres import values
from snowmelt.postgres.json_rules import NotJson, require_json
from snowmelt.postgres.values import Fault, check, unconvertible
from snowmelt.types import target_type
from tests.support import Database

_values = pytest.importorskip("snowmelt.postgres._values", reason="the C extension was not built")
SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def codes(array: pa.Array, spelling: str, *, nullable: bool = True) -> list[int]:
    """Each row's fault; C and pyarrow must tell the same."""
    target = target_type(spelling)
    assert target is not None
    checked = check(target, array.type, nullable=nullable)
    native = checked.faults(array)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(values, "native_faults", None)
        other = checked.faults(array)
    found = native.codes.to_pylist() if native else [0] * len(array)
    assert found == (other.codes.to_pylist() if other else [0] * len(array))
    if native is not None:
        bad = [bool(code) for code in found]
        assert native.mask().to_pylist() == bad
        assert native.first() == (bad.index(True), found[bad.index(True)])
    return found


# --- JSON -----------------------------------------------------------------------------------------

STRINGS = st.sampled_from(
    [
        '""', '"a"', '"schnée ❄ 😀"', r'"\" \\ \/ \b \f \n \r \t"', r'"\u0041"', r'"\uFFFF\uffff"',
        r'"\ud83d\ude00"',
        r'"\u0000"', r'"\\u0000"', r'"a\\\u0000"', r'"\ud800"', r'"\udc00"', r'"\ud800x"', r'"\ud800\n"',
        r'"\ud800\ud800\udc00"', r'"\ude00\ud83d"', r'"\u12"', r'"\u12g4"', r'"\x"', '"\\', '"', '"a', '"\n"',
        '"\t"',
        '"\x7f"', '"\x1f"', "'a'", r'"\U0041"', r'"\ud800\x"', r'"12345678\u0000"', '"1234567\x01"', '"123456789"',
    ]
)  # fmt: skip
WORDS = st.sampled_from(
    ["true", "false", "null", "True", "nul", "truee", "null1", "tru", "NaN", "Infinity", "-Infinity", "é", "_"]
)  # fmt: skip


@st.composite
def numbers(draw: st.DrawFn) -> str:
    digits = st.text("0123456789", max_size=3)
    zeros = st.sampled_from(["", "0", "0" * 10, "9" * 40])
    exponents = st.sampled_from(
        ["0", "1", "16382", "16383", "16384", "131070", "131071", "131072", "131082", "1073741824", "9" * 30]
    )  # fmt: skip
    whole = draw(st.sampled_from(["0", "1", "-0", "-1", "01", "", "-", "+1", "10", "12345"]))
    fraction = draw(st.just("") | st.builds(lambda a, b: f".{a}{b}", zeros, digits))
    exponent = draw(
        st.just("")
        | st.builds("{}{}{}".format, st.sampled_from("eE"), st.sampled_from(["", "+", "-", "--"]), exponents)
        | st.sampled_from(["e", "e+", "E-"])
    )  # fmt: skip
    return whole + fraction + exponent


SPACE = st.sampled_from(["", "", " ", "\n\t\r ", "\x0b", "\xa0", "\0"])
SCALARS = STRINGS | WORDS | numbers()
WELL = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda items: f"[{', '.join(items)}]")
        | st.lists(st.tuples(STRINGS, inner), max_size=3).map(
            lambda pairs: "{" + ",".join(f"{key}:{value}" for key, value in pairs) + "}"
        )
    ),
    max_leaves=8,
)
BROKEN = st.lists(st.sampled_from(list("{}[],:")) | SCALARS | SPACE, max_size=8).map("".join)


@st.composite
def near_json(draw: st.DrawFn) -> str:
    """JSON, or something that is nearly such."""
    text = draw(WELL | BROKEN)
    if text and draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(text) - 1))
        text = (
            text[:at]
            + draw(st.sampled_from(["", ",", "]", "}", '"', "\\", " ", "\0"]))
            + text[at + 1 :]
        )
    return draw(SPACE) + text + draw(SPACE)


@given(texts=st.lists(st.none() | near_json(), min_size=20, max_size=40), start=st.integers(0, 9))
@SHARED
def test_json_is_judged_as_a_server_does(
    database: Database, texts: list[str | None], start: int
) -> None:
    array = pa.array(texts, pa.string()).slice(start)
    told = [text for text in texts[start:] if text is not None and "\0" not in text]
    valid = database.execute(
        "SELECT pg_input_is_valid(v, 'json'), pg_input_is_valid(v, 'jsonb') "
        "FROM unnest(%s::text[]) WITH ORDINALITY t(v, n) ORDER BY n",
        [told],
    )
    for place, spelling in enumerate(("json", "jsonb")):
        found = dict(zip(texts[start:], codes(array, spelling), strict=True))
        assert {text: not found[text] for text in told} == dict(
            zip(told, [row[place] for row in valid], strict=True)
        )
        assert all(found[text] == Fault.NUL for text in found if text and "\0" in text)


def test_zero_may_have_any_exponent_that_is_a_number(database: Database) -> None:
    texts = ["0e131072", "0.000e999999", "-0E+1073741823", "0e-16383", "0e-16384", "0e1073741824"]
    (row,) = database.execute(
        "SELECT array_agg(pg_input_is_valid(v, 'jsonb') ORDER BY n) "
        "FROM unnest(%s::text[]) WITH ORDINALITY t(v, n)",
        [texts],
    )
    assert [not code for code in codes(pa.array(texts), "jsonb")] == row[0]


def test_depth_is_left_to_the_server() -> None:
    deep = "[" * 200_000 + "]" * 200_000
    mixed = '{"a":[' * 3_000 + "1" + "]}" * 3_000
    assert codes(pa.array([deep, mixed, deep[:-1], mixed[:-1] + "]"]), "jsonb") == [
        0, 0, Fault.NO_JSON, Fault.NO_JSON]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "place"), [("{a: 1}", 1), ("", 0), ("[1, 2", 5), ('{"a": 01}', 7), ('["a\n"]', 3)]
)
def test_where_a_text_stops_to_be_json(text: str, place: int) -> None:
    with pytest.raises(NotJson) as caught:
        require_json(text, binary=False)
    assert caught.value.place == place


# --- texts and bytes ------------------------------------------------------------------------------

TEXTS = st.lists(
    st.none() | st.text(st.sampled_from("a ß❄😀\t\0"), max_size=6) | st.text("ab ", max_size=20),
    max_size=30,
)


@given(texts=TEXTS, start=st.integers(0, 5), length=st.integers(1, 8))
@example(texts=["ab  ", "ab  c", "  "], start=0, length=2)
def test_characters_are_counted_and_only_char_takes_no_notice_of_blanks_at_the_end(
    texts: list[str | None], start: int, length: int
) -> None:
    def fault(text: str | None, counted: int) -> Fault:
        if text is None:
            return Fault.FITS
        too_long = Fault.TOO_MANY_CHARACTERS if counted > length else Fault.FITS
        return Fault.NUL if "\0" in text else too_long

    array, rows = pa.array(texts, pa.string()).slice(start), texts[start:]
    assert codes(array, "text") == [fault(text, 0) for text in rows]
    assert codes(array, f"character varying({length})") == [
        fault(text, len(text or "")) for text in rows
    ]
    assert codes(array, f"character({length})") == [
        fault(text, len((text or "").rstrip(" "))) for text in rows
    ]


def test_what_lies_under_a_null_is_not_looked_at() -> None:
    hidden = pa.Array.from_buffers(
        pa.string(),
        2,
        [
            pa.py_buffer(b"\1"),
            pa.array([0, 1, 5], pa.int32()).buffers()[1],
            pa.py_buffer(b"1{\0{{"),
        ],
    )
    for spelling in ("text", "character varying(1)", "json", "jsonb"):
        assert codes(hidden, spelling) == [0, 0]
    low = pa.Array.from_buffers(
        pa.decimal128(9, 0), 2, [pa.py_buffer(b"\1"), pa.py_buffer(bytes(16) + b"\x7f" * 16)]
    )
    assert codes(low, "numeric(2,0)") == [0, 0]


def offset(type: pa.DataType, *offsets: int) -> pa.Array:
    """Two values with these offsets over 3 bytes, written only after pyarrow has checked the array."""
    memory = bytearray(4 * len(offsets))
    buffers = [None, pa.py_buffer(memory), pa.py_buffer(b"1bc")]
    array = pa.Array.from_buffers(type, len(offsets) - 1, buffers)
    memory[:] = struct.pack(f"={len(offsets)}i", *offsets)
    return array


@pytest.mark.parametrize(
    ("spelling", "most"),
    [("text", 0x3FFFFFFB), ("json", 0x3FFFFFFB), ("jsonb", 0x3FFFFFFA), ("bytea", 0x3FFFFFFB)],
)
def test_a_value_over_a_gigabyte_is_told_without_being_read(spelling: str, most: int) -> None:
    type = pa.binary() if spelling == "bytea" else pa.string()
    array = offset(type, 0, 1, 1 + most + 1)
    target = target_type(spelling)
    assert target is not None
    found = check(target, type).faults(array)
    assert found is not None
    assert found.codes.to_pylist() == [0, Fault.TOO_MANY_BYTES]


@pytest.mark.parametrize("offsets", [(0, 3, 1), (-1, 2, 3), (0, -5, 1)])
def test_offsets_that_are_none_are_refused(offsets: tuple[int, ...]) -> None:
    array = offset(pa.string(), *offsets)
    with pytest.raises(ValueError, match="malformed"):
        _values.faults(array.__arrow_c_array__(), "t", 0)


@pytest.mark.parametrize(
    ("array", "rule"),
    [
        (pa.array([1]), "t"),
        (pa.array(["a"], pa.large_string()), "t"),
        (pa.array([b"a"]), "t"),
        (pa.array(["a"]).dictionary_encode(), "t"),
        (pa.array(["a"]), "y"),
        (pa.array(["a"]), "x"),
        (pa.array(["a"]), "n"),
        (pa.array([1], pa.decimal256(40, 0)), "n"),
        (pa.record_batch({"a": ["a"]}), "t"),
    ],
    ids=str,
)
def test_what_is_no_column_of_the_rule_is_refused(array: Any, rule: str) -> None:
    with pytest.raises(ValueError, match="not a column of the rule"):
        _values.faults(array.__arrow_c_array__(), rule, 1)


# --- numbers, times, NULL -------------------------------------------------------------------------


@st.composite
def decimals(draw: st.DrawFn) -> pa.Array:
    precision = draw(st.integers(1, 38))
    scale = draw(st.integers(0, precision))
    sizes = st.integers(0, precision).flatmap(
        lambda n: st.sampled_from([10**n - 1, 10**n // 2, 10**n // 10])
    )
    numbers = draw(
        st.lists(
            st.none() | st.builds(lambda n, s: n * s, sizes, st.sampled_from([1, -1])), max_size=12
        )
    )
    whole = [
        n if n is None else Decimal((n < 0, tuple(map(int, str(abs(n)))), -scale)) for n in numbers
    ]
    return pa.array(whole, pa.decimal128(precision, scale)).slice(draw(st.integers(0, 3)))  # fmt: skip


@given(array=decimals(), precision=st.integers(1, 45), less=st.integers(0, 40))
def test_digits_before_the_point_are_counted(array: pa.Array, precision: int, less: int) -> None:
    """With as many digits after it as come: the cast to the wire's type has looked at those."""
    scale = array.type.scale + less
    most = Fraction(10) ** (precision - scale)
    assert codes(array, f"numeric({precision},{scale})") == [
        Fault.FITS if value is None or abs(Fraction(value)) < most else Fault.TOO_LARGE
        for value in array.to_pylist()
    ]


def test_all_of_int128_is_compared() -> None:
    raw = b"".join(
        (n).to_bytes(16, "little", signed=True) for n in (-(1 << 127), (1 << 127) - 1, 10**38 - 1)
    )
    array = pa.Array.from_buffers(pa.decimal128(38, 0), 3, [None, pa.py_buffer(raw)])  # fmt: skip
    assert codes(array, "numeric(38,0)") == [Fault.TOO_LARGE, Fault.TOO_LARGE, Fault.FITS]
    assert codes(array, "numeric(39,0)") == [Fault.FITS] * 3


def test_digits_that_a_negative_scale_rounds_away_are_found() -> None:
    array = pa.array([1200, -1250, 1, 0, None, 99900, 100000], pa.decimal128(38, 0))
    assert codes(array, "numeric(3,-2)") == [0, Fault.FINER, Fault.FINER, 0, 0, 0, Fault.TOO_LARGE]


@pytest.mark.parametrize(
    ("spelling", "type"),
    [
        ("timestamp(3) without time zone", pa.timestamp("us")),
        ("timestamp(3) with time zone", pa.timestamp("us", "UTC")),
        ("time(3) without time zone", pa.time64("us")),
    ],
)
def test_digits_that_a_time_of_less_precision_rounds_away_are_found(
    spelling: str, type: pa.DataType
) -> None:
    microseconds = [1_000, 1_001, None, 0, 999]
    array = pa.array(microseconds, pa.int64()).cast(type)
    assert codes(array, spelling) == [0, Fault.FINER, 0, 0, Fault.FINER]
    assert codes(array, spelling.replace("(3)", "")) == [0] * 5
    assert codes(array, spelling.replace("3", "6")) == [0] * 5


def test_rows_that_do_not_convert_are_found_wherever_they_are() -> None:
    array = pa.array([1, 40_000, None, -40_000, 2, 3, 40_000])
    found = unconvertible(lambda part: part.cast(pa.int16()), array)
    assert found.mask(Fault.OTHER).to_pylist() == [False, True, False, True, False, False, True]
    assert found.first() == (1, Fault.OTHER)


def test_null_is_a_fault_of_a_column_that_is_not_null_and_beside_others() -> None:
    array = pa.array(["a", None, "\0"])
    assert codes(array, "text") == [0, 0, Fault.NUL]
    assert codes(array, "text", nullable=False) == [0, Fault.NULL, Fault.NUL]
    faults = check(target_type("text"), array.type, nullable=False).faults(array)  # type: ignore[arg-type]
    assert faults is not None
    assert faults.mask(Fault.NUL).to_pylist() == [False, False, True]
    assert codes(pa.array([1, None]), "bigint", nullable=False) == [0, Fault.NULL]
