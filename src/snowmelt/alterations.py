"""Statements that a person would have to run on a target, as text with every name quoted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from snowmelt.preflight.surroundings import TargetSurroundings
from snowmelt.types import Wire, target_type


def quote(name: str) -> str:
    """A name as SQL quotes it."""
    return '"' + name.replace('"', '""') + '"'


def table_of(around: TargetSurroundings | None, schema: str, table: str) -> str:
    """The table that is altered: of a partition the one that it is a partition of."""
    if around is None:
        return f"{quote(schema)}.{quote(table)}"
    return around.inheritance.partition_of or around.name


def add_column(table: str, column: str, type: str) -> str:
    return f"ALTER TABLE {table} ADD COLUMN {quote(column)} {type};"


def rename_column(table: str, old: str, new: str) -> str:
    return f"ALTER TABLE {table} RENAME COLUMN {quote(old)} TO {quote(new)};"


def drop_not_null(table: str, column: str) -> str:
    return f"ALTER TABLE {table} ALTER COLUMN {quote(column)} DROP NOT NULL;"


@dataclass(frozen=True, slots=True)
class Retype:
    """A change of a column's type; `loss` says what becomes of values that are there, where not all stay."""

    statement: str
    loss: str = ""

    def __str__(self) -> str:
        return f"{self.statement} ({self.loss})" if self.loss else self.statement


def retype(table: str, column: str, old: str, new: str) -> Retype:
    """The change of a column from one type to another, both as PostgreSQL spells them.

    >>> str(retype("public.t", "c", "integer", "text"))
    'ALTER TABLE public.t ALTER COLUMN "c" TYPE text;'
    >>> retype("public.t", "c", "timestamp without time zone", "date").loss
    'it cuts the time of day off'
    """
    name = quote(column)
    way = _way(old, new, name)
    if way is None:
        return Retype(
            f"ALTER TABLE {table} DROP COLUMN {name}, ADD COLUMN {name} {new};",
            "its values are lost: no conversion leads from one type to the other",
        )
    using = f" USING {way.using}" if way.using else ""
    return Retype(f"ALTER TABLE {table} ALTER COLUMN {name} TYPE {new}{using};", way.loss)


class _Way(NamedTuple):
    """How values are converted: by an expression, unless the types' own assignment does it."""

    using: str = ""
    loss: str = ""


_ROUNDS = "it rounds values, and fails on those out of range"
_FAILS = "it fails on a value that is none"
_INTEGERS = (Wire.INT2, Wire.INT4, Wire.INT8)
_FLOATS = (Wire.FLOAT4, Wire.FLOAT8)
_WIDTHS = (*_INTEGERS, Wire.NUMERIC)
_FULL = {
    "timestamp": Wire.TIMESTAMP.value,
    "timestamptz": Wire.TIMESTAMPTZ.value,
    "time": Wire.TIME.value,
}


def _way(old: str, new: str, name: str) -> _Way | None:
    """None where PostgreSQL has no conversion that means anything."""
    if new == "text":
        return _Way()
    source, wanted = target_type(old), target_type(_FULL.get(new, new))
    if source is None or wanted is None:
        return None
    if source.wire is Wire.TEXT:
        return _of_text(wanted.wire, new, name)
    numbers = _of_number(source.wire, wanted.wire, name)
    return numbers or _OTHERS.get((source.wire, wanted.wire), lambda _: None)(name)


def _of_text(wanted: Wire, new: str, name: str) -> _Way:
    match wanted:
        case Wire.BYTEA:
            return _Way(f"convert_to({name}, 'UTF8')")
        case Wire.DATE | Wire.TIME | Wire.NUMERIC | Wire.FLOAT4 | Wire.FLOAT8:
            return _Way(f"{name}::{new}", f"{_FAILS}, and cuts off what the type does not hold")
    return _Way(f"{name}::{new}", _FAILS)


def _of_number(source: Wire, wanted: Wire, name: str) -> _Way | None:
    if source in _WIDTHS and wanted in _WIDTHS:
        grows = _WIDTHS.index(source) < _WIDTHS.index(wanted)
        return _Way() if grows else _Way(loss=_ROUNDS)
    if source in _FLOATS and wanted in _FLOATS:
        return _Way() if wanted is Wire.FLOAT8 else _Way(loss=_ROUNDS)
    if source in (Wire.INT2, Wire.INT4) and wanted is Wire.FLOAT8:
        return _Way()
    numbers = (*_WIDTHS, *_FLOATS)
    if source in numbers and wanted in numbers:
        return _Way(loss=_ROUNDS)
    if source in _WIDTHS and wanted is Wire.BOOL:
        return _Way(f"{name} <> 0", "every number but 0 becomes true")
    if source is Wire.BOOL and wanted in numbers:
        return _Way(f"{name}::integer")
    return None


_CUTS = "it cuts the time of day off"
_OTHERS = {
    (Wire.DATE, Wire.TIMESTAMP): lambda _: _Way(),
    (Wire.DATE, Wire.TIMESTAMPTZ): lambda name: _Way(f"{name}::timestamp AT TIME ZONE 'UTC'"),
    (Wire.TIMESTAMP, Wire.TIMESTAMPTZ): lambda name: _Way(f"{name} AT TIME ZONE 'UTC'"),
    (Wire.TIMESTAMPTZ, Wire.TIMESTAMP): lambda name: _Way(f"{name} AT TIME ZONE 'UTC'"),
    (Wire.TIMESTAMP, Wire.DATE): lambda _: _Way(loss=_CUTS),
    (Wire.TIMESTAMPTZ, Wire.DATE): lambda name: _Way(f"({name} AT TIME ZONE 'UTC')::date", _CUTS),
    (Wire.TIMESTAMP, Wire.TIME): lambda _: _Way(loss="it cuts the date off"),
    (Wire.JSON, Wire.JSONB): lambda _: _Way(),
    (Wire.JSONB, Wire.JSON): lambda _: _Way(),
    (Wire.UUID, Wire.BYTEA): lambda name: _Way(f"uuid_send({name})"),
}
"""Wires -> the way, given the column's name."""
