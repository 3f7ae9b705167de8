"""The ends of key ranges: Python values with a type, never SQL text, that survive the ledger's JSON exactly.

date                days
Timestamp           a time to the nanosecond, naive or an instant in UTC
int, Decimal        whole and decimal numbers of any size
float               NaN and infinities included
str                 text, in the binary order of its UTF-8 bytes
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import lru_cache

_ISO = re.compile(r"([^.+Z]*)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)?")


@dataclass(frozen=True, slots=True, order=True)
class Timestamp:
    """`at` to the microsecond, naive or in UTC, and the `nanosecond` (0 to 999) after it.

    >>> str(Timestamp(datetime(2024, 1, 31, 23, 59, 59, 999999), 1))
    '2024-01-31T23:59:59.999999001'
    """

    at: datetime
    nanosecond: int = 0

    @classmethod
    def parse(cls, text: str) -> Timestamp:
        """From ISO 8601 with up to nine digits of a fraction. Raises ValueError."""
        match = _ISO.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"not a timestamp: {text!r}")
        digits = (match[2] or "").ljust(9, "0")
        at = datetime.fromisoformat(f"{match[1]}.{digits[:6]}{match[3] or ''}")
        return cls(at.astimezone(UTC) if at.tzinfo else at, int(digits[6:]))

    @classmethod
    def midnight(cls, day: date, *, utc: bool) -> Timestamp:
        """When a day begins."""
        return cls(datetime.combine(day, time(), UTC if utc else None))

    @property
    def is_instant(self) -> bool:
        return self.at.tzinfo is not None

    def __str__(self) -> str:
        """ISO 8601, with as many digits as it has; an instant ends with +00:00."""
        at = self.at.replace(tzinfo=None) if self.is_instant else self.at
        if self.nanosecond:
            text = f"{at.isoformat(timespec='microseconds')}{self.nanosecond:03}"
        else:
            text = at.isoformat()
        return f"{text}+00:00" if self.is_instant else text


Bound = date | Timestamp | int | Decimal | float | str


def day_of(bound: Bound) -> date | None:
    """The day that a bound begins; None for one within a day, or of another type."""
    match bound:
        case Timestamp(at, 0) if at.time() == time():
            return at.date()
        case date() if not isinstance(bound, datetime):
            return bound
    return None


def number(text: str) -> int | Decimal:
    """A number as a server writes it, whole or with decimal places."""
    return Decimal(text) if "." in text else int(text)


@lru_cache(maxsize=16)
def _shown(timestamp: Timestamp) -> str:
    """One chunk ends where the next begins: half of the texts of 100,000 chunks need not be made again."""
    return str(timestamp)


def bound_to_json(bound: Bound) -> list[str]:
    """A type and a text. Raises TypeError for what is no bound."""
    match bound:
        case Timestamp():
            return ["instant" if bound.is_instant else "timestamp", _shown(bound)]
        case date() if not isinstance(bound, datetime):
            return ["date", bound.isoformat()]
        case int() if not isinstance(bound, bool):
            return ["integer", str(bound)]
        case Decimal():
            return ["decimal", str(bound)]
        case float():
            return ["float", bound.hex()]
        case str():
            # JSON of PostgreSQL has no NUL character.
            return ["utf8", bound.encode().hex()] if "\0" in bound else ["text", bound]
    raise TypeError(f"not a bound: {bound!r}")


def bound_from_json(value: object) -> Bound:
    """The bound that `bound_to_json` was given. Raises ValueError for a type this release does not know."""
    match value:
        case ["date", str(text)]:
            return date.fromisoformat(text)
        case ["timestamp" | "instant", str(text)]:
            return Timestamp.parse(text)
        case ["integer", str(text)]:
            return int(text)
        case ["decimal", str(text)]:
            return Decimal(text)
        case ["float", str(text)]:
            return float.fromhex(text)
        case ["text", str(text)]:
            return text
        case ["utf8", str(text)]:
            return bytes.fromhex(text).decode()
    raise ValueError(f"not a bound: {value!r}")
