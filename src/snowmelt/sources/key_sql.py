"""The queries that count a table by ranges of its keys, and the conditions of ranges, for any SQL.

What differs between servers is a `Dialect`. Bounds are read as the least values of buckets, and compared with the
raw column, so that no rounding on this side moves a row. Arithmetic only says which bucket a value falls in, and
each step of it keeps the order of the values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from snowmelt.chunking.bounds import Bound
from snowmelt.chunking.chunks import Key, KeyKind, KeyRange, NullKeys, Range, Span, WholeTable
from snowmelt.chunking.histogram import BytePrefixes, Days, EqualWidths, Grain, Prefixes
from snowmelt.chunking.window import Window

COMMON_CHARACTERS = 32
"""How many leading characters are looked at for what all keys begin with."""
FINITE = "1e300"
"""Floats beyond it, infinities and NaN say nothing of how wide buckets should be, and fall in the outer ones."""


class Dialect(Protocol):
    """How a server spells what the queries need."""

    def key(self, key: Key) -> str:
        """The raw column as an expression with the order of the key's kind."""
        ...

    def shown(self, expression: str, kind: KeyKind) -> str:
        """A key's value in a form that `key_answers.bound_of` reads exactly; NULL for what can't be a bound.

        Times are ISO 8601 with nine digits of a fraction, in UTC for instants; numbers are text, floats floats.
        """
        ...

    def literal(self, bound: Bound) -> str:
        """The bound as a typed literal."""
        ...

    def day(self, expression: str, kind: KeyKind) -> str:
        """The day of a key of time, cut to the years 1 to 9999; NULL for NULL."""
        ...

    def double(self, expression: str) -> str:
        """A number as a float of 64 bits."""
        ...

    def hex(self, expression: str) -> str:
        """The bytes of a text in UTF-8, as text."""
        ...


def condition(dialect: Dialect, range: Range) -> str | None:
    """The rows of a range; None for all rows. Raises ValueError for one that is no part of a table."""
    match range:
        case WholeTable():
            return None
        case KeyRange(key, low, high, within):
            column = dialect.key(key)
            parts = [f"{column} >= {dialect.literal(low)}"] if low is not None else []
            parts += [f"{column} < {dialect.literal(high)}"] if high is not None else []
            parts = parts or [f"{column} IS NOT NULL"]
        case NullKeys(key, within):
            parts = [f"{dialect.key(key)} IS NULL"]
        case _:
            raise ValueError(f"no rows of a table: {range!r}")
    outer = condition(dialect, within) if within is not None else None
    return " AND ".join([outer, *parts] if outer else parts)


def narrowed(dialect: Dialect, filter: str | None, window: Window | None) -> str | None:
    """What rows of a table must pass to be read: its filter, and the window of an incremental load."""
    within = None if window is None else window_condition(dialect, window)
    given = [text for text in (filter, within) if text is not None]
    if len(given) < 2:
        return given[0] if given else None
    # A comment at a filter's end ends with its line.
    return " AND ".join(f"(\n{text}\n)" for text in given)


def window_condition(dialect: Dialect, window: Window) -> str | None:
    """The rows of a window, on the raw column; None for all rows."""
    column = dialect.key(window.key)
    parts = []
    if window.low is not None:
        parts.append(f"{column} >= {dialect.literal(window.low)}")
    if window.high is not None:
        parts.append(f"{column} {'<=' if window.closed else '<'} {dialect.literal(window.high)}")
    if not parts:
        return None if window.nulls else f"{column} IS NOT NULL"
    inside = " AND ".join(parts)
    return f"({inside}) OR {column} IS NULL" if window.nulls else inside


def newest(dialect: Dialect, relation: str, where: str, key: Key) -> str:
    """One row of (greatest value, rows, rows that have a value)."""
    shown = dialect.shown('MAX("k")', key.kind)
    keys = f'SELECT {dialect.key(key)} AS "k" FROM {relation}{where}'
    return f'SELECT {shown}, COUNT(*), COUNT("k") FROM ({keys}) AS "snowmelt keys"'


