"""Every statement that Snowflake is sent is Snowflake SQL, whatever the names are."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
import sqlglot
from hypothesis import given
from hypothesis import strategies as st
from sqlglot import exp

from snowmelt.chunking.bounds import Bound, Timestamp
from snowmelt.chunking.chunks import (
    Key,
    KeyKind,
    KeyRange,
    NullKeys,
    QueryOnce,
    ResultBatches,
    Span,
    WholeTable,
)
from snowmelt.chunking.histogram import BytePrefixes, Days, EqualWidths, Grain, Prefixes
from snowmelt.chunking.window import Window
from snowmelt.model import Column, SourceTable
from snowmelt.sources.snowflake import statements
from snowmelt.sources.snowflake.keys import SnowflakeKeys, literal
from snowmelt.types import SNOWFLAKE_FACTS, snowflake_fact, snowflake_type
from tests.unit.key_values import BOUNDS, texts

NASTY = (
    "select",
    "order",
    'say "hi"',
    "a b",
    "it's",
    "back\\slash",
    "ünï",
    "%s",
    "{x}",
    "a.b",
    "--",
    "/*",
)
names = st.sampled_from(NASTY) | st.text(
    st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20
)
moments = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))
keys = st.builds(Key, names, st.sampled_from(KeyKind), st.booleans())


def ranges(key: Key) -> st.SearchStrategy[KeyRange]:
    ends = st.none() | BOUNDS[key.kind]
    return st.builds(KeyRange, st.just(key), ends, ends)


@st.composite
def nested(draw: st.DrawFn) -> Span:
    """A range of a key, perhaps within one of another key, and that within one of a third."""
    span: Span | None = None
    for _ in range(draw(st.integers(1, 3))):
        inner = draw(keys.flatmap(ranges))
        if draw(st.booleans()):
            span = NullKeys(inner.key, span)
        else:
            span = KeyRange(inner.key, inner.low, inner.high, span)
    assert span is not None
    return span


def keys_in(span: Span | None) -> list[Key]:
    return [span.key, *keys_in(span.within)] if span is not None else []


def grains(kind: KeyKind) -> st.SearchStrategy[Grain]:
    if kind.is_time:
        return st.just(Days())
    if kind.is_text:
        sizes = st.integers(1, 5)
        return st.builds(Prefixes, sizes) | st.builds(BytePrefixes, sizes)
    return st.builds(EqualWidths, st.integers(1, 200_000))


SPELLINGS = [
    *(name for fact in SNOWFLAKE_FACTS for name in fact.names),
    "NUMBER(38,0)", "NUMBER(10,2)", "TIME(3)", "TIMESTAMP_NTZ(9)", "TIMESTAMP_TZ(3)", "GEOGRAPHY",
    "GEOMETRY", "VECTOR(FLOAT, 3)", "MAP(VARCHAR, NUMBER)", "FILE",
]  # fmt: skip


def parsed(statement: str) -> exp.Expr:
    """The one statement that the text is; a parser's last resort, a bare command, is none."""
    (tree,) = sqlglot.parse(statement, dialect="snowflake")
    assert tree is not None
    assert not isinstance(tree, exp.Command), statement
    return tree


def columns(names: list[str], spelling: str, unit: str = "ns") -> list[Column]:
    type = snowflake_fact(spelling).arrow(snowflake_type(spelling))
    if pa.types.is_timestamp(type):
        type = pa.timestamp(unit, tz=type.tz)
    return [Column(name, type, True, spelling) for name in names]


def identifiers(tree: exp.Expr) -> set[str]:
    return {node.this for node in tree.find_all(exp.Identifier) if node.quoted}


