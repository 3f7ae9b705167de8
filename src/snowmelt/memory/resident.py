"""How much memory this process has, now and at most, as the system tells it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_STATM, _STATUS = Path("/proc/self/statm"), Path("/proc/self/status")


def resident(statm: Path = _STATM) -> int | None:
    """Bytes of it that are in memory now, shared libraries included; None on a system without /proc."""
    try:
        return int(statm.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def peak_resident(status: Path = _STATUS) -> int | None:
    """The most bytes that were in memory since the process began; None on a system that does not tell.

    VmHWM is of this program alone: what `getrusage` tells begins with the process that forked for it.
    https://man7.org/linux/man-pages/man5/proc_pid_status.5.html
    """
    try:
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    except (OSError, ValueError, IndexError):
        pass
    return _of_usage()


def _of_usage() -> int | None:
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10