def coarse(dialect: Dialect, relation: str, where: str, key: Key, grain: Grain) -> str:
    """Rows of (low, high, rows, whether all have one value, whether they have none), ascending, NULL keys last.

    `relation` is what stands after FROM, and `where` what follows it: a condition with WHERE, or nothing.
    """
    keys = f'"snowmelt keys" AS (SELECT {dialect.key(key)} AS "k" FROM {relation}{where})'
    day = dialect.day('"k"', key.kind) if isinstance(grain, Days) else None
    if day is not None:
        tables, bucket, source = keys, day, '"snowmelt keys"'
    else:
        ends, bucket = _grained(dialect, key.kind, grain)
        tables = f'{keys}, "snowmelt ends" AS ({ends})'
        source = '"snowmelt keys" CROSS JOIN "snowmelt ends"'
    low = 'MIN("bucket")' if day is not None else dialect.shown('MIN("k")', key.kind)
    high = 'MAX("k")' if key.kind.is_text else "NULL"
    return (
        f'WITH {tables} SELECT {low}, {high}, COUNT(*), MIN("k") = MAX("k"), COUNT("k") = 0 '
        f'FROM (SELECT "k", {bucket} AS "bucket" FROM {source}) '
        'GROUP BY "bucket" ORDER BY COUNT("k") = 0, MIN("k")'
    )


def _grained(dialect: Dialect, kind: KeyKind, grain: Grain) -> tuple[str, str]:
    """A query for what the keys have in common, as one row, and the bucket of a key beside it."""
    match grain:
        case EqualWidths(count):
            return _widths(dialect, kind, count)
        case Prefixes(characters):
            return _common(), f'LEFT("k", "same" + {characters})'
        case BytePrefixes(bytes):
            some = dialect.hex(f'LEFT("k", "same" + {bytes})')
            same = dialect.hex('LEFT("low", "same")')
            return _common(), f"LEFT({some}, LENGTH({same}) + {2 * bytes})"
    raise ValueError(f"no grain of a number or a text: {grain!r}")


def _widths(dialect: Dialect, kind: KeyKind, count: int) -> tuple[str, str]:
    finite = f'"k" BETWEEN -{FINITE} AND {FINITE}'
    low, high = dialect.double('MIN("k")'), dialect.double('MAX("k")')
    ends = f'SELECT {low} AS "low", {high} AS "high" FROM "snowmelt keys"'
    outer = ""
    if kind is KeyKind.FLOAT:
        ends += f" WHERE {finite}"
        outer = f'WHEN "k" > {FINITE} THEN {count + 1} WHEN "k" < -{FINITE} THEN -1 '
    share = f'({dialect.double(chr(34) + "k" + chr(34))} - "low") / ("high" - "low")'
    bucket = (
        f'CASE WHEN "k" IS NULL THEN NULL {outer}'
        f'WHEN "high" > "low" THEN FLOOR({share} * {count}) ELSE 0 END'
    )
    return ends, bucket


def _common() -> str:
    """The least key, and how many characters all keys begin with: the least and the greatest tell."""
    same = " + ".join(
        f'CASE WHEN LEFT("low", {n}) = LEFT("high", {n}) THEN 1 ELSE 0 END'
        for n in range(1, COMMON_CHARACTERS + 1)
    )
    ends = 'SELECT MIN("k") AS "low", MAX("k") AS "high" FROM "snowmelt keys"'
    return f'SELECT "low", {same} AS "same" FROM ({ends})'


