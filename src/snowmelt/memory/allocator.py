"""What the allocators of this process keep of memory that was freed, and how it is given back."""

from __future__ import annotations

import ctypes
import logging

import pyarrow as pa

_log = logging.getLogger(__name__)

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""glibc's names for them in malloc.h: https://man7.org/linux/man-pages/man3/mallopt.3.html"""
MAPPED_BYTES = 256 << 10
"""From here on an allocation has pages of its own, which go back when it is freed. Left alone, glibc raises the
limit to 32 MB with what it sees freed, and what is smaller then stays in the heap of the thread."""
KEPT_BYTES = 8 << 20
"""What the top of a heap may keep."""
ARENAS = 2
"""Heaps, whatever the number of threads: each keeps what its threads have freed."""


def give_back() -> None:
    """Return to the system what is free, as far as the allocators can."""
    pa.default_memory_pool().release_unused()
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def keep_little() -> bool:
    """From now on let resident memory follow what is in use, in the whole process; False where there is no glibc.

    Arrow's allocators keep freed pages for some time; the system's gives large ones back at once.
    """
    libc = _glibc()
    if libc is None:
        return False
    for name, value in (
        (_MMAP_THRESHOLD, MAPPED_BYTES),
        (_TRIM_THRESHOLD, KEPT_BYTES),
        (_ARENA_MAX, ARENAS),
    ):
        if not libc.mallopt(name, value):
            _log.debug("mallopt(%d, %d) was refused", name, value)
    pa.set_memory_pool(pa.system_memory_pool())
    return True


def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL(None)
        _ = libc.gnu_get_libc_version, libc.mallopt, libc.malloc_trim
    except (OSError, AttributeError, TypeError):
        return None
    return libc