@given(
    place=st.tuples(names, names, names),
    listed=st.lists(names, min_size=1, max_size=4, unique=True),
    span=nested(),
    moment=moments,
    spelling=st.sampled_from(SPELLINGS),
    unit=st.sampled_from(["ns", "us"]),
)
def test_the_rows_of_a_chunk(
    place: tuple[str, str, str],
    listed: list[str],
    span: Span,
    moment: datetime,
    spelling: str,
    unit: str,
) -> None:
    table = statements.table(SourceTable(*place))
    planned = columns(listed, spelling, unit)
    condition = statements.condition(span)
    statement = statements.rows(
        table, statements.at(moment), planned, condition, '"f" > 1 -- a comment at its end'
    )
    tree = parsed(statement)

    assert isinstance(tree, exp.Select)
    assert len(tree.expressions) == len(listed) + len(statements.watched(planned))
    named = {key.column for key in keys_in(span)}
    assert {*place, *listed, *named, "f"} <= identifiers(tree)
    assert tree.find(exp.Where) is not None
    assert "TIMESTAMP_TZ" in statement


@given(name=names, key=names, moment=moments, filter=st.none() | st.just('"a" = 1'))
def test_counts(name: str, key: str, moment: datetime, filter: str | None) -> None:
    table, at = statements.relation(name), statements.at(moment)
    for statement in (statements.observe(table, at, [key, "n"], [key], count=filter is None),):
        tree = parsed(statement)
        assert isinstance(tree, exp.Select)
        assert name in identifiers(tree)
        assert bool(tree.find(exp.Where)) == (filter is not None and "MIN" not in statement)


FILTERS = st.none() | st.just("\"a\" = ';' OR 1 = 1 -- a comment at its end")


@given(
    name=names,
    key_and_grain=keys.flatmap(lambda key: st.tuples(st.just(key), grains(key.kind))),
    moment=moments,
    filter=FILTERS,
)
def test_a_histogram_by_ranges(
    name: str, key_and_grain: tuple[Key, Grain], moment: datetime, filter: str | None
) -> None:
    key, grain = key_and_grain
    table, at = statements.relation(name), statements.at(moment)
    tree = parsed(statements.key_histogram(table, at, key, grain, filter))

    assert isinstance(tree, exp.Select)
    assert len(tree.expressions) == 5
    assert {name, key.column} <= identifiers(tree)
    assert ("a" in identifiers(tree)) or filter is None
    assert len(list(tree.find_all(exp.Group))) == 1


@given(
    name=names,
    several=st.lists(keys, min_size=1, max_size=3, unique_by=lambda key: key.column),
    moment=moments,
    filter=FILTERS,
    rows=st.integers(1, 10**9),
    data=st.data(),
)
def test_histograms_by_the_values_of_keys(
    name: str,
    several: Sequence[Key],
    moment: datetime,
    filter: str | None,
    rows: int,
    data: st.DataObject,
) -> None:
    table, at = statements.relation(name), statements.at(moment)
    chosen: list[Span] = [*data.draw(st.lists(ranges(several[0]), max_size=4))]
    if not chosen or data.draw(st.booleans()):
        chosen.append(NullKeys(several[0]))
    tree = parsed(statements.finer_histograms(table, at, several, chosen, rows, filter))

    assert isinstance(tree, exp.Select)
    # The span, its rows, and six columns for each key.
    assert len(tree.expressions) == 2 + 6 * len(several)
    assert {name, *(key.column for key in several)} <= identifiers(tree)
    assert ("a" in identifiers(tree)) or filter is None


WINDOWED = (KeyKind.DATE, KeyKind.TIMESTAMP, KeyKind.INSTANT, KeyKind.NUMBER)


@given(
    name=names,
    column=names,
    kind=st.sampled_from(WINDOWED),
    moment=moments,
    filter=FILTERS,
    closed=st.booleans(),
    nulls=st.booleans(),
    data=st.data(),
)
def test_the_rows_of_a_window(
    name: str,
    column: str,
    kind: KeyKind,
    moment: datetime,
    filter: str | None,
    closed: bool,
    nulls: bool,
    data: st.DataObject,
) -> None:
    key = Key(column, kind)
    low, high = (data.draw(st.none() | BOUNDS[kind]) for _ in range(2))
    within = statements.narrowed(filter, Window(key, low, high, closed, nulls))
    table, at = statements.relation(name), statements.at(moment)
    tree = parsed(statements.newest(table, at, key, within))

    assert isinstance(tree, exp.Select)
    assert len(tree.expressions) == 3
    assert {name, column} <= identifiers(tree)
    assert ("a" in identifiers(tree)) or filter is None
    narrowed = not (low is None and high is None and nulls)
    assert bool(tree.find(exp.Where)) is (narrowed or filter is not None)