def fine(
    dialect: Dialect,
    relation: str,
    conditions: Sequence[str],
    keys: Sequence[Key],
    spans: Sequence[Span],
    rows: int,
) -> str:
    """Rows of (span, rows, and for each key: piece, whether heavy, whether NULL, low, high, whether one value).

    Within a span, the values of the first key are taken in order until `rows` rows are reached; one of more than
    `rows` rows is a piece of its own, in which the same is done with the next key. `conditions` are those of the
    table's filter; each stands in parentheses.
    """
    names = [f'"k{place}"' for place in range(len(keys))]
    columns = ", ".join(
        f"{dialect.key(key)} AS {name}" for key, name in zip(keys, names, strict=True)
    )
    where = " AND ".join(f"(\n{text}\n)" for text in (*conditions, _any_of(dialect, spans)))
    listed = ", ".join(names)
    groups = ", ".join(
        ['"span"', *(f'"{label}{n}"' for n in range(len(keys)) for label in _LABELS)]
    )
    return (
        f'WITH "snowmelt keys" AS (SELECT {columns} FROM {relation} WHERE {where}), '
        f'"snowmelt counts" AS (SELECT {listed}, {_span_of(dialect, spans)} AS "span", '
        f'COUNT(*) AS "n" FROM "snowmelt keys" GROUP BY {listed}, "span"), '
        f'"snowmelt sums" AS (SELECT "span", {listed}, "n", {", ".join(_sums(names))} '
        'FROM "snowmelt counts"), '
        f'"snowmelt pieces" AS (SELECT "span", {listed}, "n", {", ".join(_pieces(names, rows))} '
        'FROM "snowmelt sums") '
        f'SELECT "span", SUM("n"), {", ".join(_shown(dialect, keys, names))} FROM "snowmelt pieces" '
        f"GROUP BY {groups} ORDER BY {groups}"
    )


_LABELS = ("piece", "null", "heavy")


def _sums(names: Sequence[str]) -> Iterator[str]:
    """For each key: the rows of its value, and those up to it, within one value of each key before."""
    for place, name in enumerate(names):
        outer = ", ".join(['"span"', *names[:place]])
        yield f'SUM("n") OVER (PARTITION BY {outer}, {name}) AS "n{place}"'
        yield (
            f'SUM("n") OVER (PARTITION BY {outer} ORDER BY {name} NULLS LAST '
            f'RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS "upto{place}"'
        )


def _pieces(names: Sequence[str], rows: int) -> Iterator[str]:
    """For each key: which piece its value is in, whether it is NULL, whether it is heavy. A further key counts
    only within heavy values of those before."""
    heavy_so_far = ""
    for place, name in enumerate(names):
        before, heavy = f'"upto{place}" - "n{place}"', f'"n{place}" > {rows}'
        # MOD is exact, where a quotient would be rounded to some digits.
        facts = (f"{before} - MOD({before}, {rows})", f"{name} IS NULL", heavy)
        for label, fact in zip(_LABELS, facts, strict=True):
            guarded = f"CASE WHEN {heavy_so_far} THEN {fact} END" if heavy_so_far else fact
            yield f'{guarded} AS "{label}{place}"'
        heavy_so_far = f"{heavy_so_far} AND {heavy}" if heavy_so_far else heavy


def _shown(dialect: Dialect, keys: Sequence[Key], names: Sequence[str]) -> Iterator[str]:
    """For each key what `key_answers` reads of a piece."""
    for place, (key, name) in enumerate(zip(keys, names, strict=True)):
        yield from (f'"piece{place}"', f'"heavy{place}"', f'"null{place}"')
        yield dialect.shown(f"MIN({name})", key.kind)
        yield f"MAX({name})" if key.kind.is_text else "NULL"
        yield f"MIN({name}) = MAX({name})"


def _any_of(dialect: Dialect, spans: Sequence[Span]) -> str:
    """The condition of all spans; neighbours are one range."""
    joined: list[Span] = []
    for span in spans:
        last = joined[-1] if joined else None
        if (
            isinstance(span, KeyRange)
            and isinstance(last, KeyRange)
            and last.high is not None
            and last.high == span.low
        ):
            joined[-1] = KeyRange(span.key, last.low, span.high, span.within)
        else:
            joined.append(span)
    return " OR ".join(f"({condition(dialect, span)})" for span in joined)


def _span_of(dialect: Dialect, spans: Sequence[Span]) -> str:
    """Which span a row belongs to; that it belongs to one is known."""
    branches = [
        f'WHEN "k0" IS NULL THEN {place}'
        for place, span in enumerate(spans)
        if isinstance(span, NullKeys)
    ]
    ranges = [(place, span) for place, span in enumerate(spans) if isinstance(span, KeyRange)]
    for place, span in ranges[:-1]:
        if span.high is not None:
            branches.append(f'WHEN "k0" < {dialect.literal(span.high)} THEN {place}')
    last = ranges[-1][0] if ranges else 0
    return f"CASE {' '.join(branches)} ELSE {last} END" if branches else str(last)
