"""Every statement that Snowflake is sent is Snowflake SQL, whatever the names are."""

from __future__ import annotations

import inspect
from datetime import UTC, date, datetime

import pyarrow as pa
import pytest
import sqlglot
from hypothesis import given
from hypothesis import strategies as st
from sqlglot import exp

from snowmelt.chunks import Bound, KeyKind, KeyRange, NullKeys, QueryOnce, ResultBatches, WholeTable
from snowmelt.model import Column, SourceTable
from snowmelt.sources.snowflake import statements
from snowmelt.types import SNOWFLAKE_FACTS, snowflake_fact, snowflake_type

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
bounds: st.SearchStrategy[Bound | None] = st.none() | st.dates() | st.datetimes() | moments
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
    key=names,
    ends=st.tuples(bounds, bounds),
    moment=moments,
    spelling=st.sampled_from(SPELLINGS),
    unit=st.sampled_from(["ns", "us"]),
)
def test_the_rows_of_a_chunk(
    place: tuple[str, str, str],
    listed: list[str],
    key: str,
    ends: tuple[Bound | None, Bound | None],
    moment: datetime,
    spelling: str,
    unit: str,
) -> None:
    table = statements.table(SourceTable(*place))
    planned = columns(listed, spelling, unit)
    condition = statements.condition(KeyRange(key, *ends))
    statement = statements.rows(
        table, statements.at(moment), planned, condition, '"f" > 1 -- a comment at its end'
    )
    tree = parsed(statement)

    assert isinstance(tree, exp.Select)
    assert len(tree.expressions) == len(listed) + len(statements.watched(planned))
    assert {*place, *listed, key, "f"} <= identifiers(tree)
    assert tree.find(exp.Where) is not None
    assert "TIMESTAMP_TZ" in statement


@given(name=names, key=names, moment=moments, filter=st.none() | st.just('"a" = 1'))
def test_counts_and_histograms(name: str, key: str, moment: datetime, filter: str | None) -> None:
    table, at = statements.relation(name), statements.at(moment)
    kinds: tuple[KeyKind, ...] = ("date", "timestamp", "instant")
    for statement in (
        statements.count(table, at, filter),
        *(statements.days(table, at, key, kind, filter) for kind in kinds),
        statements.observe(table, at, [key, "n"], [key], count=filter is None),
    ):
        tree = parsed(statement)
        assert isinstance(tree, exp.Select)
        assert name in identifiers(tree)
        assert bool(tree.find(exp.Where)) == (filter is not None and "MIN" not in statement)


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


@given(text=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30))
def test_a_literal_is_one_string_with_the_text(text: str) -> None:
    tree = parsed(f"SELECT {statements.literal(text)}")
    (only,) = tree.find_all(exp.Literal)
    assert only.is_string
    assert only.this == text


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
    helpers = {"bound_literal", "quoted", "where"}
    assert {name for name in made - helpers if f"statements.{name}" not in text} == set()


@pytest.mark.parametrize(
    ("bound", "text"),
    [
        (date(1, 1, 1), "'0001-01-01'::DATE"),
        (datetime(9999, 12, 31, 23, 59, 59, 999999), "'9999-12-31T23:59:59.999999'::TIMESTAMP_NTZ"),
        (datetime(1969, 1, 1, tzinfo=UTC), "'1969-01-01T00:00:00+00:00'::TIMESTAMP_TZ"),
    ],
)
def test_bounds_have_their_types(bound: Bound, text: str) -> None:
    assert statements.bound_literal(bound) == text


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
    assert statements.condition(WholeTable()) is None
    assert statements.condition(NullKeys("k")) == '"k" IS NULL'
    assert statements.condition(KeyRange("k")) == '"k" IS NOT NULL'
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