@given(place=st.tuples(names, names, names), clone=st.tuples(names, names, names), moment=moments)
def test_what_is_asked_of_a_table_and_made_of_it(
    place: tuple[str, str, str], clone: tuple[str, str, str], moment: datetime
) -> None:
    source = SourceTable(*place)
    table, copy = statements.table(source), statements.relation(*clone)
    for statement, mentions in (
        (statements.describe(table), place),
        (statements.properties(source), place[:1]),
        (statements.policies(source, table, "VIEW"), place[:1]),
        (statements.clone(copy, table, statements.at(moment)), (*place, *clone)),
        (statements.drop(copy), clone),
        (statements.primary_key(table), place),
    ):
        assert set(mentions) <= identifiers(parsed(statement)), statement


def said(written: str) -> str:
    """What Snowflake reads a string as: https://docs.snowflake.com/en/sql-reference/data-types-text, under
    "Escape sequences in single-quoted string constants"."""
    inner = re.fullmatch(r"'((?:[^'\\]|''|\\x[0-9A-Fa-f]{2}|\\\\)*)'", written, re.DOTALL)
    assert inner is not None, written
    escape = re.compile(r"''|\\\\|\\x(..)")
    return escape.sub(lambda m: chr(int(m[1], 16)) if m[1] else m[0][0], inner[1])


@given(text=texts)
def test_a_literal_is_one_string_with_the_text(text: str) -> None:
    written = literal(text)
    assert said(written) == text
    (only,) = parsed(f"SELECT {written}").find_all(exp.Literal)
    assert only.is_string
    if "\0" not in text:
        assert only.this == text
    assert "\0" not in written


def test_what_a_session_says_of_itself_and_of_queries() -> None:
    for statement in (
        statements.SESSION,
        statements.running(SourceTable("a b", "", ""), "snowmelt/0/db/"),
        statements.running(SourceTable("", "", ""), "snowmelt/0/db/"),
        statements.cancel("01b2"),
    ):
        assert isinstance(parsed(statement), exp.Select)


def test_every_statement_is_looked_at_here() -> None:
    made = {
        name
        for name, function in inspect.getmembers(statements, inspect.isfunction)
        if function.__module__ == statements.__name__ and not name.startswith("_")
    }
    text = inspect.getsource(inspect.getmodule(test_every_statement_is_looked_at_here))  # type: ignore[arg-type]
    helpers = {"where"}
    assert {name for name in made - helpers if f"statements.{name}" not in text} == set()


@pytest.mark.parametrize(
    ("bound", "text"),
    [
        (date(1, 1, 1), "'0001-01-01'::DATE"),
        (
            Timestamp(datetime(9999, 12, 31, 23, 59, 59, 999999), 999),
            "'9999-12-31T23:59:59.999999999'::TIMESTAMP_NTZ",
        ),
        (Timestamp(datetime(1969, 1, 1)), "'1969-01-01T00:00:00'::TIMESTAMP_NTZ"),
        (
            Timestamp(datetime(1969, 1, 1, tzinfo=UTC), 7),
            "'1969-01-01T00:00:00.000000007+00:00'::TIMESTAMP_TZ",
        ),
        (-(10**38) + 1, "-" + "9" * 38),
        (Decimal("-1E+3"), "-1000"),
        (Decimal("0.0000000001"), "0.0000000001"),
        (float("nan"), "'nan'::FLOAT"),
        (float("-inf"), "'-inf'::FLOAT"),
        (-0.0, "'-0.0'::FLOAT"),
        (5e-324, "'5e-324'::FLOAT"),
        ("it's a \\ \0", r"'it''s a \\ \x00'"),
    ],
)
def test_bounds_have_their_types(bound: Bound, text: str) -> None:
    assert SnowflakeKeys().literal(bound) == text


