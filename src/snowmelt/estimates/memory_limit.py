"""How much memory this process may take: the function's, the container's, or the machine's."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from snowmelt.estimates.memory import MemoryLimit

_MB = 1 << 20
"""Lambda's and the config's MB."""
_UNLIMITED = 1 << 62
"""From here on version 1 of cgroups says "no limit": it is the largest number of bytes in whole pages."""


def memory_limit(
    lambda_memory: int | None,
    environment: Mapping[str, str] = os.environ,
    *,
    cgroups: Path = Path("/sys/fs/cgroup"),
    membership: Path = Path("/proc/self/cgroup"),
) -> MemoryLimit | None:
    """The limit that a run has to keep to; None where nothing tells.

    `lambda_memory` is the config's, in MB. It stands for the function that the plan is made for, wherever it is
    made; within a function its own size counts where that is smaller.
    """
    given = environment.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
    function = int(given) if given.isdigit() else None
    if lambda_memory is not None and (function is None or lambda_memory <= function):
        return MemoryLimit(lambda_memory * _MB, f"lambda_memory, {lambda_memory:,} MB")
    if function is not None:
        return MemoryLimit(function * _MB, f"the Lambda function's memory, {function:,} MB")
    machine = machine_memory()
    container = container_limit(cgroups, membership)
    if container is not None and (machine is None or container < machine):
        return MemoryLimit(container, "the container's limit")
    return None if machine is None else MemoryLimit(machine, "the machine's memory", shared=True)


def machine_memory() -> int | None:
    """All of it, in bytes; None on a system that does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None


def container_limit(cgroups: Path, membership: Path) -> int | None:
    """The tightest limit of the process's cgroup and those around it, in bytes; None where there is none.

    `cgroups` is where they are mounted, `membership` the file that names the process's own, of version 2 or 1:
    https://docs.kernel.org/admin-guide/cgroup-v2.html#memory
    """
    limits = [limit for file in _files(cgroups, membership) if (limit := _limit(file)) is not None]
    return min(limits, default=None)


def _files(cgroups: Path, membership: Path) -> Iterator[Path]:
    for line in _text(membership).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        parts = [part for part in path.split("/") if part not in ("", "..")]
        if controllers == "":
            top, name = cgroups, "memory.max"
        elif "memory" in controllers.split(","):
            top, name = cgroups / "memory", "memory.limit_in_bytes"
        else:
            continue
        # In a container the path may be that of the host, where only the mount's own top is to be seen.
        for depth in range(len(parts) + 1):
            yield top.joinpath(*parts[:depth]) / name


def _limit(file: Path) -> int | None:
    text = _text(file).strip()
    return int(text) if text.isdigit() and int(text) < _UNLIMITED else None


def _text(file: Path) -> str:
    """Empty where there is no such file for this process."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""
