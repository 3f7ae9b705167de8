"""The one query that measures the values of a table or of files in DuckDB: an answer a question, in their order.

Answers are numbers throughout: Python has no date beyond the year 9999, and none before the year 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from snowmelt.model import Column
from snowmelt.preflight.fit import is_text
from snowmelt.preflight.questions import INFINITE_MICROSECOND, Measure, Question
from snowmelt.sources.duckdb_keys import quoted


def measures(relation: str, questions: Sequence[Question], filter: str | None) -> str:
    """One row: what each question asks of the rows that pass the filter.

    `relation` is what stands after FROM. Raises ValueError where nothing is asked.
    """
    if not questions:
        raise ValueError("no question, so no query")
    listed = ", ".join(map(_measured, questions))
    where = f" WHERE (\n{filter}\n)" if filter is not None else ""
    return f"SELECT {listed} FROM {relation}{where}"


def _measured(question: Question) -> str:
    columns = question.columns
    match question.measure:
        case Measure.ROWS:
            return "count(*)"
        case Measure.LEAST:
            return _bound("min", columns[0])
        case Measure.GREATEST:
            return _bound("max", columns[0])
        case Measure.ROW_BYTES:
            return f"max({_sum([f'coalesce({_size(column)}, 0)' for column in columns])})"
        case Measure.PAGE_BYTES:
            pairs = zip(columns, question.widths, strict=True)
            sizes = [f"CASE WHEN {quoted(c.name)} IS NULL THEN 0 ELSE {n} END" for c, n in pairs]
            return f"max({_sum(sizes)})"
        case Measure.REPEATED:
            whole = " AND ".join(f"{quoted(column.name)} IS NOT NULL" for column in columns)
            keys = ", ".join(_loaded(column, question.nul) for column in columns)
            return f"count(*) FILTER ({whole}) - count(DISTINCT ({keys})) FILTER ({whole})"
    return _of_value(question, columns[0])


def _of_value(question: Question, column: Column) -> str:
    text = f"CAST({quoted(column.name)} AS VARCHAR)"
    match question.measure:
        case Measure.CHARACTERS:
            counted = _without_nuls(text, question.nul)
            counted = f"rtrim({counted}, ' ')" if question.padded else counted
            return f"max(length({counted}))"
        case Measure.BYTES:
            return f"max({_size(column)})"
        case Measure.FINER:
            return f"count_if({_finer(column, question.digits)})"
        case Measure.NULS:
            return f"count_if(contains({text}, chr(0)))"
        case Measure.ESCAPED_NULS:
            # Without the pairs of backslashes, each of which is one in the text, an escape is what is left.
            return rf"count_if(contains(replace({text}, '\\', ''), '\u0000'))"
        case Measure.NO_UUIDS:
            digits = f"replace({text}, '-', '')"
            return f"count_if(NOT regexp_full_match({digits}, '[0-9a-fA-F]{{32}}'))"
        case Measure.NULLS | Measure.KEY_NULLS:
            return f"count_if({quoted(column.name)} IS NULL)"
    raise ValueError(f"no measure of one column: {question.measure}")


def _bound(function: str, column: Column) -> str:
    value = f"{function}({quoted(column.name)})"
    if pa.types.is_date(column.type):
        return f"{value} - DATE '1970-01-01'"
    if pa.types.is_timestamp(column.type):
        # The functions of epochs say NULL of infinity.
        infinite = f"CASE WHEN {value} > TIMESTAMP '1970-01-01' THEN 1 ELSE -1 END * {INFINITE_MICROSECOND}"
        return f"CASE WHEN isinf({value}) THEN {infinite} ELSE epoch_us({value}) END"
    return value


def _finer(column: Column, digits: int) -> str:
    """Whether a value has more digits; of times only those that are loaded, down to the microsecond."""
    name = quoted(column.name)
    if pa.types.is_temporal(column.type):
        return f"{_nanoseconds(column, 10 ** (9 - digits))} >= 1000"
    return f"{name} <> trunc({name}, {digits})"


def _nanoseconds(column: Column, of: int) -> str:
    """What is left of a time's nanoseconds divided by `of`, never negative."""
    name = quoted(column.name)
    whole = f"epoch_ns({name})" if column.type.unit == "ns" else f"epoch_us({name})::HUGEINT * 1000"
    return f"(({whole} % {of} + {of}) % {of})"


def _size(column: Column) -> str:
    """Bytes of a text or binary value."""
    name = quoted(column.name)
    return (
        f"octet_length({name})"
        if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)
        else f"strlen(CAST({name} AS VARCHAR))"
    )


def _without_nuls(text: str, nul: str | None) -> str:
    return text if nul is None else f"replace({text}, chr(0), '{nul}')"


def _loaded(column: Column, nul: str | None) -> str:
    """A key's value as it is loaded: two that differ below the microsecond, or in NUL characters that are taken
    out, become one."""
    name = quoted(column.name)
    type = column.type
    if (pa.types.is_timestamp(type) or pa.types.is_time(type)) and type.unit == "ns":
        return f"epoch_ns({name}) - {_nanoseconds(column, 1000)}"
    return _without_nuls(name, nul) if is_text(column) else name


def _sum(terms: Sequence[str]) -> str:
    """Of halves of halves: DuckDB takes no expression that is a thousand deep."""
    if len(terms) == 1:
        return terms[0]
    half = len(terms) // 2
    return f"({_sum(terms[:half])} + {_sum(terms[half:])})"
