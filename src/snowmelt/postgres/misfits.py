"""What is said of a value that its target does not take: which, why, and what to do."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
from psycopg import sql

from snowmelt.model import TargetTable
from snowmelt.postgres.json_rules import NotJson, require_json
from snowmelt.postgres.values import LONGEST_FIELD, Fault
from snowmelt.types import TargetType, Wire, created_type

_SHOWN = 60
"""Characters of a value in a message."""
_FILTER = "leave the row out with source_filter"
_CORRECT = "correct the value in the source"
_NULS = "set nul_characters to strip or replace"
_INTEGERS = frozenset({Wire.INT2, Wire.INT4, Wire.INT8})


@dataclass(frozen=True, slots=True)
class Misfit:
    """A value, as text unless it is binary, with the column it can't go into; `table` is None if nobody says."""

    column: str
    type: pa.DataType
    target: TargetType
    value: str | bytes | None
    table: TargetTable | None

    def what(self, fault: Fault) -> str:
        """The value and what is wrong with it."""
        return f"{self._value(fault)} {self._wrong(fault)}"

    def _wrong(self, fault: Fault) -> str:
        holds = spelled(self.target)
        match fault:
            case Fault.NUL:
                return f"has the character NUL, which {holds} does not hold"
            case Fault.ESCAPED_NUL:
                return "has the character NUL as \\u0000, which jsonb does not hold"
            case Fault.TOO_MANY_CHARACTERS:
                return f"has {len(self.value or ''):,} characters, and {holds} holds {self.target.length:,}"
            case Fault.TOO_MANY_BYTES:
                raw = self.value.encode() if isinstance(self.value, str) else self.value or b""
                return (
                    f"has {len(raw):,} bytes, and PostgreSQL holds {LONGEST_FIELD:,} in one value"
                )
            case Fault.NO_JSON:
                return f"is no JSON: wrong at character {self._place() + 1:,}"
            case Fault.LONE_SURROGATE:
                return (
                    "has one half of a surrogate pair without the other, which jsonb does not hold"
                )
            case Fault.JSON_NUMBER:
                return "has a number with more digits than numeric holds, as which jsonb keeps it"
            case Fault.FINER:
                return f"has digits that {holds} would round away"
            case Fault.NULL:
                return "is no value of a column that is NOT NULL"
        return f"does not fit {holds}"

    def remedy(self, fault: Fault) -> str:
        """What to do."""
        match fault:
            case Fault.NUL:
                return f"{_NULS}, or {_FILTER}"
            case Fault.ESCAPED_NUL:
                return f"{_NULS}, or {_FILTER}, or {self._alter('TYPE json')}"
            case Fault.TOO_MANY_CHARACTERS:
                return f"{self._alter('TYPE text')}, or {_FILTER}"
            case Fault.TOO_MANY_BYTES:
                return _FILTER
            case Fault.NO_JSON:
                return f"{_CORRECT}, or {_FILTER}, or {self._alter('TYPE text')}"
            case Fault.LONE_SURROGATE | Fault.JSON_NUMBER:
                return f"{_CORRECT}, or {_FILTER}, or {self._alter('TYPE json')}"
            case Fault.NULL:
                return f"{self._alter('DROP NOT NULL')}, or {_FILTER}"
        wider = self._wider()
        if wider is None:
            return f"{_CORRECT}, or {_FILTER}"
        return f"{self._alter(f'TYPE {wider}')}, or {_FILTER}"

    def _wider(self) -> str | None:
        """A type that holds every value of the source's column, where there is one."""
        wire = self.target.wire
        if wire is Wire.UUID:
            return "text"
        if wire is Wire.NUMERIC:
            return "numeric"
        if wire in _INTEGERS:
            return created_type(self.type)
        # Without a precision there are microseconds; what is out of the range of a time is so in every type.
        return None if self.target.precision is None else wire.value

    def _alter(self, change: str) -> str:
        table = sql.Identifier(self.table.schema, self.table.name) if self.table else sql.SQL("...")
        column = sql.Identifier(self.column)
        return f"ALTER TABLE {table.as_string()} ALTER COLUMN {column.as_string()} {change}"

    def _place(self) -> int:
        """Where a text stops to be JSON, from 0."""
        try:
            require_json(str(self.value), binary=self.target.wire is Wire.JSONB)
        except NotJson as error:
            return error.place
        return 0

    def _value(self, fault: Fault) -> str:
        if self.value is None:
            return "NULL"
        around = self._place() if fault is Fault.NO_JSON else 0
        return shortened(self.value, around)


def shortened(value: str | bytes, around: int = 0) -> str:
    """A value as a person reads it, quoted; of a long one what stands around a place.

    >>> shortened("a" * 100)[-3:], shortened("ab\\0")
    ("a'…", "'ab\\\\x00'")
    """
    start = max(0, around - _SHOWN // 2) if len(value) > _SHOWN else 0
    cut = value[start : start + _SHOWN]
    before, after = "…" if start else "", "…" if len(value) > start + len(cut) else ""
    return f"{before}{cut!r}{after}"


def spelled(target: TargetType) -> str:
    """The type by its short name.

    >>> spelled(TargetType(Wire.TEXT, length=5, padded=True)), spelled(TargetType(Wire.NUMERIC, 2, 7))
    ('char(5)', 'numeric(7,2)')
    """
    wire = target.wire.value
    if target.length is not None:
        return f"{'char' if target.padded else 'varchar'}({target.length})"
    if target.wire is Wire.NUMERIC and target.precision is not None:
        return f"numeric({target.precision},{target.scale})"
    name, *zone = wire.split(" ", 1)
    return wire if target.precision is None else " ".join([f"{name}({target.precision})", *zone])


def shown_key(array: pa.Array, row: int) -> str:
    """A key's value as text: of a long one its beginning, and no NUL characters, which the ledger can't take."""
    value = array.slice(row, 1)
    try:
        text = str(value.cast(pa.string())[0].as_py())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        text = repr(value[0])
    text = text.replace("\0", "\\0")
    return text if len(text) <= 4 * _SHOWN else f"{text[: 4 * _SHOWN]}…"
