"""What DESCRIBE TABLE says of a table's columns, and what is made of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from snowmelt.model import Column
from snowmelt.types import INT64_DIGITS, snowflake_fact, snowflake_type

_INT64 = 1 << 63
_NANOSECOND_YEARS = range(1678, 2262)
"""The years that an int64 of nanoseconds since 1970 reaches from end to end."""


@dataclass(frozen=True, slots=True)
class Described:
    """A column as the server describes it."""

    name: str
    type: str
    nullable: bool
    primary_key: bool
    policy: str
    """The masking policy set on it; empty if there is none."""
    comment: str = ""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Described:
        """From a row of DESCRIBE TABLE."""
        return cls(
            name=str(row["name"]),
            type=str(row["type"]),
            nullable=row["null?"] != "N",
            primary_key=row["primary key"] == "Y",
            policy=str(row.get("policy name") or ""),
            comment=str(row.get("comment") or ""),
        )


@dataclass(frozen=True, slots=True)
class Observed:
    """The least and the greatest of a column's values, or of their years; None where it has none."""

    low: int | None
    high: int | None


def plain(described: Sequence[Described]) -> tuple[Column, ...]:
    """The columns with the Arrow types that their declared types ask for at most."""
    return tuple(
        Column(
            column.name,
            snowflake_fact(column.type).arrow(snowflake_type(column.type)),
            column.nullable,
            column.type,
            comment=column.comment,
        )
        for column in described
    )


def long_integers(columns: Sequence[Column]) -> tuple[str, ...]:
    """Columns that may have more digits than an int64, or not: only their values tell."""
    return tuple(
        column.name
        for column in columns
        if pa.types.is_decimal(column.type)
        and column.type.scale == 0
        and column.type.precision > INT64_DIGITS
    )


def nanosecond_times(columns: Sequence[Column]) -> tuple[str, ...]:
    """Timestamps with digits below the microsecond, whose values may lie beyond the years of nanoseconds."""
    return tuple(
        column.name
        for column in columns
        if pa.types.is_timestamp(column.type) and column.type.unit == "ns"
    )


def fitted(columns: Sequence[Column], observed: Mapping[str, Observed]) -> tuple[Column, ...]:
    """The columns with the types that their observed values fit: int64 for whole numbers, and microseconds for
    timestamps that nanoseconds can't reach."""
    return tuple(_fitted(column, observed.get(column.name)) for column in columns)


def _fitted(column: Column, observed: Observed | None) -> Column:
    if observed is None:
        return column
    low, high = observed.low or 0, observed.high or 0
    if pa.types.is_decimal(column.type) and low >= -_INT64 and high < _INT64:
        return replace(column, type=pa.int64())
    if pa.types.is_timestamp(column.type) and observed.low is not None:
        inside = low in _NANOSECOND_YEARS and high in _NANOSECOND_YEARS
        return column if inside else replace(column, type=pa.timestamp("us", tz=column.type.tz))
    return column


def clustering_columns(key: str, columns: Sequence[Column]) -> tuple[str, ...]:
    """The columns of a clustering key, as far as it begins with columns or with days and the like of them.

    `key` is as Snowflake writes it: `LINEAR(TO_DATE("at"), REGION)`.
    """
    inner = re.fullmatch(r"\s*(?:LINEAR)?\s*\((.*)\)\s*", key, re.DOTALL | re.IGNORECASE)
    if inner is None:
        return ()
    # Few tables have such a key, and the parser takes longer to load than the rest of this source.
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    keep = (exp.Column, exp.Cast, exp.TsOrDsToDate, exp.Date, exp.DateTrunc, exp.TimestampTrunc)
    try:
        parts = sqlglot.parse_one(f"SELECT {inner[1]}", dialect="snowflake").expressions
    except SqlglotError:
        return ()
    known = {column.name for column in columns}
    found = []
    for part in parts:
        named = list(part.find_all(exp.Column))
        if len(named) != 1 or not isinstance(part, keep):
            break
        name = named[0].this
        spelled = name.this if name.args.get("quoted") else str(name.this).upper()
        if spelled not in known:
            break
        found.append(spelled)
    return tuple(found)


def notes(columns: Sequence[Column]) -> tuple[str, ...]:
    """What a plan tells of columns that don't go over as they are."""
    found = []
    for column in columns:
        fact, type = snowflake_fact(column.source_type), snowflake_type(column.source_type)
        if fact.text:
            found.append(f'column "{column.name}": {column.source_type} is read as text')
        elif type.name == "TIMESTAMP_TZ":
            found.append(f'column "{column.name}": TIMESTAMP_TZ keeps the instant, not the zone')
    return tuple(found)