@given(st.sampled_from(KeyKind).flatmap(lambda kind: BOUNDS[kind]))
def test_a_bound_is_one_constant_of_its_value(bound: Bound) -> None:
    tree = parsed(f"SELECT {SnowflakeKeys().literal(bound)}")
    assert isinstance(tree, exp.Select)
    (only,) = tree.find_all(exp.Literal)
    if isinstance(bound, int | Decimal):
        assert not only.is_string
        assert bool(tree.find(exp.Neg)) == str(bound).startswith("-")
        assert Decimal(only.this) == Decimal(bound).copy_abs()
        assert "E" not in only.this
    else:
        assert only.is_string
    if isinstance(bound, float):
        assert repr(float(only.this)) == repr(bound)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("migration_wh", '"MIGRATION_WH"'),
        ("Wh$2", '"WH$2"'),
        ('"Mixed Case"', '"Mixed Case"'),
        ("a b", '"a b"'),
        ('x"y', '"x""y"'),
    ],
)
def test_a_warehouse_is_named_as_in_a_login(name: str, said: str) -> None:
    statement = statements.use_warehouse(name)
    assert statement == f"USE WAREHOUSE {said}"
    assert isinstance(parsed(statement), exp.Use)


def test_conditions() -> None:
    day, text = Key("k", KeyKind.DATE), Key("t", KeyKind.TEXT)
    assert statements.condition(WholeTable()) is None
    assert statements.condition(NullKeys(day)) == '"k" IS NULL'
    assert statements.condition(KeyRange(day)) == '"k" IS NOT NULL'
    outer = KeyRange(day, date(2025, 1, 1), date(2025, 1, 2))
    assert statements.condition(KeyRange(text, "a", None, outer)) == (
        "\"k\" >= '2025-01-01'::DATE AND \"k\" < '2025-01-02'::DATE AND COLLATE(\"t\", 'utf8') >= 'a'"
    )
    number = Key("n", KeyKind.TEXT_NUMBER)
    assert statements.condition(NullKeys(number, NullKeys(text))) == (
        'COLLATE("t", \'utf8\') IS NULL AND TRY_TO_NUMBER("n", 38, 0) IS NULL'
    )
    for other in (QueryOnce(), ResultBatches("q", 0, (1,))):
        with pytest.raises(ValueError, match="no rows of a table"):
            statements.condition(other)


@pytest.mark.parametrize(
    ("spelling", "unit", "listed"),
    [
        ("TIMESTAMP_NTZ(9)", "ns", ['"c"']),
        ("TIMESTAMP_NTZ(6)", "us", ['"c"']),
        (
            "TIMESTAMP_NTZ(9)",
            "us",
            ["DATE_TRUNC('MICROSECOND', \"c\")", 'MOD(DATE_PART(NANOSECOND, "c"), 1000) <> 0'],
        ),
        ("TIME(9)", "us", ['"c"', 'MOD(DATE_PART(NANOSECOND, "c"), 1000) <> 0']),
        ("VARIANT", "", ['TO_JSON("c")']),
        ("MAP(VARCHAR, NUMBER)", "", ['TO_JSON("c"::VARIANT)']),
        ("GEOGRAPHY", "", ['ST_ASEWKT("c")']),
        ("FILE", "", ['TO_VARCHAR("c")']),
    ],
)
def test_how_a_column_is_selected(spelling: str, unit: str, listed: list[str]) -> None:
    statement = statements.rows('"t"', "", columns(["c"], spelling, unit))
    assert statement == f'SELECT {", ".join(listed)} FROM "t"'
