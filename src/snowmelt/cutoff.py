"""What happens at a deadline while others work: a cut, and where that does not help, the end of the process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from snowmelt.deadline import Deadline
from snowmelt.errors import ConnectionLost, Interrupted, SnowmeltError

_log = logging.getLogger(__name__)


@contextmanager
def cut_off(deadline: Deadline | None, cut: Callable[[], None]) -> Iterator[None]:
    """Call `cut` when the deadline's buffer begins, unless the block has ended by then: in a thread of its own, as
    it may take long."""
    if deadline is None:
        yield
        return
    ended = threading.Event()
    begun = threading.Event()

    def watch() -> None:
        if ended.wait(max(deadline.working, 0)):
            return
        begun.set()
        try:
            cut()
        except Exception:  # noqa: BLE001
            # Then what is in flight goes on, and is overrun.
            _log.exception("what is in flight could not be cut off", extra={"action": "cut_failed"})

    watching = threading.Thread(target=watch, name="snowmelt-cut", daemon=True)
    watching.start()
    try:
        yield
        if begun.is_set():
            watching.join()  # what it ends at the sources is still ours
    finally:
        ended.set()
        if not begun.is_set():
            watching.join()


@contextmanager
def ended_in_time(deadline: Deadline | None, leave: Callable[[], None]) -> Iterator[None]:
    """Call `leave`, which ends the process, shortly before something else would, unless the block has ended by
    then."""
    if deadline is None:
        yield
        return
    ended = threading.Event()

    def watch() -> None:
        if not ended.wait(max(deadline.left - deadline.last_seconds, 0)):
            _log.error("what was cut off does not end", extra={"action": "overrun"})
            leave()

    watching = threading.Thread(target=watch, name="snowmelt-deadline", daemon=True)
    watching.start()
    try:
        yield
    finally:
        ended.set()
        watching.join()


def in_time(deadline: Deadline | None, error: SnowmeltError) -> SnowmeltError:
    """The error, or where a server is away when the time is up, that the time was up: another process goes on."""
    away = next((one for one in (error, error.__cause__) if isinstance(one, ConnectionLost)), None)
    if away is None or deadline is None or deadline.working > 0:
        return error
    return Interrupted(
        f"the time of this process was up, and what it has done could not be asked for: {away.what}",
        remedy="bring the server back, then run again: it resumes",
    )
