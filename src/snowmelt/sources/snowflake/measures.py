"""The one statement that measures a table's values: an answer a question, in their order.

Answers are numbers throughout: the connector can't hand over a date beyond the year 9999.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from snowmelt.model import Column
from snowmelt.preflight.fit import is_text
from snowmelt.preflight.questions import Measure, Question
from snowmelt.sources.snowflake.keys import literal, quoted
from snowmelt.sources.snowflake.statements import where
from snowmelt.types import snowflake_fact, snowflake_type

_UUID = "^[0-9a-fA-F]{32}$"


def measures(name: str, moment: str, questions: Sequence[Question], filter: str | None) -> str:
    """One row: what each question asks of the rows that pass the filter.

    `name` and `moment` are what the table is read from, as for `statements.rows`. Raises ValueError where nothing
    is asked.
    """
    if not questions:
        raise ValueError("no question, so no query")
    listed = ", ".join(map(_measured, questions))
    return f"SELECT {listed} FROM {name}{moment}{where(filter)}"


def _measured(question: Question) -> str:
    columns = question.columns
    match question.measure:
        case Measure.ROWS:
            return "COUNT(*)"
        case Measure.LEAST:
            return _bound("MIN", columns[0])
        case Measure.GREATEST:
            return _bound("MAX", columns[0])
        case Measure.ROW_BYTES:
            sizes = [f"COALESCE(OCTET_LENGTH({quoted(c.name)}), 0)" for c in columns]
            return f"MAX({_sum(sizes)})"
        case Measure.PAGE_BYTES:
            pairs = zip(columns, question.widths, strict=True)
            return f"MAX({_sum([f'IFF({quoted(c.name)} IS NULL, 0, {n})' for c, n in pairs])})"
        case Measure.REPEATED:
            whole = " AND ".join(f"{quoted(column.name)} IS NOT NULL" for column in columns)
            keys = ", ".join(_loaded(column, question.nul) for column in columns)
            return f"COUNT_IF({whole}) - COUNT(DISTINCT {keys})"
    return _of_value(question, columns[0])


def _of_value(question: Question, column: Column) -> str:
    name = quoted(column.name)
    match question.measure:
        case Measure.CHARACTERS:
            counted = _without_nuls(name, question.nul)
            counted = f"RTRIM({counted}, ' ')" if question.padded else counted
            return f"MAX(LENGTH({counted}))"
        case Measure.BYTES:
            return f"MAX(OCTET_LENGTH({name}))"
        case Measure.FINER:
            return f"COUNT_IF({_finer(column, question.digits)})"
        case Measure.NULS:
            return f"COUNT_IF(CONTAINS({name}, CHR(0)))"
        case Measure.ESCAPED_NULS:
            # Without the pairs of backslashes, each of which is one in the text, an escape is what is left.
            text = f"REPLACE({_json(column)}, {literal(chr(92) * 2)}, '')"
            return f"COUNT_IF(CONTAINS({text}, {literal(chr(92) + 'u0000')}))"
        case Measure.NO_UUIDS:
            return f"COUNT_IF(NOT REGEXP_LIKE(REPLACE({name}, '-', ''), {literal(_UUID)}))"
        case Measure.NULLS | Measure.KEY_NULLS:
            return f"COUNT_IF({name} IS NULL)"
    raise ValueError(f"no measure of one column: {question.measure}")


def _bound(function: str, column: Column) -> str:
    value = f"{function}({quoted(column.name)})"
    if pa.types.is_date(column.type):
        return f"DATEDIFF(DAY, '1970-01-01'::DATE, {value})"
    if pa.types.is_timestamp(column.type):
        return f"DATE_PART(EPOCH_MICROSECOND, {value})"
    return value


def _finer(column: Column, digits: int) -> str:
    """Whether a value has more digits; of times only those that are loaded, down to the microsecond."""
    name = quoted(column.name)
    if pa.types.is_temporal(column.type):
        return f"MOD(FLOOR(DATE_PART(NANOSECOND, {name}) / 1000), {10 ** (6 - digits)}) <> 0"
    return f"{name} <> TRUNC({name}, {digits})"


def _json(column: Column) -> str:
    """As `statements.rows` reads it."""
    name = quoted(column.name)
    if not snowflake_fact(column.source_type).json:
        return name
    is_map = snowflake_type(column.source_type).name == "MAP"
    return f"TO_JSON({name}::VARIANT)" if is_map else f"TO_JSON({name})"


def _without_nuls(name: str, nul: str | None) -> str:
    return name if nul is None else f"REPLACE({name}, CHR(0), {literal(nul)})"


def _loaded(column: Column, nul: str | None) -> str:
    """A key's value as it is loaded: two that differ below the microsecond, or in NUL characters that are taken
    out, become one."""
    name = quoted(column.name)
    if pa.types.is_timestamp(column.type) or pa.types.is_time(column.type):
        return f"DATE_TRUNC('MICROSECOND', {name})"
    return _without_nuls(name, nul) if is_text(column) else name


def _sum(terms: Sequence[str]) -> str:
    """Of halves of halves: a chain of a thousand is deeper than parsers go."""
    if len(terms) == 1:
        return terms[0]
    half = len(terms) // 2
    return f"({_sum(terms[:half])} + {_sum(terms[half:])})"
