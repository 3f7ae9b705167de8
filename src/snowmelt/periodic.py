"""Work that is done again and again beside a block, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def every(seconds: float, work: Callable[[], object], name: str) -> Iterator[None]:
    """Call `work` after each so many seconds until the block ends, and return once its last call has.

    What it raises ends the repeating, not the block. `name` is the thread's, for a dump of all threads.
    """
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            work()

    thread = threading.Thread(target=repeat, name=f"snowmelt-{name}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
