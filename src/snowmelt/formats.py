"""Numbers as a person reads them: bytes, seconds, ranges, counts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

_UNITS = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
_TIMES = (("days", 86_400.0), ("h", 3_600.0), ("min", 60.0))
_LEAST = 2
"""Of a unit before it is used: 95 s say more than 1.6 min."""


def size(count: float) -> str:
    """Bytes, in powers of ten.

    >>> size(1_500_000_000), size(24_300_000), size(999_960), size(512)
    ('1.5 GB', '24 MB', '1.0 MB', '512 bytes')
    """
    for unit, power in _UNITS:
        # What would be rounded up to a thousand of the smaller unit is one of this.
        if count >= power * 0.9995:
            number = count / power
            return f"{number:,.0f} {unit}" if number >= 9.95 else f"{number:.1f} {unit}"
    return f"{count:,.0f} bytes"


def duration(seconds: float) -> str:
    """Seconds, to two digits or so: nobody times a load to more.

    >>> duration(0.4), duration(95), duration(4_000), duration(200_000)
    ('1 s', '95 s', '67 min', '2.3 days')
    """
    number, unit = _time(seconds)
    return f"{number} {unit}"


def span(low: float, high: float, of: Callable[[float], str] = duration) -> str:
    """From low to high, the unit told once where it is the same; one figure where both read alike.

    >>> span(20, 60), span(30, 400), span(20, 20), span(1e6, 3e6, size)
    ('20 to 60 s', '30 s to 7 min', '20 s', '1.0 to 3.0 MB')
    """
    first, last = of(low), of(high)
    if first == last:
        return first
    number, _, unit = first.partition(" ")
    return f"{number if unit and last.endswith(f' {unit}') else first} to {last}"


def counted(count: int, one: str, many: str = "") -> str:
    """A number with its noun.

    >>> counted(1, "chunk"), counted(1200, "chunk"), counted(2, "query", "queries")
    ('1 chunk', '1,200 chunks', '2 queries')
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def utc(moment: datetime) -> str:
    """A moment to the minute.

    >>> utc(datetime(2024, 5, 1, 12, 30, tzinfo=UTC))
    '2024-05-01 12:30 UTC'
    """
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _time(seconds: float) -> tuple[str, str]:
    for unit, length in _TIMES:
        number = seconds / length
        if number >= _LEAST:
            return (f"{number:.1f}" if number < 10 and unit != "min" else f"{number:,.0f}"), unit
    return f"{max(round(seconds), 1)}", "s"
