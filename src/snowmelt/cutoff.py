"""What happens at a deadline while others work: a cut, and where that does not help, the end of the process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from snowmelt.deadline import Deadline

_log = logging.getLogger(__name__)

LAST_SECONDS = 3.0
"""Before the process is ended: enough to give its claims back."""


@contextmanager
def cut_off(
    deadline: Deadline | None, cut: Callable[[], None], overrun: Callable[[], None]
) -> Iterator[None]:
    """Call `cut` when the deadline's buffer begins, unless the block has ended by then, and `overrun` when
    even so it does not end in time. Both are called in threads of their own, and `cut` may take long."""
    if deadline is None:
        yield
        return
    ended = threading.Event()

    def run_cut() -> None:
        try:
            cut()
        except Exception:  # noqa: BLE001
            # Then what is in flight goes on, and is overrun.
            _log.exception("what is in flight could not be cut off", extra={"action": "cut_failed"})

    cutting = threading.Thread(target=run_cut, name="snowmelt-cut", daemon=True)

    def watch() -> None:
        if ended.wait(max(deadline.working, 0)):
            return
        cutting.start()
        if not ended.wait(max(deadline.left - LAST_SECONDS, 0)):
            _log.error("what was cut off does not end", extra={"action": "overrun"})
            overrun()

    watching = threading.Thread(target=watch, name="snowmelt-deadline", daemon=True)
    watching.start()
    try:
        yield
        if cutting.ident is not None:
            cutting.join()  # what it ends at the sources is still ours
    finally:
        ended.set()
        watching.join()
