"""Work ahead of a consumer, in a thread, by a bounded number of items."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Queue
from typing import TypeVar

T = TypeVar("T")


class _End:
    """What the thread leaves behind: nothing more comes, or this error does."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


@contextmanager
def read_ahead(items: Iterator[T], ahead: int) -> Iterator[Iterator[T]]:
    """Iterate over `items` in a thread, at most `ahead` of them waiting to be taken.

    What iterating raises is raised where the item would have been taken. Leaving the block ends the thread
    after the item that it is making; then `items` is nobody's and may be closed.
    """
    queue: Queue[T | _End] = Queue(ahead)
    left = threading.Event()

    def make() -> None:
        end = _End()
        try:
            for item in items:
                queue.put(item)
                del item  # it is the consumer's alone, however long the next one takes
                if left.is_set():
                    break
        except BaseException as error:  # noqa: BLE001 - raised again in the consumer's thread
            end = _End(error)
        queue.put(end)

    def take() -> Iterator[T]:
        while not isinstance(item := queue.get(), _End):
            yield item
            del item
        if item.error is not None:
            raise item.error

    thread = threading.Thread(target=make, name="snowmelt-reader", daemon=True)
    thread.start()
    try:
        yield take()
    finally:
        left.set()
        while thread.is_alive():
            # Make room, so that a thread that waits to hand over an item can end.
            while not queue.empty():
                queue.get_nowait()
            thread.join(timeout=0.05)
