"""What the time of a Snowflake warehouse costs.

Source: https://docs.snowflake.com/en/user-guide/warehouses-overview, standard warehouses of the first generation.
"""

from __future__ import annotations

from dataclasses import dataclass

from snowmelt.estimates.ranges import Range

CREDITS_PER_HOUR = {
    "X-Small": 1,
    "Small": 2,
    "Medium": 4,
    "Large": 8,
    "X-Large": 16,
    "2X-Large": 32,
    "3X-Large": 64,
    "4X-Large": 128,
    "5X-Large": 256,
    "6X-Large": 512,
}
LEAST_SECONDS = 60.0
"""Billed each time a warehouse is resumed; after that, by the second."""
_SHOWN = ("X-Small", "Small", "Medium", "Large")
"""Where the size is not known."""


@dataclass(frozen=True, slots=True)
class Credits:
    """What a warehouse of one size would cost."""

    size: str
    credits: Range


@dataclass(frozen=True, slots=True)
class WarehouseTime:
    """How long a warehouse works. `name` is None for the user's default, `size` where it is not known."""

    name: str | None
    seconds: Range
    size: str | None = None

    @property
    def credits(self) -> tuple[Credits, ...]:
        """For its size, or for the usual ones. The time after the last query, until it suspends itself, is billed
        as well and not in here."""
        known = self.size if self.size in CREDITS_PER_HOUR else None
        billed = self.seconds.at_least(Range(LEAST_SECONDS, LEAST_SECONDS))
        return tuple(
            Credits(size, billed * (CREDITS_PER_HOUR[size] / 3600))
            for size in ([known] if known else _SHOWN)
        )
