"""What is measured of a source are its values; what is refused of them is what PostgreSQL does not hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from snowmelt.choices import NulCharacters
from snowmelt.demo.postgres import LocalPostgres
from snowmelt.model import Column
from snowmelt.preflight.findings import shown
from snowmelt.preflight.questions import (
    FIRST_DAY,
    INFINITE_MICROSECOND,
    LAST_DAY,
    Measure,
    Question,
    questions,
)
from snowmelt.preflight.surroundings import UniqueKey
from snowmelt.standin.server import StandIn
from tests.integration.measured import (
    DuckDB,
    Maker,
    Snowflake,
    loads_exactly,
    measured,
    target,
)
from tests.support import Database


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with StandIn.start() as server:
        yield server


@pytest.fixture(scope="module")
def held(postgres: LocalPostgres) -> Database:
    """Where values are loaded; each load leaves nothing."""
    return Database("measured", postgres.create_database("measured"))


@pytest.fixture(params=["duckdb", "standin"])
def maker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Maker]:
    if request.param == "standin":
        made: Maker = Snowflake(request.getfixturevalue("standin"))
    else:
        made = DuckDB(tmp_path)
    yield made
    made.close()


@dataclass(frozen=True, slots=True)
class Case:
    """A target type, a source type of each kind, and values of them: `good` ones fit, each of `bad` does not.

    DuckDB's are SQL, Snowflake's what Arrow takes; a kind without a type has no such values.
    """

    target: str
    says: str
    duckdb: str = ""
    good: tuple[str, ...] = ()
    bad: tuple[str, ...] = ()
    snowflake: str = ""
    sf_good: tuple[Any, ...] = ()
    sf_bad: tuple[Any, ...] = ()


NUL = "'a' || chr(0) || 'b'"
D = Decimal
CASES = {
    "smallint": Case(
        "smallint", "value is",
        "INTEGER", ("-32768", "32767", "NULL"), ("-32769", "32768"),
        "NUMBER(38,0)", (D(-32768), D(32767), None), (D(-32769), D(32768)),
    ),
    "bigint": Case(
        "bigint", "value is",
        "HUGEINT", ("-9223372036854775808",), ("9223372036854775808", "-9223372036854775809"),
        "NUMBER(38,0)", (D(2**63 - 1),), (D(2**63), D(-(10**37))),
    ),
    "numeric": Case(
        "numeric(5,2)", "value is",
        "DECIMAL(10,2)", ("-999.99", "999.99", "0"), ("1000.00", "-1000.00"),
        "NUMBER(10,2)", (D("-999.99"), D("999.99")), (D("1000.00"), D("-1000.00")),
    ),
    "scale": Case(
        "numeric(12,2)", "round away",
        "DECIMAL(10,3)", ("1.230", "-1.230"), ("1.231", "-0.001"),
        "NUMBER(10,3)", (D("1.230"), D("-1.230")), (D("1.231"), D("-0.001")),
    ),
    "whole": Case(
        "integer", "round away",
        "DECIMAL(9,1)", ("7.0",), ("7.5",), "NUMBER(9,1)", (D("7.0"),), (D("7.5"),),
    ),
    "hundreds": Case(
        "numeric(5,-2)", "round away",
        "INTEGER", ("1200",), ("1250",), "NUMBER(6,0)", (D(1200),), (D(1250),),
    ),
    "characters": Case(
        "varchar(3)", "longest value has",
        "VARCHAR", ("'äöü'", "''", "NULL"), ("'abcd'", "'abc '"),
        "VARCHAR(16777216)", ("äöü", "🐘🐘🐘", None), ("abcd", "abc "),
    ),
    "char": Case(
        "char(3)", "longest value has",
        "VARCHAR", ("'äöü'",), ("'abcd'",), "VARCHAR(20)", ("äöü",), ("abcd",),
    ),
    "nul": Case(
        "text", "character NUL",
        "VARCHAR", ("'\\u0000'", "'a' || chr(1)", "''"), (NUL, "chr(0)"),
        "VARCHAR(20)", ("\\u0000", "a\x01", ""), ("a\0b", "\0"),
    ),
    "nul in json": Case(
        "json", "character NUL",
        "VARCHAR", ("'{}'", r"""'"\u0000"'"""), ("'{}' || chr(0)",),
        "VARCHAR(20)", ("{}", '"\\u0000"'), ("{}\0",),
    ),
    "escape": Case(
        "jsonb", "as \\u0000",
        "VARCHAR", (r"""'"\\u0000"'""", r"""'"\\\\u0000 \u0001"'"""), (r"""'"\u0000"'""", r"""'"\\\u0000"'"""),
        "VARCHAR(40)", (r'"\\u0000"', r'"\\\\u0000 \u0001"'), (r'"\u0000"', r'"\\\u0000"'),
    ),
    "json": Case(
        "jsonb", "as \\u0000",
        "JSON", (r"""'{"a": "\\u0000"}'""",), (r"""'{"a": "\u0000"}'""", r"""'{"\u0000": 1}'"""),
        "VARIANT", (r'{"a": "\\u0000"}', None), (r'{"a": "\u0000"}', r'{"\u0000": 1}'),
    ),
    "array": Case(
        "jsonb", "as \\u0000", snowflake="ARRAY", sf_good=(r'["\\u0000", 1]',), sf_bad=(r'["\u0000"]',),
    ),
    "uuid": Case(
        "uuid", "no UUID",
        "VARCHAR", ("'0f0e0d0c-0b0a-0908-0706-050403020100'", "'0F0E0D0C0B0A09080706050403020100'"),
        ("'no'", "''", "'0f0e0d0c-0b0a-0908-0706-05040302010g'", "'00f0e0d0c-0b0a-0908-0706-050403020100'"),
        "VARCHAR(50)", ("0f0e0d0c-0b0a-0908-0706-050403020100", None),
        ("no", "", "00f0e0d0c-0b0a-0908-0706-050403020100", "0f0e0d0c-0b0a-0908-0706-050403020100\n"),
    ),
    "uuid as text": Case("varchar(35)", "longest value has", "UUID", ("NULL",), ("uuid()",)),
    "enum": Case("varchar(1)", "longest value has", "ENUM('a', 'bb')", ("'a'",), ("'bb'",)),
    "timestamp": Case(
        "timestamp", "value is",
        "TIMESTAMP",
        ("'4714-11-24 (BC) 00:00:00'", "'294247-01-10 04:00:54.775806'", "NULL"),
        ("'4714-11-23 (BC) 23:59:59.999999'", "'infinity'", "'-infinity'"),
        "TIMESTAMP_NTZ(9)", ("0001-01-01 00:00:00", "9999-12-31 23:59:59.999999999", None),
    ),
    "instant": Case(
        "timestamptz", "value is",
        "TIMESTAMPTZ", ("'4714-11-24 (BC) 00:00:00+00'",), ("'4714-11-23 (BC) 23:59:59+00'", "'infinity'"),
        "TIMESTAMP_TZ(9)", ("0001-01-02 00:00:00 +05:30", "9999-12-30 00:00:00 -11:00"),
    ),
    "nanoseconds": Case(
        "timestamp", "infinity", "TIMESTAMP_NS", ("'1677-09-22 00:00:00.000000001'", "'2262-04-11 23:47:16.8'"),
    ),
    "seconds": Case("timestamp", "infinity", "TIMESTAMP_S", ("'9999-12-31 00:00:00'",), ("'infinity'",)),
    "date": Case(
        "date", "value is",
        "DATE", ("'4714-11-24 (BC)'", "'5874897-12-31'", "NULL"),
        ("'4714-11-23 (BC)'", "'5874898-01-01'", "'infinity'", "'-infinity'"),
        "DATE", ("0001-01-01", "9999-12-31", None),
    ),
    "milliseconds": Case(
        "timestamp(3)", "round away",
        "TIMESTAMP", ("'2024-02-29 00:00:00.123'", "'1969-12-31 23:59:59.999'"), ("'1969-12-31 23:59:59.9991'",),
        "TIMESTAMP_NTZ(9)", ("2024-02-29 00:00:00.123000999", "1969-12-31 23:59:59.999"),
        ("1969-12-31 23:59:59.999001",),
    ),
    "tenths": Case(
        "time(1)", "round away",
        "TIME", ("'23:59:59.9'",), ("'23:59:59.95'",), "TIME(9)", ("23:59:59.9",), ("23:59:59.95",),
    ),
    "tenths of nanoseconds": Case(
        "timestamp(1)", "round away",
        "TIMESTAMP_NS", ("'1969-12-31 23:59:59.900000999'",), ("'1969-12-31 23:59:59.900001'",),
    ),
    "tenths of instants": Case(
        "timestamptz(1)", "round away",
        "TIMESTAMPTZ", ("'2024-02-29 00:00:00.5+02'",), ("'2024-02-29 00:00:00.55+02'",),
        "TIMESTAMP_TZ(9)", ("2024-02-29 00:00:00.5 +02:00",), ("2024-02-29 00:00:00.55 +02:00",),
    ),
}  # fmt: skip
ASKED = [
    (name, kind, bad)
    for name, case in CASES.items()
    for kind, type, several in (
        ("duckdb", case.duckdb, case.bad),
        ("standin", case.snowflake, case.sf_bad),
    )
    if type
    for bad in (None, *several)
]


def spelled(type: str) -> str:
    """As `format_type` spells it."""
    base, bracket, rest = type.partition("(")
    full = {
        "varchar": "character varying",
        "char": "character",
        "timestamptz": "timestamp{} with time zone",
        "timestamp": "timestamp{} without time zone",
        "time": "time{} without time zone",
    }.get(base, base)
    return full.format(bracket + rest) if "{}" in full else full + bracket + rest


@pytest.mark.parametrize(("name", "maker", "bad"), ASKED, indirect=["maker"])
def test_what_is_refused_is_what_is_not_loaded(
    name: str, maker: Maker, bad: Any, held: Database
) -> None:
    case = CASES[name]
    local = isinstance(maker, DuckDB)
    type = case.duckdb if local else case.snowflake
    good = case.good if local else case.sf_good
    made = maker.make(type, good if bad is None else [*good, bad])

    refusals = measured(maker, made, spelled(case.target))

    assert (not refusals) == (bad is None)
    assert loads_exactly(held, made, case.target) == (bad is None)
    if bad is not None:
        (refusal,) = refusals
        assert 'column "v v": ' in refusal.what
        assert case.says in refusal.what
    made.source.close()


def texts(maker: Maker, *values: str | None) -> list[Any]:
    """Values as the kind of source takes them."""
    if isinstance(maker, DuckDB):
        return ["NULL" if value is None else f"'{value}'" for value in values]
    return list(values)


def text_type(maker: Maker) -> str:
    return "VARCHAR" if isinstance(maker, DuckDB) else "VARCHAR(9)"


BOTH = pytest.mark.parametrize("maker", ["duckdb", "standin"], indirect=True)


@BOTH
def test_missing_values_are_counted(maker: Maker, held: Database) -> None:
    made = maker.make(text_type(maker), texts(maker, "a", None, None))
    (refusal,) = measured(maker, made, "text", nullable=False)
    assert "2 rows have no value" in refusal.what
    assert not loads_exactly(held, made, "text", nullable=False)
    assert measured(maker, made, "text") == ()
    made.source.close()


@BOTH
def test_lengths_of_values_and_of_rows(maker: Maker) -> None:
    made = maker.make(text_type(maker), texts(maker, "äöü", "abcd", None))
    v = made.relation.columns[1]
    room = tuple(made.relation.columns)
    asked = [
        Question(Measure.CHARACTERS, (v,)),
        Question(Measure.BYTES, (v,)),
        Question(Measure.ROW_BYTES, (v, v)),
        Question(Measure.PAGE_BYTES, room, widths=(4, 100)),
    ]
    assert maker.ask(made, asked) == [4, 6, 12, 104]
    assert maker.ask(made, asked, '"n" = 2 -- the one without') == [None, None, 0, 4]
    assert maker.ask(made, asked, '"n" > 2') == [None] * 4
    made.source.close()


@BOTH
def test_bytes(maker: Maker) -> None:
    local = isinstance(maker, DuckDB)
    values: list[Any] = ["'\\x00\\xFF\\x00'::BLOB", "NULL"] if local else [b"\0\xff\0", None]
    made = maker.make("BLOB" if local else "BINARY(9)", values)
    v = made.relation.columns[1]
    asked = [Question(Measure.BYTES, (v,)), Question(Measure.ROW_BYTES, (v, v))]
    assert maker.ask(made, asked) == [3, 6]
    made.source.close()


@BOTH
def test_keys_that_repeat_or_are_missing(maker: Maker) -> None:
    made = maker.make(text_type(maker), texts(maker, "a", "a", "b", None, None, "a"))
    asked = questions(made.relation, target("text"), UniqueKey("u", ("v v",)))
    answers = dict(zip([q.measure for q in asked], maker.ask(made, asked), strict=True))
    assert answers[Measure.KEY_NULLS] == 2
    assert answers[Measure.REPEATED] == 2
    both = questions(made.relation, target("text"), UniqueKey("u", ("n", "v v")))
    assert maker.ask(made, both)[-1] == 0
    made.source.close()


@BOTH
@pytest.mark.parametrize(
    ("how", "longest", "repeated"), [("fail", 4, 0), ("strip", 3, 2), ("replace", 4, 1)]
)
def test_texts_are_measured_as_they_are_loaded(
    maker: Maker, how: str, longest: int, repeated: int
) -> None:
    local = isinstance(maker, DuckDB)
    values: list[Any] = (
        [NUL, "'a\ufffdb'", "'ab'", "chr(0) || 'ab' || chr(0)"]
        if local
        else ["a\0b", "a\ufffdb", "ab", "\0ab\0"]
    )
    made = maker.make(text_type(maker), values)
    key, nuls = UniqueKey("u", ("v v",)), NulCharacters(how)
    asked = questions(made.relation, target("character varying(1)"), key, nuls)
    answers = dict(zip([q.measure for q in asked], maker.ask(made, asked), strict=True))
    assert answers.get(Measure.NULS) == (2 if how == "fail" else None)
    assert answers[Measure.REPEATED] == repeated
    assert answers[Measure.CHARACTERS] == longest
    made.source.close()


@BOTH
def test_blanks_at_the_end_are_not_counted_for_char(maker: Maker) -> None:
    made = maker.make(text_type(maker), texts(maker, "ab      ", "abc "))
    assert not measured(maker, made, "character(3)")
    assert measured(maker, made, "character(2)")
    assert measured(maker, made, "character varying(7)")
    made.source.close()


@pytest.mark.parametrize(
    ("maker", "type", "values"),
    [
        ("duckdb", "TIMESTAMP_NS", ["'1969-12-31 23:59:59.123456001'", "'1969-12-31 23:59:59.123456999'"]),
        ("standin", "TIMESTAMP_NTZ(9)", ["1969-12-31 23:59:59.123456001", "1969-12-31 23:59:59.123456999"]),
        ("standin", "TIMESTAMP_TZ(9)", ["1969-12-31 23:59:59.9 +00:00", "1970-01-01 01:59:59.9 +02:00"]),
        ("standin", "TIME(9)", ["23:59:59.123456001", "23:59:59.123456999"]),
    ],
    indirect=["maker"],
)  # fmt: skip
def test_keys_that_are_one_once_loaded_repeat(maker: Maker, type: str, values: list[str]) -> None:
    made = maker.make(type, values)
    asked = [Question(Measure.REPEATED, (made.relation.columns[1],))]
    assert maker.ask(made, asked) == [1]
    made.source.close()


# --- any values -----------------------------------------------------------------------------------

INTEGERS = ["smallint", "integer", "bigint", "numeric(3,0)", "numeric(20,0)", "numeric(4,2)"]
DECIMALS = ["smallint", "bigint", "numeric(9,2)", "numeric(9,5)", "numeric(12,3)", "numeric(40,10)"]
TIMES = ["timestamp", "timestamp(0)", "timestamp(5)"]
edges = st.sampled_from([n for bits in (15, 31, 63) for n in (2**bits - 1, -(2**bits))])
micros = st.integers(-(2**63) + 1, 2**63 - 1) | st.integers(-(10**9), 10**9).map(
    lambda n: n * 10**6
)


@st.composite
def any_values(draw: st.DrawFn) -> tuple[str, str, list[str]]:
    """A target type, a type of DuckDB's, and values of it as SQL."""
    kind = draw(st.sampled_from(["BIGINT", "DECIMAL(18,3)", "VARCHAR", "TIMESTAMP"]))
    if kind == "BIGINT":
        numbers = st.integers(-(2**63), 2**63 - 1) | edges | st.integers(-1_000, 1_000)
        return draw(st.sampled_from(INTEGERS)), kind, [str(n) for n in draw(some(numbers))]
    if kind == "TIMESTAMP":
        return draw(st.sampled_from(TIMES)), kind, [_timestamp(us) for us in draw(some(micros))]
    if kind == "VARCHAR":
        letters = st.text(st.sampled_from(["a", "é", "🐘", "\0", " "]), max_size=5)
        into = st.sampled_from(["text", "varchar(2)", "varchar(4)"])
        return draw(into), kind, [_text(text) for text in draw(some(letters))]
    whole = st.integers(-(10**18) + 1, 10**18 - 1) | st.integers(-(10**4), 10**4)
    values = [str(Decimal(n).scaleb(-3)) for n in draw(some(whole))]
    return draw(st.sampled_from(DECIMALS)), kind, [f"{value}::{kind}" for value in values]


def some(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, min_size=1, max_size=3)


def _timestamp(us: int) -> str:
    if abs(us) == INFINITE_MICROSECOND:
        return f"'{'-' if us < 0 else ''}infinity'::TIMESTAMP"
    return f"make_timestamp({us})"


def _text(text: str) -> str:
    return " || ".join(["''", *("chr(0)" if letter == "\0" else f"'{letter}'" for letter in text)])


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=any_values())
def test_any_values_are_refused_where_they_are_not_loaded_and_nowhere_else(
    tmp_path: Path, held: Database, case: tuple[str, str, list[str]]
) -> None:
    type, source_type, values = case
    maker = DuckDB(tmp_path)
    made = maker.make(source_type, values)
    assert (not measured(maker, made, spelled(type))) == loads_exactly(held, made, type)
    made.source.close()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(day=st.integers(FIRST_DAY, LAST_DAY))
def test_days_are_shown_as_postgresql_shows_them(held: Database, day: int) -> None:
    text = held.value("SELECT (date '1970-01-01' + %s)::text", [day])
    assert shown(Column("d", pa.date32()), day) == text
