"""What one query per table must measure to know whether its values fit the target.

A question is asked only where the types leave it open, and an answer refuses only what could not be loaded. JSON
of a source is looked at for the character NUL alone; what is read as text, as GEOGRAPHY is, not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum

import pyarrow as pa

from snowmelt.choices import NulCharacters
from snowmelt.model import Column, Relation, TargetState
from snowmelt.preflight import fit
from snowmelt.preflight.fit import Pair
from snowmelt.preflight.surroundings import UniqueKey
from snowmelt.types import Wire

Answer = int | Decimal | None
"""None where there was no value to measure."""

FIRST_MICROSECOND, LAST_MICROSECOND = -210_866_803_200_000_000, (1 << 63) - 2
"""Timestamps that PostgreSQL has and 64 bits of microseconds since 1970 reach."""
INFINITE_MICROSECOND, INFINITE_DAY = (1 << 63) - 1, (1 << 31) - 1
"""What stands for infinity in answers, and its negative for that of the past: neither is loaded."""
FIRST_DAY, LAST_DAY = -2_440_588, 2_145_042_905
"""Dates that PostgreSQL has, in days since 1970."""
PAGE_BYTES = 8_160
"""MaxHeapTupleSize with pages of 8 kB: what a row takes once its long values are stored apart."""
HEADER_BYTES = 24
"""Of a row on a page, at least."""


class Measure(StrEnum):
    """What is measured: a bound of the values, or how many values or rows are of a kind.

    Dates are in days since 1970, timestamps in microseconds.
    """

    ROWS = "rows"
    """All of them."""
    LEAST = "least"
    GREATEST = "greatest"
    CHARACTERS = "characters"
    """The most characters in a value."""
    BYTES = "bytes"
    """The most bytes in a value."""
    ROW_BYTES = "row_bytes"
    """The most bytes in the columns of one row."""
    PAGE_BYTES = "page_bytes"
    """The most that the values of one row take at least, by `widths`."""
    FINER = "finer"
    """Values with more digits after the point, or of a second, than `digits`."""
    NULS = "nuls"
    """Values with the character NUL."""
    ESCAPED_NULS = "escaped_nuls"
    """JSON with the character NUL, which is an escape there."""
    NO_UUIDS = "no_uuids"
    """Values that are no UUID."""
    NULLS = "nulls"
    """Rows without a value."""
    KEY_NULLS = "key_nulls"
    """The same, of a column of the key that an upsert goes by."""
    REPEATED = "repeated"
    """Rows beyond the first of each key, among those that have all of it."""


@dataclass(frozen=True, slots=True)
class Question:
    """One thing to measure, of a column or of several.

    `bound` is the most that fits, for LEAST the least; `holds` says in words what holds no more. Texts are
    measured as they are loaded: with `nul` in the place of NUL characters where it is not None, and without the
    blanks at their end where the type is `padded` with such.
    """

    measure: Measure
    columns: tuple[Column, ...]
    bound: int | Decimal = 0
    holds: str = ""
    digits: int = 0
    widths: tuple[int, ...] = ()
    nul: str | None = None
    padded: bool = False

    def fits(self, answer: Answer) -> bool:
        """Whether all values fit, by the answer."""
        if answer is None:
            return True
        return answer >= self.bound if self.measure is Measure.LEAST else answer <= self.bound


_NULS = frozenset({Measure.NULS, Measure.ESCAPED_NULS})
ROWS = Question(Measure.ROWS, ())
"""How many there are: no answer refuses anything."""


def questions(
    relation: Relation,
    target: TargetState,
    key: UniqueKey | None = None,
    nul_characters: NulCharacters = NulCharacters.FAIL,
) -> tuple[Question, ...]:
    """What is to be measured; `key` is the one that an upsert goes by, and costs a count of its distinct values.
    NUL characters are asked for only where they are refused.

    A table that is created gets the columns of `created_type`. A column that can't be loaded at all is passed
    over: the plan refuses it.
    """
    found = fit.pairs(relation, target)
    asked: list[Question] = []
    for pair in found:
        asked += [*_numbers(pair), *_times(pair), *_texts(pair), *_bytes(pair)]
        if pair.source.nullable and not pair.target.nullable:
            asked.append(Question(Measure.NULLS, (pair.source,), 0, "NOT NULL"))
    nul = nul_characters.replacement
    if nul is not None:
        asked = [replace(one, nul=nul) for one in asked if one.measure not in _NULS]
    known = {one.columns[0].name for one in asked if one.measure is Measure.NULLS}
    keyed = [
        one
        for one in (key_questions(relation, key, nul=nul) if key else ())
        if one.measure is Measure.REPEATED or one.columns[0].name not in known
    ]
    return (*asked, *_rows(found), *keyed)


def _numbers(pair: Pair) -> Iterator[Question]:
    source, target = fit.source_numbers(pair.source), fit.target_numbers(pair)
    if source is None or target is None or target.low is None or target.high is None:
        return
    columns, holds = (pair.source,), pair.target.type
    if source.low is None or source.low < target.low:
        yield Question(Measure.LEAST, columns, target.low, holds)
    if source.high is None or source.high > target.high:
        yield Question(Measure.GREATEST, columns, target.high, holds)
    if source.digits > target.digits:
        yield Question(Measure.FINER, columns, 0, holds, target.digits)


def _times(pair: Pair) -> Iterator[Question]:
    type, columns, holds = pair.source.type, (pair.source,), pair.target.type
    if pa.types.is_date(type):
        yield Question(Measure.LEAST, columns, FIRST_DAY, holds)
        yield Question(Measure.GREATEST, columns, LAST_DAY, holds)
        return
    if not (pa.types.is_timestamp(type) or pa.types.is_time(type)):
        return
    # Nanoseconds are planned where all values are in their years. Those of a file may be infinite all the same.
    sure = type.unit == "ns" and pair.source.source_type.upper() != "TIMESTAMP_NS"
    if pa.types.is_timestamp(type) and not sure:
        yield Question(Measure.LEAST, columns, FIRST_MICROSECOND, holds)
        yield Question(Measure.GREATEST, columns, LAST_MICROSECOND, holds)
    given = fit.typmod(holds)
    if given and fit.second_digits(pair.source) > given[0]:
        yield Question(Measure.FINER, columns, 0, holds, given[0])


def _texts(pair: Pair) -> Iterator[Question]:
    column, wire, holds = pair.source, pair.type.wire, pair.target.type
    is_text = fit.is_text(column)
    if wire is Wire.JSONB and (is_text or fit.is_json(column)):
        yield Question(Measure.ESCAPED_NULS, (column,), 0, holds)
    most = fit.most_characters(column)
    given = fit.typmod(holds) if wire is Wire.TEXT else None
    if given and (is_text or most is not None) and (most is None or most > given[0]):
        padded = pair.type.padded
        yield Question(Measure.CHARACTERS, (column,), given[0], holds, padded=padded)
    if is_text and wire in {Wire.TEXT, Wire.JSON, Wire.JSONB}:
        yield Question(Measure.NULS, (column,), 0, holds)
    if is_text and wire is Wire.UUID:
        yield Question(Measure.NO_UUIDS, (column,), 0, holds)


def _bytes(pair: Pair) -> Iterator[Question]:
    if fit.is_long(pair) and _most_bytes(pair.source) > fit.VALUE_BYTES:
        yield Question(Measure.BYTES, (pair.source,), fit.VALUE_BYTES, pair.target.type)


def _most_bytes(column: Column) -> int:
    most = fit.most_bytes(column)
    return fit.VALUE_BYTES + 1 if most is None else most


def _rows(found: Sequence[Pair]) -> Iterator[Question]:
    """What only all columns of a row together can be too much for."""
    long = tuple(pair.source for pair in found if fit.is_long(pair))
    if len(long) > 1 and sum(map(_most_bytes, long)) > fit.VALUE_BYTES:
        yield Question(Measure.ROW_BYTES, long, fit.VALUE_BYTES, "a row")
    widths = tuple(fit.width(pair) or 1 for pair in found)
    room = PAGE_BYTES - HEADER_BYTES
    if sum(widths) > room:
        columns = tuple(pair.source for pair in found)
        yield Question(Measure.PAGE_BYTES, columns, room, "a page", widths=widths)


def key_questions(
    relation: Relation, key: UniqueKey, *, repeated: bool = True, nul: str | None = None
) -> Iterator[Question]:
    """Whether rows lack a part of the key, and unless it is all the same, whether it is repeated, which costs a
    count of its distinct values."""
    by_target = {column.into: column for column in relation.columns}
    columns = tuple(c for name in key.columns if (c := by_target.get(name)) is not None)
    if len(columns) < len(key.columns):
        return  # the source lacks one, which is for the plan to refuse
    holds = f"key {', '.join(key.columns)}"
    for column in columns:
        if column.nullable and key.nulls_distinct:
            yield Question(Measure.KEY_NULLS, (column,), 0, holds)
    if repeated:
        yield Question(Measure.REPEATED, columns, 0, holds, nul=nul)
