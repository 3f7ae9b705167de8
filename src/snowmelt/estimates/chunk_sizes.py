"""How even a table's chunks are: the smallest, the median, the largest, and a small histogram."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

MOST_BINS = 12
_FAR_APART = 20
"""Sizes that differ by more than this factor are binned by factors: equal widths would put nearly all into one."""
_ALIKE = 20
"""A bin is at least this part of the largest chunk wide: finer, it would show noise."""
_BLOCKS = "▁▂▃▄▅▆▇█"
_NONE = "·"


@dataclass(frozen=True, slots=True)
class Bin:
    """So many chunks have from `low` to `high` rows, both included."""

    low: int
    high: int
    chunks: int


@dataclass(frozen=True, slots=True)
class ChunkSizes:
    """Rows of the chunks that are known; all None where no chunk's rows are."""

    smallest: int | None = None
    median: int | None = None
    largest: int | None = None
    bins: tuple[Bin, ...] = ()

    @property
    def bars(self) -> str:
        """The histogram in a line, a character for each bin: the block is as high as the bin has chunks.

        >>> chunk_sizes([10, 10, 10, 10, 11, 12, 12, 15]).bars
        '█▂▄··▂'
        """
        most = max((one.chunks for one in self.bins), default=0)
        return "".join(_block(one.chunks, most) for one in self.bins)


def chunk_sizes(rows: Iterable[int | None]) -> ChunkSizes:
    """Of chunks by their planned rows; those that were not counted are left out."""
    counted = sorted(count for count in rows if count is not None)
    if not counted:
        return ChunkSizes()
    return ChunkSizes(
        counted[0], statistics.median_low(counted), counted[-1], tuple(_bins(counted))
    )


def _bins(counted: Sequence[int]) -> Iterable[Bin]:
    filled = [count for count in counted if count]
    if not filled:
        return [Bin(0, 0, len(counted))]
    low, high = filled[0], filled[-1]
    edges = _factors(low, high) if high > _FAR_APART * low else _widths(counted[0], high)
    if counted[0] == 0 and edges[0] > 0:
        edges = [0, *edges]
    return [
        Bin(first, end - 1, sum(first <= count < end for count in counted))
        for first, end in pairwise(edges)
    ]


def _widths(low: int, high: int) -> list[int]:
    """Edges of equal widths, the last one above `high`."""
    width = max(-(-(high - low + 1) // MOST_BINS), high // _ALIKE)
    return [*range(low, high + 1, width), low + width * -(-(high - low + 1) // width)]


def _factors(low: int, high: int) -> list[int]:
    """Edges of equal factors; one bin fewer, which leaves one for chunks without a row."""
    bins = MOST_BINS - 1
    factor = ((high + 1) / low) ** (1 / bins)
    inner = {min(max(round(low * factor**place), low), high) for place in range(1, bins)}
    return sorted({low, *inner, high + 1})


def _block(chunks: int, most: int) -> str:
    return _BLOCKS[-(-8 * chunks // most) - 1] if chunks else _NONE
