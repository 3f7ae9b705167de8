"""What is asked of a source's values: no more than the types leave open; and what the answers mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.model import Column, Relation, TargetColumn, TargetState
from snowmelt.postgres import encode
from snowmelt.preflight import fit, questions
from snowmelt.preflight.findings import findings, shown
from snowmelt.preflight.questions import Answer, Measure, Question
from snowmelt.preflight.surroundings import UniqueKey

NOWHERE = TargetState(exists=False)
US, NS = pa.timestamp("us"), pa.timestamp("ns")


def relation(*columns: Column) -> Relation:
    return Relation(columns, (), {})


def target(*columns: tuple[str, str], nullable: bool = True) -> TargetState:
    return TargetState(True, tuple(TargetColumn(name, type, nullable) for name, type in columns))


def asked(column: Column, type: str | None, *, nullable: bool = True) -> tuple[Question, ...]:
    """Of one column that goes into one of that type, or into one that is created."""
    there = NOWHERE if type is None else target((column.name, type), nullable=nullable)
    return questions.questions(relation(column), there)


def measures(found: Sequence[Question]) -> list[str]:
    return [question.measure.value for question in found]


# --- numbers --------------------------------------------------------------------------------------


def answer(question: Question, values: Sequence[Decimal]) -> Answer:
    """What a source would measure of these numbers."""
    match question.measure:
        case Measure.LEAST:
            return min(values)
        case Measure.GREATEST:
            return max(values)
        case Measure.FINER:
            scale = Fraction(10) ** question.digits
            return sum((Fraction(value) * scale).denominator != 1 for value in values)
    raise AssertionError(question)


def held(type: str, value: Decimal) -> bool:
    """Whether the type holds the number, every digit of it."""
    given = fit.typmod(type)
    bits = {"smallint": 16, "integer": 32, "bigint": 64}.get(type)
    if bits:
        return value == int(value) and -(2 ** (bits - 1)) <= value < 2 ** (bits - 1)
    if given is None:
        return True
    precision, scale = given
    digits = Fraction(value) * Fraction(10) ** scale
    return digits.denominator == 1 and abs(digits) < 10**precision


SOURCES = st.one_of(
    st.sampled_from(
        [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint32(), pa.uint64()]
    ),
    st.integers(1, 38).flatmap(lambda p: st.integers(0, p).map(lambda s: pa.decimal128(p, s))),
)
TARGETS = st.one_of(
    st.sampled_from(["smallint", "integer", "bigint", "numeric"]),
    st.integers(1, 45).flatmap(lambda p: st.integers(-3, p + 2).map(lambda s: f"numeric({p},{s})")),
)


@st.composite
def numbers(draw: st.DrawFn) -> tuple[pa.DataType, list[Decimal]]:
    """A type and values of it, edges more often than not."""
    type = draw(SOURCES)
    if pa.types.is_decimal(type):
        most = 10**type.precision - 1
        low, scale = -most, type.scale
    else:
        signed = pa.types.is_signed_integer(type)
        most = 2 ** (type.bit_width - signed) - 1
        low, scale = -most - 1 if signed else 0, 0
    edges = [
        low,
        most,
        0,
        *(n for bits in (15, 31, 63) for n in (2**bits, -(2**bits), 2**bits - 1)),
    ]
    inside = st.sampled_from([n for n in edges if low <= n <= most])
    drawn = draw(st.lists(st.integers(low, most) | inside, min_size=1, max_size=3))
    return type, [Decimal((n < 0, tuple(map(int, str(abs(n)))), -scale)) for n in drawn]


@given(case=numbers(), type=TARGETS)
def test_numbers_are_refused_where_the_target_does_not_hold_them_and_nowhere_else(
    case: tuple[pa.DataType, list[Decimal]], type: str
) -> None:
    found = asked(Column("n", case[0]), type)
    answers = [answer(question, case[1]) for question in found]
    assert bool(findings(found, answers)) == (not all(held(type, value) for value in case[1]))


@given(case=numbers())
def test_no_number_is_asked_for_where_its_column_is_created(
    case: tuple[pa.DataType, list[Decimal]],
) -> None:
    assert asked(Column("n", case[0]), None) == ()


@pytest.mark.parametrize(
    ("type", "source_type", "into", "expected"),
    [
        (pa.int64(), "NUMBER(38,0)", "bigint", []),
        (pa.int64(), "NUMBER(38,0)", "integer", ["least", "greatest"]),
        (pa.uint32(), "UINTEGER", "integer", ["greatest"]),
        (pa.uint64(), "UBIGINT", "numeric(20,0)", []),
        (pa.int16(), "NUMBER(3,0)", "integer", []),
        (pa.decimal128(10, 3), "NUMBER(10,3)", "numeric(12,3)", []),
        (pa.decimal128(10, 3), "NUMBER(10,3)", "numeric(12,2)", ["finer"]),
        (pa.decimal128(10, 3), "NUMBER(10,3)", "numeric(9,3)", ["least", "greatest"]),
        # 39 digits and more are in a HUGEINT, whatever its Arrow type says.
        (pa.decimal128(38, 0), "HUGEINT", "numeric(38,0)", ["least", "greatest"]),
        (pa.decimal128(38, 0), "HUGEINT", "numeric", []),
        (pa.float64(), "FLOAT", "double precision", []),
        (pa.bool_(), "BOOLEAN", "boolean", []),
    ],
)
def test_what_is_asked_of_numbers(
    type: pa.DataType, source_type: str, into: str, expected: list[str]
) -> None:
    assert measures(asked(Column("n", type, True, source_type), into)) == expected


# --- times ----------------------------------------------------------------------------------------


def test_what_is_loaded_of_times_is_what_the_encoder_takes() -> None:
    assert questions.FIRST_MICROSECOND == encode._US_MIN
    assert questions.LAST_MICROSECOND == encode._INFINITE - 1
    assert (questions.FIRST_DAY, questions.LAST_DAY) == (encode._DAY_MIN, encode._DAY_MAX)


@given(low=st.integers(-(2**63) + 1, 2**63 - 1), high=st.integers(-(2**63) + 1, 2**63 - 1))
def test_timestamps_are_refused_outside_of_the_range_only(low: int, high: int) -> None:
    low, high = sorted((low, high))
    found = asked(Column("at", US), None)
    refused = bool(findings(found, [low, high]))
    assert measures(found) == ["least", "greatest"]
    assert refused == (low < questions.FIRST_MICROSECOND or high > questions.LAST_MICROSECOND)


@pytest.mark.parametrize(
    ("type", "source_type", "into", "expected"),
    [
        (NS, "TIMESTAMP_NTZ(9)", None, []),
        (NS, "TIMESTAMP_NS", None, ["least", "greatest"]),
        (US, "TIMESTAMP_NTZ(6)", "timestamp without time zone", ["least", "greatest"]),
        (NS, "TIMESTAMP_NTZ(9)", "timestamp(3) without time zone", ["finer"]),
        (US, "TIMESTAMP_NTZ(3)", "timestamp(3) without time zone", ["least", "greatest"]),
        (pa.timestamp("s"), "TIMESTAMP_S", "timestamp(0) without time zone", ["least", "greatest"]),
        (pa.time64("us"), "TIME(9)", "time without time zone", []),
        (pa.time64("us"), "TIME(9)", "time(6) without time zone", []),
        (pa.time64("us"), "TIME(9)", "time(5) without time zone", ["finer"]),
        (pa.time64("us"), "TIME(0)", "time(0) without time zone", []),
        (pa.date32(), "DATE", "date", ["least", "greatest"]),
    ],
)
def test_what_is_asked_of_times(
    type: pa.DataType, source_type: str, into: str | None, expected: list[str]
) -> None:
    assert measures(asked(Column("at", type, True, source_type), into)) == expected


@given(day=st.dates())
def test_days_are_shown_as_dates(day: date) -> None:
    assert shown(Column("d", pa.date32()), (day - date(1970, 1, 1)).days) == day.isoformat()


@given(at=st.datetimes())
def test_microseconds_are_shown_as_timestamps(at: datetime) -> None:
    us = (at - datetime(1970, 1, 1)) // timedelta(microseconds=1)
    assert shown(Column("at", US), us) == at.isoformat(" ")


@pytest.mark.parametrize(
    ("type", "value", "text"),
    [
        (US, questions.FIRST_MICROSECOND, "4714-11-24 00:00:00 BC"),
        (US, questions.LAST_MICROSECOND, "294247-01-10 04:00:54.775806"),
        (US, questions.INFINITE_MICROSECOND, "infinity"),
        (US, -questions.INFINITE_MICROSECOND, "-infinity"),
        (pa.date32(), questions.FIRST_DAY, "4714-11-24 BC"),
        (pa.date32(), questions.LAST_DAY, "5874897-12-31"),
        (pa.date32(), questions.INFINITE_DAY, "infinity"),
        (pa.date32(), -719_163, "0001-12-31 BC"),
        (pa.decimal128(5, -2), Decimal("99999E+2"), "9999900"),
    ],
)
def test_what_is_beyond_python_is_shown_as_well(
    type: pa.DataType, value: int | Decimal, text: str
) -> None:
    assert shown(Column("v", type), value) == text


def test_the_epoch_is_in_utc() -> None:
    column = Column("at", pa.timestamp("us", tz="UTC"))
    at = datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)
    assert shown(column, int(at.timestamp()) * 1_000_000) == "2024-02-29 23:59:59"


# --- texts ----------------------------------------------------------------------------------------

TEXT = pa.string()
WORDS = pa.dictionary(pa.uint8(), TEXT)


@pytest.mark.parametrize(
    ("type", "source_type", "into", "expected"),
    [
        # Of a text of Snowflake, 128 MB at most, none is too long by itself.
        (TEXT, "VARCHAR(134217728)", None, ["nuls"]),
        (TEXT, "VARCHAR", None, ["nuls", "bytes"]),
        (TEXT, "VARCHAR(5)", "character varying(5)", ["nuls"]),
        (TEXT, "VARCHAR(6)", "character varying(5)", ["characters", "nuls"]),
        (TEXT, "VARCHAR(6)", "character(5)", ["characters", "nuls"]),
        (TEXT, "VARCHAR", "character varying(5)", ["characters", "nuls", "bytes"]),
        (TEXT, "VARCHAR(6)", "citext", ["nuls"]),
        (TEXT, "VARCHAR(99)", "uuid", ["no_uuids"]),
        (TEXT, "VARCHAR(99)", "json", ["nuls"]),
        (TEXT, "VARCHAR(99)", "jsonb", ["escaped_nuls", "nuls"]),
        (WORDS, "ENUM('a', 'b')", "character varying(1)", ["characters", "nuls", "bytes"]),
        (TEXT, "UUID", None, []),
        (TEXT, "UUID", "character varying(36)", []),
        (TEXT, "UUID", "character varying(32)", ["characters"]),
        # JSON has no NUL but as an escape, and json keeps that.
        (TEXT, "VARIANT", None, ["escaped_nuls"]),
        (TEXT, "MAP(VARCHAR, NUMBER)", "jsonb", ["escaped_nuls"]),
        (TEXT, "JSON", "jsonb", ["escaped_nuls"]),
        (TEXT, "OBJECT", "json", []),
        (TEXT, "ARRAY", "text", []),
        (TEXT, "GEOGRAPHY", None, []),
        (pa.binary(), "BINARY(67108864)", None, []),
        (pa.binary(), "BLOB", None, ["bytes"]),
    ],
)
def test_what_is_asked_of_texts_and_bytes(
    type: pa.DataType, source_type: str, into: str | None, expected: list[str]
) -> None:
    assert measures(asked(Column("s", type, True, source_type), into)) == expected


@pytest.mark.parametrize(
    ("source_type", "columns", "expected"),
    [
        ("VARCHAR(16777216)", 15, False),  # 64 MB each
        ("VARCHAR(16777216)", 16, True),
        ("VARCHAR(134217728)", 7, False),  # 128 MB each
        ("VARCHAR(134217728)", 8, True),
        ("BINARY(67108864)", 16, True),
        ("VARCHAR(100)", 1_000, False),
        ("VARCHAR", 1, False),
        ("VARCHAR", 2, True),
    ],
)
def test_a_row_is_measured_where_its_values_together_may_be_too_long(
    source_type: str, columns: int, expected: bool
) -> None:
    type = pa.binary() if source_type.startswith("BINARY") else TEXT
    wide = relation(*(Column(f"c{n}", type, True, source_type) for n in range(columns)))
    found = [q for q in questions.questions(wide, NOWHERE) if q.measure is Measure.ROW_BYTES]
    assert bool(found) == expected
    if found:
        assert len(found[0].columns) == columns
        assert findings(found, [fit.VALUE_BYTES]) == ()
        (refusal,) = findings(found, [fit.VALUE_BYTES + 1])
        assert "1,073,741,820 bytes" in refusal.what


@pytest.mark.parametrize("nullable", [True, False])
def test_rows_without_a_value_are_counted_for_a_target_that_wants_one(nullable: bool) -> None:
    column = Column("n", pa.int16(), nullable)
    assert measures(asked(column, "bigint", nullable=False)) == (["nulls"] if nullable else [])
    assert asked(column, "bigint") == asked(column, None) == ()


def test_columns_that_can_not_be_loaded_are_passed_over() -> None:
    columns = (Column("f", pa.float64()), Column("g", pa.int64()))
    there = TargetState(
        True,
        (TargetColumn("f", "integer", False), TargetColumn("g", "integer", True, generated=True)),
    )
    assert questions.questions(relation(*columns), there) == ()
    assert asked(Column("l", pa.list_(pa.int32())), None) == ()


def test_a_key_is_asked_for_where_there_is_one() -> None:
    rows = relation(Column("a", pa.int16(), False), Column("b", pa.int16()))
    key = UniqueKey("u", ("a", "b"))

    def of(key: UniqueKey | None, there: TargetState = NOWHERE) -> list[tuple[str, list[str]]]:
        found = questions.questions(rows, there, key)
        return [(q.measure.value, [c.name for c in q.columns]) for q in found]

    assert of(None) == []
    assert of(key) == [("key_nulls", ["b"]), ("repeated", ["a", "b"])]
    assert of(replace(key, nulls_distinct=False)) == [("repeated", ["a", "b"])]
    assert of(replace(key, columns=("a", "c"))) == []
    filled = target(("a", "smallint"), ("b", "smallint"), nullable=False)
    assert of(key, filled) == [("nulls", ["b"]), ("repeated", ["a", "b"])]


# --- findings -------------------------------------------------------------------------------------

LONG = Column("s", TEXT, True, "VARCHAR(99)")
MONEY = Column("n", pa.decimal128(10, 3))
SAID: list[tuple[Question, Answer, str, str]] = [
    (Question(Measure.LEAST, (Column("n", pa.int64()),), -32768, "smallint"), -32769,
     'column "n": the least value is -32769, and smallint begins at -32768', "bigint"),
    (Question(Measure.GREATEST, (MONEY,), Decimal("9.9"), "numeric(2,1)"), Decimal("10.000"),
     'column "n": the greatest value is 10.000, and numeric(2,1) ends at 9.9', "numeric(10,3)"),
    (Question(Measure.GREATEST, (Column("at", US),), questions.LAST_MICROSECOND, "timestamp"), 2**63 - 1,
     "the greatest value is infinity, and timestamp ends at 294247-01-10", "correct them in a view"),
    (Question(Measure.CHARACTERS, (LONG,), 5, "character varying(5)"), 6,
     "the longest value has 6 characters, and character varying(5) holds 5", "text"),
    (Question(Measure.BYTES, (LONG,), fit.VALUE_BYTES, "text"), fit.VALUE_BYTES + 1,
     "1,073,741,820 bytes, and PostgreSQL holds 1,073,741,819", "source_filter"),
    (Question(Measure.FINER, (MONEY,), 0, "numeric(9,2)", 2), 1_234,
     "1,234 values have digits that numeric(9,2) would round away", "numeric(10,3)"),
    (Question(Measure.NULS, (LONG,), 0, "text"), 1,
     "1 value has the character NUL, which text does not take", "nul_characters"),
    (Question(Measure.ESCAPED_NULS, (LONG,), 0, "jsonb"), 2,
     r"2 values have the character NUL as \u0000, which jsonb does not take", "json"),
    (Question(Measure.NO_UUIDS, (LONG,), 0, "uuid"), 2, "2 values are no UUID", "text"),
    (Question(Measure.NULLS, (LONG,), 0, "NOT NULL"), 1,
     "1 row has no value, and the target column is NOT NULL", "drop NOT NULL"),
    (Question(Measure.KEY_NULLS, (LONG,), 0, "key s"), 3,
     'column "s": 3 rows have no value, and an upsert would add them again', "NULLS NOT DISTINCT"),
    (Question(Measure.REPEATED, (LONG, Column("b", TEXT)), 0, "key s, b"), 3,
     '3 rows repeat the key "s", "b" of another row', "uniqueness_columns"),
    (Question(Measure.PAGE_BYTES, (LONG,), 8_136, "a page"), 8_144,
     "the widest row takes at least 8,168 bytes on a page, and PostgreSQL holds 8,160", "views"),
]  # fmt: skip


@pytest.mark.parametrize(("question", "answer", "what", "remedy"), SAID, ids=lambda v: str(v)[:24])
def test_a_finding_says_what_was_found_and_what_to_do(
    question: Question, answer: Answer, what: str, remedy: str
) -> None:
    (refusal,) = findings([question], [answer])
    assert what in refusal.what
    assert remedy in refusal.remedy
    assert findings([question], [question.bound]) == findings([question], [None]) == ()


def test_each_measure_is_said_and_answers_must_be_as_many_as_questions() -> None:
    told = {question.measure for question, *_ in SAID}
    # One has a test of its own, the other one refuses nothing.
    assert told == set(Measure) - {Measure.ROW_BYTES, Measure.ROWS}
    with pytest.raises(ValueError, match="shorter"):
        findings([SAID[0][0]], [])
