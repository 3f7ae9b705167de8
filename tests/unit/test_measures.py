"""The statements that measure values: one answer a question, whatever the names are. What they answer is tested
against servers, in `integration/test_preflight_measures.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import duckdb
import pyarrow as pa
import pytest
import sqlglot
from hypothesis import given
from hypothesis import strategies as st
from sqlglot import exp

from snowmelt.model import Column
from snowmelt.preflight.questions import ROWS, Measure, Question
from snowmelt.sources import duckdb_measures
from snowmelt.sources.snowflake import measures as snowflake_measures
from snowmelt.sources.snowflake import statements
from tests.unit.test_statements import identifiers, names, parsed

TYPES = [
    pa.int64(), pa.decimal128(38, 9), pa.date32(), pa.timestamp("us"), pa.timestamp("ns"),
    pa.timestamp("us", tz="UTC"), pa.time64("us"), pa.string(), pa.binary(),
]  # fmt: skip
SPELLINGS = ["VARCHAR(9)", "VARIANT", "MAP(VARCHAR, NUMBER)", "NUMBER(38,9)"]
TIMES = [type for type in TYPES if pa.types.is_timestamp(type) or pa.types.is_time(type)]
FINER = [pa.decimal128(38, 9), *TIMES]
SEVERAL = {Measure.ROW_BYTES, Measure.PAGE_BYTES, Measure.REPEATED}


@st.composite
def asked(draw: st.DrawFn) -> Question:
    """Any question, of columns of any names."""
    measure = draw(st.sampled_from(list(Measure)))
    if measure is Measure.ROWS:
        return ROWS
    most = 4 if measure in SEVERAL else 1
    named = draw(st.lists(names, min_size=1, max_size=most, unique_by=str.casefold))
    types = FINER if measure is Measure.FINER else TYPES
    columns = tuple(
        Column(name, draw(st.sampled_from(types)), True, draw(st.sampled_from(SPELLINGS)))
        for name in named
    )
    digits = draw(st.integers(0, 5))
    nul, padded = draw(st.sampled_from([None, "", "\ufffd"])), draw(st.booleans())
    return Question(measure, columns, 0, "", digits, tuple(range(len(columns))), nul, padded)


def names_in(questions: Sequence[Question]) -> set[str]:
    return {column.name for question in questions for column in question.columns}


@given(
    questions=st.lists(asked(), min_size=1, max_size=5),
    table=names,
    filter=st.none() | st.just('"f" = 1 -- a comment at its end'),
)
def test_one_answer_a_question_in_one_statement(
    questions: list[Question], table: str, filter: str | None
) -> None:
    name = statements.relation(table)
    tree = parsed(snowflake_measures.measures(name, "", questions, filter))
    assert isinstance(tree, exp.Select)
    assert len(tree.expressions) == len(questions)
    assert tree.args.get("group") is None
    assert bool(tree.find(exp.Where)) == (filter is not None)
    assert {table, *names_in(questions)} <= identifiers(tree)

    (local,) = sqlglot.parse(duckdb_measures.measures(name, questions, filter), dialect="duckdb")
    assert isinstance(local, exp.Select)
    assert len(local.expressions) == len(questions)
    assert {table, *names_in(questions)} <= identifiers(local)


@given(question=asked())
def test_each_question_has_one_answer_of_one_row(question: Question) -> None:
    """A column that is no aggregate would give a row each, or be no statement at all."""
    tree = parsed(snowflake_measures.measures('"t"', "", [question], None))
    assert isinstance(tree, exp.Select)
    (answer,) = tree.expressions
    for column in answer.find_all(exp.Column):
        assert column.find_ancestor(exp.AggFunc) is not None


Measures = Callable[[Sequence[Question]], str]
BOTH: list[Measures] = [
    lambda questions: snowflake_measures.measures('"t"', "", questions, None),
    lambda questions: duckdb_measures.measures('"t"', questions, None),
]


@pytest.mark.parametrize("measures", BOTH)
def test_no_question_is_no_statement(measures: Measures) -> None:
    with pytest.raises(ValueError, match="no question"):
        measures([])


def test_a_row_of_1600_columns_is_not_too_deep() -> None:
    columns = tuple(Column(f"c{n}", pa.string(), True, "VARCHAR") for n in range(1_600))
    wide = [
        Question(Measure.PAGE_BYTES, columns, widths=(8,) * 1_600),
        Question(Measure.ROW_BYTES, columns),
    ]
    assert isinstance(parsed(BOTH[0](wide)), exp.Select)
    listed = ", ".join(f"'ab' AS c{n}" for n in range(1_600))
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE t AS SELECT {listed}")
        assert connection.execute(BOTH[1](wide)).fetchall() == [(12_800, 3_200)]
