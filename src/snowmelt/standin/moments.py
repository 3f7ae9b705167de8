"""Times as text: read in Python for literals, and in SQL for columns."""

from __future__ import annotations

import re
from dataclasses import dataclass

from snowmelt.standin.failures import StatementError
from snowmelt.standin.types import UTC_OFFSET, SfType

_DATE = r"\d{4,5}-\d{1,2}-\d{1,2}"
_CLOCK = r"\d{1,2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?"
_TIMESTAMP = re.compile(rf"\s*({_DATE})(?:[T ]\s*({_CLOCK})\s*(Z|[+-]\d{{2}}(?::?\d{{2}})?)?)?\s*")
_TIME = re.compile(rf"\s*({_CLOCK})\s*")


@dataclass(frozen=True, slots=True)
class Moment:
    """A literal: text that DuckDB reads (six digits of fraction), the nanoseconds below, the offset."""

    local: str
    nanoseconds: int
    offset: int | None  # minutes east of UTC

    def companion(self, kind: str) -> int:
        """What the companion column holds for it."""
        if kind == "TIMESTAMP_TZ":
            return (UTC_OFFSET + (self.offset or 0)) * 1000 + self.nanoseconds
        return self.nanoseconds

    def sql(self, kind: str) -> str:
        """The literal in DuckDB's SQL, as its own type."""
        if kind == "TIME":
            return f"CAST('{self.local}' AS TIME)"
        if kind == "TIMESTAMP_NTZ":
            return f"CAST('{self.local}' AS TIMESTAMP)"
        if self.offset is None:
            return f"CAST('{self.local}' AS TIMESTAMPTZ)"
        sign, minutes = "-" if self.offset < 0 else "+", abs(self.offset)
        zone = f"{sign}{minutes // 60:02d}:{minutes % 60:02d}"
        return f"CAST('{self.local}{zone}' AS TIMESTAMPTZ)"


def moment(literal: str, kind: str) -> Moment:
    """Read a literal of a TIMESTAMP or TIME type; StatementError 100035 if it is none."""
    match = (_TIME if kind == "TIME" else _TIMESTAMP).fullmatch(literal)
    if match is None:
        what = "Time" if kind == "TIME" else "Timestamp"
        raise StatementError(100035, "22007", f"{what} '{literal}' is not recognized")
    day, clock, zone = ("", match[1], None) if kind == "TIME" else match.groups()
    seconds, _, fraction = (clock or "00:00:00").partition(".")
    if seconds.count(":") == 1:
        seconds += ":00"
    fraction = fraction.ljust(9, "0")
    local = f"{day} {seconds}.{fraction[:6]}".strip()
    return Moment(local, int(fraction[6:]), _minutes(zone))


def _minutes(zone: str | None) -> int | None:
    if zone is None:
        return None
    if zone == "Z":
        return 0
    minutes = int(zone[1:3]) * 60 + int(zone[3:].lstrip(":") or 0)
    return -minutes if zone[0] == "-" else minutes


# In SQL, `x` is the text. Fractions are cut, not rounded, as Snowflake does.
_CUT = rf"regexp_extract(x, '^\s*{_DATE}([T ]\s*\d{{1,2}}:\d{{2}}(:\d{{2}}(\.\d{{1,6}})?)?)?', 0)"
_CUT_TIME = r"regexp_extract(x, '^\s*\d{1,2}:\d{2}(:\d{2}(\.\d{1,6})?)?', 0)"
_NANOSECONDS = (
    r"CAST(rpad(concat('0', regexp_extract(x, '\.\d{6}(\d{1,3})', 1)), 4, '0') AS INTEGER)"
)
_ZONE = r":\d{2}[.\d]*\s*([+-])(\d{2}):?(\d{2})?\s*$"
_OFFSET = (
    f"(CAST(concat('0', regexp_extract(x, '{_ZONE}', 2)) AS INTEGER) * 60"
    f" + CAST(concat('0', regexp_extract(x, '{_ZONE}', 3)) AS INTEGER))"
    f" * (CASE WHEN regexp_extract(x, '{_ZONE}', 1) = '-' THEN -1 ELSE 1 END)"
)


def text_value(kind: str) -> str:
    """SQL that makes the stored value of text `x`; text without an offset is at UTC."""
    if kind == "TIME":
        return f"CAST({_CUT_TIME} AS TIME)"
    local = f"CAST({_CUT} AS TIMESTAMP)"
    if kind == "TIMESTAMP_NTZ":
        return local
    return f"timezone('UTC', {local} - to_minutes({_OFFSET}))"


def text_companion(kind: str) -> str:
    """SQL that makes the companion's value of text `x`."""
    if kind == "TIMESTAMP_TZ":
        return f"(({UTC_OFFSET} + {_OFFSET}) * 1000 + {_NANOSECONDS})"
    return _NANOSECONDS


def truncated(value: str, target: SfType) -> str:
    """SQL that cuts a stored value to the type's scale; the companion is cut by `cut_companion`."""
    if target.scale >= 6:
        return value
    unit = 10 ** (6 - target.scale)
    if target.kind == "TIME":
        micros = f"date_diff('microsecond', TIME '00:00:00', {value})"
        return f"CAST(TIME '00:00:00' + to_microseconds({micros} // {unit} * {unit}) AS TIME)"
    make = "make_timestamptz" if target.storage == "TIMESTAMPTZ" else "make_timestamp"
    micros = f"epoch_us({value})"
    # Floored, so that times before 1970 are cut to the earlier moment as the later ones are.
    return f"{make}({micros} - (({micros} % {unit}) + {unit}) % {unit})"


def cut_companion(companion: str, target: SfType) -> str:
    """SQL that cuts the nanoseconds of a companion to the type's scale."""
    if target.scale >= 9:
        return companion
    unit = 10 ** min(9 - target.scale, 3)
    return f"({companion} - {companion} % {unit})"
