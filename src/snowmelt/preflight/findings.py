"""What measured values mean: which of them the target can't take, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal

import pyarrow as pa

from snowmelt.model import Column
from snowmelt.preflight.questions import (
    HEADER_BYTES,
    INFINITE_DAY,
    INFINITE_MICROSECOND,
    PAGE_BYTES,
    Answer,
    Measure,
    Question,
)
from snowmelt.refusal import Refusal
from snowmelt.types import created_type

_FILTER = "filter the rows out with source_filter"
_NULS = "set nul_characters to strip or replace"


def findings(questions: Sequence[Question], answers: Sequence[Answer]) -> tuple[Refusal, ...]:
    """What does not fit, by the answers in the order of the questions.

    Raises ValueError if there are not as many of them.
    """
    return tuple(
        _finding(question, answer)
        for question, answer in zip(questions, answers, strict=True)
        if answer is not None and not question.fits(answer)
    )


def _finding(question: Question, answer: int | Decimal) -> Refusal:
    names = ", ".join(f'"{column.name}"' for column in question.columns)
    match question.measure:
        case Measure.ROW_BYTES | Measure.PAGE_BYTES:
            return _of_rows(question, int(answer))
        case Measure.KEY_NULLS | Measure.REPEATED:
            return _of_key(question, int(answer), names)
        case Measure.LEAST | Measure.GREATEST | Measure.CHARACTERS | Measure.BYTES:
            what, remedy = _beyond(question, answer)
        case _:
            what, remedy = _counted(question, int(answer))
    return Refusal(f"column {names}: {what}", remedy)


def _beyond(question: Question, answer: int | Decimal) -> tuple[str, str]:
    """A value past what the target holds, and the remedy."""
    (column,) = question.columns
    found, bound = shown(column, answer), shown(column, question.bound)
    match question.measure:
        case Measure.CHARACTERS:
            what = f"the longest value has {answer:,} characters, and {question.holds} holds {question.bound:,}"
            return what, f"{_FILTER}, or make the target column text"
        case Measure.BYTES:
            what = f"the longest value has {answer:,} bytes, and PostgreSQL holds {question.bound:,} in one"
            return what, _FILTER
        case Measure.LEAST:
            what = f"the least value is {found}, and {question.holds} begins at {bound}"
        case _:
            what = f"the greatest value is {found}, and {question.holds} ends at {bound}"
    if pa.types.is_temporal(column.type):
        return what, f"{_FILTER}, or correct them in a view"
    return what, f"{_FILTER}, or make the target column {_own_type(column)}"


def _own_type(column: Column) -> str:
    """The type that would be created for it, which holds all its values."""
    return created_type(column.type, column.source_type) or "text"


def _counted(question: Question, count: int) -> tuple[str, str]:
    """Values of a kind that the target does not take, and the remedy."""
    (column,) = question.columns
    values = "1 value has" if count == 1 else f"{count:,} values have"
    match question.measure:
        case Measure.FINER:
            return (
                f"{values} digits that {question.holds} would round away",
                f"{_FILTER}, or make the target column {_own_type(column)}",
            )
        case Measure.NULS:
            return (
                f"{values} the character NUL, which {question.holds} does not take",
                f"{_NULS}, or {_FILTER}",
            )
        case Measure.ESCAPED_NULS:
            return (
                f"{values} the character NUL as \\u0000, which jsonb does not take",
                f"{_NULS}, or {_FILTER}, or make the target column json",
            )
        case Measure.NO_UUIDS:
            values = "1 value is" if count == 1 else f"{count:,} values are"
            return f"{values} no UUID", f"{_FILTER}, or make the target column text"
        case _:
            rows = "1 row has" if count == 1 else f"{count:,} rows have"
            return (
                f"{rows} no value, and the target column is NOT NULL",
                f"{_FILTER}, or drop NOT NULL in the target",
            )


def _of_rows(question: Question, answer: int) -> Refusal:
    views = "migrate views with some of the columns and the key each"
    if question.measure is Measure.ROW_BYTES:
        return Refusal(
            f"the longest row has {answer:,} bytes in its {len(question.columns):,} columns of text and "
            f"binary, and PostgreSQL takes {question.bound:,} at once",
            f"{_FILTER}, or {views}",
        )
    return Refusal(
        f"the widest row takes at least {answer + HEADER_BYTES:,} bytes on a page, and PostgreSQL "
        f"holds {PAGE_BYTES:,} there",
        f"{_FILTER}, or {views}",
    )


def _of_key(question: Question, count: int, names: str) -> Refusal:
    rows = "1 row" if count == 1 else f"{count:,} rows"
    if question.measure is Measure.KEY_NULLS:
        has = "has" if count == 1 else "have"
        return Refusal(
            f"column {names}: {rows} {has} no value, and an upsert would add them again each time",
            f"{_FILTER}, or make the unique index NULLS NOT DISTINCT, or correct uniqueness_columns",
        )
    repeat = "repeats" if count == 1 else "repeat"
    return Refusal(
        f"{rows} {repeat} the key {names} of another row, and nothing tells which of them an upsert is to keep",
        "name the source_watermark that tells the newest, or columns in uniqueness_columns that tell rows apart",
    )


def shown(column: Column, value: int | Decimal) -> str:
    """A measured value as a person reads it: days and microseconds since 1970 as dates and times."""
    type = column.type
    if pa.types.is_date(type):
        return _infinite(value, INFINITE_DAY) or _moment(int(value), "")
    if pa.types.is_timestamp(type):
        days, rest = divmod(int(value), 86_400_000_000)
        seconds, fraction = divmod(rest, 1_000_000)
        time = f" {timedelta(seconds=seconds)!s:0>8}" + (f".{fraction:06}" if fraction else "")
        return _infinite(value, INFINITE_MICROSECOND) or _moment(days, time)
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def _infinite(value: int | Decimal, infinity: int) -> str | None:
    if -infinity < value < infinity:
        return None
    return "infinity" if value > 0 else "-infinity"


_CYCLE_DAYS, _CYCLE_YEARS = 146_097, 400
"""After which the calendar repeats: Python's ends at the years 1 and 9999."""


def _moment(days: int, time: str) -> str:
    cycles, rest = divmod(days, _CYCLE_DAYS)
    day = date(1970, 1, 1) + timedelta(rest)
    year = day.year + cycles * _CYCLE_YEARS
    if year > 0:
        return f"{year:04}-{day:%m-%d}{time}"
    return f"{1 - year:04}-{day:%m-%d}{time} BC"
