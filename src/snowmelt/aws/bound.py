"""How many lines one invocation may log."""

from __future__ import annotations

import logging
import threading
from collections import Counter

from snowmelt.formats import counted

LINES_OF_ACTION = 5
LINES = 50
"""Of one action, and of all together. With what is not counted a slice of 900 s has fewer than 100."""
ALWAYS = ("begins", "progress", "ended", "left_out")
"""Actions that are told by the clock, or once."""


class Bound(logging.Filter):
    """Lets the first lines of each action through, and counts the others."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._told: Counter[str] = Counter()
        self._left: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        action = str(getattr(record, "action", record.name))
        if action in ALWAYS:
            return True
        with self._lock:
            if self._told[action] < LINES_OF_ACTION and self._told.total() < LINES:
                self._told[action] += 1
                return True
            self._left[action] += 1
            return False

    def left_out(self) -> str | None:
        """What was not told; None where all was."""
        if not self._left:
            return None
        of = ", ".join(f"{count:,} of {action}" for action, count in self._left.most_common(20))
        return f"{counted(self._left.total(), 'more line')} left out: {of}"
