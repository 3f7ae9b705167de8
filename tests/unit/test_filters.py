"""Filters: which are taken, what becomes of clocks in them, and why others are refused."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlglot
from hypothesis import assume, given
from hypothesis import strategies as st
from sqlglot import exp

from snowmelt.errors import TableError
from snowmelt.sources.snowflake.filters import bind
from snowmelt.sources.snowflake.pure_functions import PURE_FUNCTIONS

MOMENT = datetime(2026, 11, 24, 12, 34, 56, 123456, tzinfo=UTC)
LATER = datetime(2031, 1, 2, 3, 4, 5, tzinfo=UTC)
LTZ = "'2026-11-24 12:34:56.123456 +00:00'::TIMESTAMP_LTZ"


def bound(filter: str, moment: datetime = MOMENT) -> str:
    return bind(filter, moment, "DB.BI.FACT_VISITS")


def tree_of(condition: str) -> exp.Expr:
    """The condition as it is read in parentheses before another one."""
    statement = f"SELECT 1 FROM t WHERE ({condition}) AND (other = 1)"
    (found,) = sqlglot.parse(statement, dialect="snowflake")
    assert found is not None
    both = found.args["where"].this
    assert isinstance(both, exp.And)
    assert isinstance(both.this, exp.Paren)
    assert both.expression.sql("snowflake") == "(other = 1)"
    inside: exp.Expr = both.this.this
    return inside


# Filters without clocks


@pytest.mark.parametrize(
    "filter",
    [
        "a = 1",
        "active",
        "TRUE",
        '"Visit Date" >= \'2024-01-01\' AND "Cost" > 0',
        "a  =\t1\n  or not(b<>2)",
        "a IN (1, 2) AND b NOT IN ('x', 'y') AND (c, d) IN ((1, 2), (3, 4))",
        "a BETWEEN 1 AND 2 AND b IS NOT NULL AND c IS DISTINCT FROM (d)",
        "name LIKE 'a%' ESCAPE '^' OR name ILIKE ANY ('x', 'y') OR name RLIKE '[0-9]+'",
        "CASE WHEN a THEN b ELSE (c) END > (1 + 2) * 3 % 4 - -5",
        "a::NUMBER(10, 2) > 1 AND CAST(b AS VARCHAR(10)) = 'x' AND TRY_CAST(c AS DATE) > d",
        "payload:visit.\"Id\"::string = 'x' AND payload['a'][0]:b IS NULL",
        "payload:current_date::date > d AND payload:x.sysdate = 1",
        "DATE '2024-01-01' < d AND d > '2024-01-01'::TIMESTAMP_TZ",
        "d > DATEADD(DAY, -7, e) AND DATE_TRUNC('month', d) = DATE_FROM_PARTS(2024, 1, 1)",
        "EXTRACT(year FROM d) = 2024 AND LAST_DAY(d, month) > e AND DATE_PART(week, d) = 1",
        "TRY_TO_NUMBER(a) > 1 AND ZEROIFNULL(b) = 0 AND EQUAL_NULL(c, d) AND STARTSWITH(e, 'x')",
        "MOD(ABS(HASH(a, b)), 10) = 3 AND IFF(a > 1, TRUE, FALSE) AND LEFT(c, 2) = RIGHT(d, 2)",
        "d > e + INTERVAL '1 day'",
        "CONVERT_TIMEZONE('UTC', t)::date = '2024-01-01'",
        "a /* why */ = 1 -- because\n AND b = 2",
        "'it''s (' <> a AND b <> 'x\\')' AND c <> $$raw ' ($$ AND \"q\"\"(\" = 1",
        "'😀' = a AND \"é\" = 'CURRENT_DATE'",
        "current_balance > 0 AND sysdate = 1 AND t.a = 1",
    ],
)
def test_a_filter_without_clocks_stays_as_it_is(filter: str) -> None:
    assert bound(filter) == filter
    assert bound(f"\n  {filter} \t\n") == filter
    tree_of(filter)


@pytest.mark.parametrize(
    ("filter", "kept"),
    [
        ("a = 1 -- why", "a = 1"),
        ("a = 1 // why", "a = 1"),
        ("-- why\na = 1 /* why */", "a = 1"),
        ("a = 1 -- b\nOR c = '--' --", "a = 1 -- b\nOR c = '--'"),
    ],
)
def test_comments_around_it_go(filter: str, kept: str) -> None:
    assert bound(filter) == kept


# Clocks


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ("d = CURRENT_DATE", "d = '2026-11-24'::DATE"),
        ("d=current_date()", "d='2026-11-24'::DATE"),
        ("d > Current_Date ( ) - 7", "d > '2026-11-24'::DATE - 7"),
        ("t > CURRENT_TIMESTAMP", f"t > {LTZ}"),
        ("t > CURRENT_TIMESTAMP()", f"t > {LTZ}"),
        ("t > CURRENT_TIMESTAMP(0)", "t > '2026-11-24 12:34:56 +00:00'::TIMESTAMP_LTZ(0)"),
        ("t > current_timestamp(3)", "t > '2026-11-24 12:34:56.123 +00:00'::TIMESTAMP_LTZ(3)"),
        (
            "t > CURRENT_TIMESTAMP(9)",
            "t > '2026-11-24 12:34:56.123456000 +00:00'::TIMESTAMP_LTZ(9)",
        ),
        ("t > LOCALTIMESTAMP", f"t > {LTZ}"),
        ("t > LOCALTIMESTAMP()", f"t > {LTZ}"),
        ("t > GETDATE()", f"t > {LTZ}"),
        ("t > SYSTIMESTAMP()", f"t > {LTZ}"),
        ("t > SYSDATE()", "t > '2026-11-24 12:34:56.123456'::TIMESTAMP_NTZ"),
        ("c > CURRENT_TIME", "c > '12:34:56.123456'::TIME"),
        ("c > CURRENT_TIME(2)", "c > '12:34:56.12'::TIME(2)"),
        ("c > LOCALTIME", "c > '12:34:56.123456'::TIME"),
        ("c > LOCALTIME()", "c > '12:34:56.123456'::TIME"),
        ("d > DATEADD(DAY, -7, CURRENT_DATE)", "d > DATEADD(DAY, -7, '2026-11-24'::DATE)"),
        ("t>DATEADD(month,-1,CURRENT_TIMESTAMP())", f"t>DATEADD(month,-1,{LTZ})"),
        ("d >= DATE_TRUNC('month', CURRENT_DATE)", "d >= DATE_TRUNC('month', '2026-11-24'::DATE)"),
        ("CURRENT_TIMESTAMP::DATE > d", f"{LTZ}::DATE > d"),
        ("IFF(a, CURRENT_DATE, CURRENT_DATE) IN (CURRENT_DATE, d)", None),
        ('"CURRENT_DATE" < CURRENT_DATE', "\"CURRENT_DATE\" < '2026-11-24'::DATE"),
        ("'CURRENT_DATE' <> a AND d < CURRENT_DATE", None),
        ("a:current_date::date < CURRENT_DATE", "a:current_date::date < '2026-11-24'::DATE"),
        ("'😀' = é /* CURRENT_DATE */ OR d<CURRENT_DATE-- now", None),
    ],
)
def test_clocks_are_bound(filter: str, expected: str | None) -> None:
    found = bound(filter)
    by_hand = {
        "IFF(a, CURRENT_DATE, CURRENT_DATE) IN (CURRENT_DATE, d)": (
            "IFF(a, '2026-11-24'::DATE, '2026-11-24'::DATE) IN ('2026-11-24'::DATE, d)"
        ),
        "'CURRENT_DATE' <> a AND d < CURRENT_DATE": "'CURRENT_DATE' <> a AND d < '2026-11-24'::DATE",
        "'😀' = é /* CURRENT_DATE */ OR d<CURRENT_DATE-- now": (
            "'😀' = é /* CURRENT_DATE */ OR d<'2026-11-24'::DATE"
        ),
    }
    assert found == (expected or by_hand[filter])
    assert bound(found, LATER) == found
    tree_of(found)


def test_the_moment_is_bound_in_utc() -> None:
    tokyo = datetime(2026, 11, 25, 8, 59, 59, tzinfo=timezone(timedelta(hours=9)))
    assert bound("d = CURRENT_DATE", tokyo) == "d = '2026-11-24'::DATE"
    assert bound("t = SYSDATE()", tokyo) == "t = '2026-11-24 23:59:59.000000'::TIMESTAMP_NTZ"
    with pytest.raises(ValueError, match="time zone"):
        bound("d = CURRENT_DATE", datetime(2026, 11, 24))


# Refused


@pytest.mark.parametrize(
    ("filter", "what"),
    [
        ("", "is empty"),
        (" \n\t", "is empty"),
        ("-- a = 1", "is empty"),
        ("/* a = 1 */", "is empty"),
        ("a) OR (b", "closes a parenthesis"),
        (")", "closes a parenthesis"),
        ("(a", "opens a parenthesis"),
        ("a = 1)", "closes a parenthesis"),
        ("1=1; DROP TABLE t", "semicolon"),
        ("a = 1;", "semicolon"),
        ("i = ", "can't be read as a condition, at its end"),
        ("AND a", "can't be read"),
        ("a = = b", "can't be read"),
        ("a = 1 ORDER BY a", "can't be read as a condition, near ORDER BY"),
        ("a = 1 LIMIT 5", "can't be read"),
        ("a = 1 UNION SELECT 1", "can't be read"),
        ("DATE_TRUNC(d) = 1", "can't be read as a condition: look at its functions"),
        ("OBJECT_CONSTRUCT(a) = b", "can't be read as a condition: look at its functions"),
        ("a, b", "no single condition"),
        ("a AS b", "no single condition"),
        ("a b", "no single condition"),
        ("*", "no single condition"),
        ("t.*", "no condition on one row"),
        ("a IN ()", "an IN without a list"),
        ("a IN b", "an IN without a list"),
        ("a = b(+)", "(+)"),
        ("a -> b", "->"),
        ("a = 'x", "does not end"),
        ('"a = 1', "does not end"),
        ("a = 1 /* x", "does not end"),
        ("a /* /* x */ = 1", "a comment inside of a comment"),
        ("a = 1 -- x\r AND b", "carriage return"),
        ("(" * 3000 + "a" + ")" * 3000, "nested too deeply"),
        ("a IN (SELECT a FROM b)", "subquery"),
        ("a = (SELECT MAX(a) FROM b)", "subquery"),
        ("EXISTS (SELECT 1 FROM b)", "subquery"),
        ("COALESCE((SELECT CURRENT_DATE), a) = 1", "subquery"),
        ("a IN (WITH x AS (SELECT 1) SELECT * FROM x)", "subquery"),
        ("SUM(a) > 1", "aggregate"),
        ("COUNT(*) > 1", "aggregate"),
        ("a = MAX(b)", "aggregate"),
        ("ROW_NUMBER() OVER (ORDER BY a) = 1", "window"),
        ("SUM(a) OVER (PARTITION BY b) > 1", "window"),
        ("LAG(a) OVER (ORDER BY b) = 1", "window"),
        ("a = CURRENT_USER", "session: CURRENT_USER"),
        ("a = current_user()", "session: CURRENT_USER"),
        ("a = CURRENT_ROLE()", "session: CURRENT_ROLE"),
        ("CURRENT_WAREHOUSE() = a", "session: CURRENT_WAREHOUSE"),
        ("IS_ROLE_IN_SESSION('X')", "session: IS_ROLE_IN_SESSION"),
        ("a = LAST_QUERY_ID()", "session: LAST_QUERY_ID"),
        ("GETVARIABLE('X') = a", "session: GETVARIABLE"),
        ("SYSTEM$TYPEOF(a) = 'x'", "session: SYSTEM$TYPEOF"),
        ("RANDOM() > 0", "random function RANDOM"),
        ("RANDOM(42) > 0", "random function RANDOM"),
        ("RANDSTR(5, 1) = a", "random function RANDSTR"),
        ("UUID_STRING() = a", "random function UUID_STRING"),
        ("UNIFORM(1, 10, a) > 1", "random function UNIFORM"),
        ("NORMAL(0, 1, a) > 1", "random function NORMAL"),
        ("ZIPF(1, 10, a) > 1", "random function ZIPF"),
        *((f"seq{size}() > 1", f"random function SEQ{size}") for size in (1, 2, 4, 8)),
        ("s.NEXTVAL > 1", "sequence"),
        ("db.public.s.nextval > 1", "sequence"),
        ("a = $x", "variable or a stage"),
        ("a = $1", "variable or a stage"),
        ("a = ?", "variable or a stage"),
        ("a = ?::int", "variable or a stage"),
        ("a = :x", "variable or a stage"),
        ("a = @stage", "variable or a stage"),
        ("my_function(a) = 1", "the function my_function"),
        ("db.public.my_function(a)", "the function my_function"),
        ("public.UPPER(a) = 'X'", "the function UPPER"),
        ('"UPPER"(a) = 1', 'the function "UPPER"'),
        ("NOW() > a", "the function NOW"),
        ("UNIX_TIMESTAMP() > 1", "the function UNIX_TIMESTAMP"),
        ("IDENTIFIER('a') = 1", "the function IDENTIFIER"),
        ("a = {{ b }}", "a brace"),
        ("{fn now()} > a", "a brace"),
        ("CURRENT_DATE(3) > a", "CURRENT_DATE with something in its parentheses"),
        ("CURRENT_TIMESTAMP(a) > a", "CURRENT_TIMESTAMP with something"),
        ("CURRENT_TIMESTAMP(10) > a", "CURRENT_TIMESTAMP with something"),
        ("CURRENT_TIME('3') > a", "CURRENT_TIME with something"),
        ("SYSDATE(1) > a", "SYSDATE with something"),
    ],
)
def test_refused(filter: str, what: str) -> None:
    with pytest.raises(TableError) as caught:
        bound(filter)
    error = caught.value
    assert error.what.startswith("source_filter ")
    assert what in error.what
    assert error.remedy
    assert error.table == "DB.BI.FACT_VISITS"
    assert "sqlglot" not in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_no_function_that_changes_is_held_for_pure() -> None:
    changing = {"NOW", "RANDOM", "UUID_STRING", "CURRENT_DATE", "SYSDATE", "GETDATE", "SEQ4"}
    assert PURE_FUNCTIONS.isdisjoint(changing)
    assert all(name == name.upper() for name in PURE_FUNCTIONS)


@pytest.mark.parametrize("name", sorted(PURE_FUNCTIONS))
def test_no_pure_function_aggregates(name: str) -> None:
    """As far as the parser knows it: that would let a filter look at other rows."""
    for arguments in ("a", "a, b", "a, b, c", "'day', a, b"):
        try:
            found = sqlglot.parse_one(f"SELECT {name}({arguments})", dialect="snowflake")
        except (sqlglot.ParseError, AttributeError, LookupError):
            continue
        assert not list(
            found.find_all(exp.AggFunc, exp.Rand, exp.CurrentTimestamp, exp.CurrentDate)
        )


# Properties

NOW = {
    "CURRENT_DATE": "'2026-11-24'::DATE",
    "CURRENT_DATE()": "'2026-11-24'::DATE",
    "current_time": "'12:34:56.123456'::TIME",
    "CURRENT_TIMESTAMP": LTZ,
    "Current_Timestamp ()": LTZ,
    "CURRENT_TIMESTAMP /* now */ ( 3 )": ("'2026-11-24 12:34:56.123 +00:00'::TIMESTAMP_LTZ(3)"),
    "SYSDATE()": "'2026-11-24 12:34:56.123456'::TIMESTAMP_NTZ",
    "getdate()": LTZ,
}
"""What each clock becomes."""


def plain(tree: exp.Expr) -> str:
    """The tree as the parser writes it."""
    return tree.sql("snowflake", comments=False)


VALUES = {plain(tree_of(clock)): tree_of(value) for clock, value in NOW.items()}

blanks = st.sampled_from([" ", "\n", "  \t", " /* CURRENT_DATE */ ", " -- SYSDATE()\n"])
clocks = st.sampled_from(sorted(NOW))
values = st.one_of(
    st.sampled_from(["a", '"Visit Date"', '"CURRENT_DATE"', "t.b", "doc:current_date", "é"]),
    st.sampled_from(["1", "-2.5", "'x'", "'it''s )'", "$$;($$", "'CURRENT_DATE'", "NULL"]),
    clocks,
)
calls = [
    "DATEADD(DAY, -7,{0}{1})", "COALESCE({1}{0},{0}{2})", "({1})", "{1}::VARCHAR(30)", "UPPER({1})",
    "CASE{0}WHEN{0}{1} = {2}{0}THEN{0}{1}{0}END", "IFF({1} > 1,{2},{0}{1})", "{1}{0}||{0}{2}",
]  # fmt: skip
tests = [
    "{1}{0}={0}{2}", "{1}{0}IN{0}({2},{0}{1})", "{1} BETWEEN {2}{0}AND {2}", "{1}{0}IS NOT NULL",
    "{1}{0}LIKE {2}", "NOT{0}({1} <> {2})",
]  # fmt: skip
joins = ["{1}{0}AND{0}{2}", "({1}{0}OR{0}{2})", "NOT ({1})"]


def filled(templates: list[str], parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(str.format, st.sampled_from(templates), blanks, parts, parts)


operands = st.recursive(values, lambda inner: filled(calls, inner), max_leaves=4)
filters = st.recursive(filled(tests, operands), lambda inner: filled(joins, inner), max_leaves=4)


@given(filters)
def test_every_filter_can_be_read_again(filter: str) -> None:
    found = bound(filter)
    alone = sqlglot.parse_one(f"SELECT 1 FROM t WHERE {found}", dialect="snowflake")
    assert plain(tree_of(found)) == plain(alone.args["where"].this)


@given(filters, st.datetimes(timezones=st.just(UTC)))
def test_a_bound_filter_stays_so_at_any_moment(filter: str, moment: datetime) -> None:
    once = bound(filter, moment)
    assert bound(once, LATER) == once


@given(filters, blanks, blanks)
def test_only_clocks_are_replaced(filter: str, before: str, after: str) -> None:
    """As the parser sees it: both trees are one, once the clocks of the first are put in place."""

    def still(node: exp.Expr) -> exp.Expr:
        value = VALUES.get(plain(node)) if isinstance(node, exp.Func) else None
        return value.copy() if value else node

    found = bound(f"{before}{filter}{after}")
    assert plain(tree_of(found)) == plain(tree_of(f"{filter}\n").transform(still))
    assert found == bound(filter)


PIECES = """
a b 1 'x' ' " ( ) ( ) = <> AND OR NOT IN BETWEEN IS NULL , ; -- /* */ :: DATE . : ? $ @ * + SELECT
FROM CURRENT_DATE CURRENT_TIMESTAMP SYSDATE() UPPER( RANDOM() foo( CASE WHEN END { [ ]
"""
pieces = st.sampled_from(["\n", *PIECES.split()])


@given(st.lists(pieces, max_size=10).map(" ".join) | st.text(max_size=20))
def test_any_text_is_refused_or_stands_in_its_parentheses(text: str) -> None:
    try:
        found = bound(text)
    except TableError:
        assume(False)
        return
    tree_of(found)
    assert bound(found, LATER) == found
