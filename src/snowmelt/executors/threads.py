"""Workers as threads of this process."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Threads:
    """`ports.Executor` on threads; `count`, where given, stands over the config's `parallel_threads`."""

    count: int | None = None

    def run(self, worker: Callable[[], None], workers: int) -> None:
        """Run `worker` side by side; returns when all have ended, raises what the first one raised."""
        with ThreadPoolExecutor(self.count or workers, "snowmelt-worker") as pool:
            for future in [pool.submit(worker) for _ in range(self.count or workers)]:
                future.result()
