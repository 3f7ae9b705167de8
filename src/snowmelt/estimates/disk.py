"""What rows take on the disk of a PostgreSQL server."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_TUPLE_HEADER, _LINE_POINTER, _ALIGNMENT = 23, 4, 8
"""Of a row on a page: https://www.postgresql.org/docs/current/storage-page-layout.html"""
_INDEX_ENTRY = 16
"""Header and line pointer of an entry, and what aligns it."""
_INDEX_FILL = 0.9
"""Of a B-tree's leaves that are filled in order."""


@dataclass(frozen=True, slots=True)
class Disk:
    """Bytes of a table's rows, of its indexes, and of the WAL written for both."""

    heap: int
    indexes: int
    wal: int

    @property
    def tables(self) -> int:
        """What stays."""
        return self.heap + self.indexes


@dataclass(frozen=True, slots=True)
class DiskNeed:
    """Bytes that stay, bytes of WAL, of which the server may recycle part meanwhile, and what is free."""

    tables: int
    wal: int
    free: int | None = None

    @property
    def bytes(self) -> int:
        return self.tables + self.wal

    @property
    def fits(self) -> bool | None:
        """Even if all WAL is kept; None where nobody knows what is free."""
        return None if self.free is None else self.bytes <= self.free

    @property
    def fits_without_wal(self) -> bool | None:
        """What stays does."""
        return None if self.free is None else self.tables <= self.free


def table_disk(
    rows: int, value_bytes: int, keys: Iterable[int], *, nulls: int = 0, logged: bool = True
) -> Disk:
    """Of `rows` rows with `value_bytes` of values each, and a unique index for each of `keys`, which are the bytes
    of an entry's values; `nulls` is how many columns may be NULL."""
    header = _aligned(_TUPLE_HEADER + -(-nulls // 8))
    heap = rows * (_LINE_POINTER + header + _aligned(value_bytes))
    indexes = sum(int(rows * (_INDEX_ENTRY + _aligned(key)) / _INDEX_FILL) for key in keys)
    return Disk(heap, indexes, heap + indexes if logged else 0)


def _aligned(bytes: int) -> int:
    return -(-bytes // _ALIGNMENT) * _ALIGNMENT
