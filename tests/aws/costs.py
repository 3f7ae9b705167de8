"""What a migration costs on AWS, by list prices and a pace: the arithmetic of docs/how-to/deploy-on-aws.md."""

from __future__ import annotations

import math
from dataclasses import dataclass

# us-east-1, list prices of November 2026, without free tiers, in dollars.
GB_SECOND = {"x86_64": 0.0000166667, "arm64": 0.0000133334}
REQUEST = 0.20 / 1_000_000
TRANSITION = 0.025 / 1_000
LOG_GB = 0.50
NAT_GB = 0.045
CREDIT = 3.00
CREDITS_PER_HOUR = 1.0  # of an X-Small warehouse
LEAST_BILLED_SECONDS = 60  # of a warehouse that is resumed

MEMORY_GB = 2.0
SLICE_SECONDS = 900 - 60  # less lambda_timeout_buffer_seconds
BEGIN_SECONDS = 10  # cold start, config, connections and plan
SLICE_BEGIN_SECONDS = 3
LOG_BYTES = 100 * 500  # of a slice, at most: 100 lines
FIRST_TRANSITIONS, SLICE_TRANSITIONS = 5, 3


@dataclass(frozen=True, slots=True)
class Cost:
    """What it comes to; money in dollars."""

    seconds: float
    slices: int
    gb_seconds: float
    function: float
    transitions: int
    machine: float
    logs: float
    nat: float
    warehouse: float


def cost(rows: int, rows_per_second: float, row_bytes: int, architecture: str = "x86_64") -> Cost:
    """The cost of moving so many rows at a pace; `row_bytes` are those of a row as it is downloaded."""
    moving = rows / rows_per_second
    slices = math.ceil((moving + BEGIN_SECONDS) / SLICE_SECONDS)
    seconds = moving + BEGIN_SECONDS + (slices - 1) * SLICE_BEGIN_SECONDS
    gb_seconds = seconds * MEMORY_GB
    transitions = FIRST_TRANSITIONS + slices * SLICE_TRANSITIONS
    billed = max(seconds, LEAST_BILLED_SECONDS)
    return Cost(
        seconds=seconds,
        slices=slices,
        gb_seconds=gb_seconds,
        function=gb_seconds * GB_SECOND[architecture] + (slices + 2) * REQUEST,
        transitions=transitions,
        machine=transitions * TRANSITION,
        logs=(slices + 2) * LOG_BYTES / 1e9 * LOG_GB,
        nat=rows * row_bytes / 1e9 * NAT_GB,
        warehouse=billed / 3_600 * CREDITS_PER_HOUR * CREDIT,
    )


def told_seconds(seconds: float) -> str:
    """Seconds as a person reads them: `12 s`, `3 min`, `4.6 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h"


def told_dollars(dollars: float) -> str:
    """Dollars to two digits that count."""
    if dollars < 0.001:
        return "< $0.001"
    digits = max(2, 1 - math.floor(math.log10(dollars)))
    return f"${dollars:.{min(digits, 4)}f}"


def row(what: str, rows: int, rows_per_second: float, row_bytes: int) -> str:
    """A line of the table in the how-to."""
    x86, arm = (cost(rows, rows_per_second, row_bytes, name) for name in ("x86_64", "arm64"))
    cells = [
        what,
        told_seconds(x86.seconds),
        f"{x86.slices}",
        f"{x86.gb_seconds:,.0f}",
        f"{told_dollars(x86.function)} / {told_dollars(arm.function)}",
        f"{x86.transitions}: {told_dollars(x86.machine)}",
        told_dollars(x86.logs),
        f"{max(x86.seconds, LEAST_BILLED_SECONDS):,.0f} s: {told_dollars(x86.warehouse)}",
        told_dollars(x86.nat),
    ]
    return "| " + " | ".join(cells) + " |"


CASES = [
    ("1M rows", 1_000_000, 600_000, 135),
    ("100M rows", 100_000_000, 600_000, 135),
    ("1B rows", 1_000_000_000, 600_000, 135),
    ("1M rows of 250 columns", 1_000_000, 60_000, 2_700),
    ("100M rows of 250 columns", 100_000_000, 60_000, 2_700),
    ("1B rows of 250 columns", 1_000_000_000, 60_000, 2_700),
]
