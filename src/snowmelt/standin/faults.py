"""What the server is told to do wrong."""

from __future__ import annotations

import dataclasses
import re
import threading
from dataclasses import dataclass
from typing import Literal

Gzip = Literal["none", "header", "raw"]


@dataclass(frozen=True, slots=True)
class Faults:
    """Faults from the next request on; counts are of requests still to be hit."""

    chunk_latency_seconds: float = 0.0
    query_latency_seconds: float = 0.0  # of statements that match `slow_match`, RUNNING meanwhile
    slow_match: str = ""
    unavailable_every: int = 0  # each n-th GET of a chunk answers 503
    unavailable_queries: int = 0
    drop_chunks: int = 0  # the connection ends in the middle of the body
    drop_queries: int = 0  # the connection ends without an answer, after the statement ran
    forbid_chunks: int = 0
    short_chunks: int = 0  # bodies that hold fewer rows than declared
    wrong_width: int = 0  # chunks whose numbers come as text
    short_inline: int = 0  # results whose inline part holds fewer rows than it should
    empty_inline: int = 0  # results without an inline part
    gzip: Gzip = "none"
    refuse_logins: int = 0
    deny: str = ""  # statements that match are refused with 003001
    fail_chunk_numbers: tuple[int, ...] = ()  # these indexes of every result answer 500

    def slow(self, statement: str) -> float:
        """Seconds that the statement has to take."""
        if not self.query_latency_seconds or not re.search(self.slow_match, statement, re.I):
            return 0.0
        return self.query_latency_seconds

    def denies(self, statement: str) -> bool:
        return bool(self.deny) and re.search(self.deny, statement, re.I) is not None


class FaultBox:
    """The faults in force; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults = Faults()
        self._gets = 0

    @property
    def now(self) -> Faults:
        return self._faults

    def set(self, faults: Faults) -> None:
        with self._lock:
            self._faults = faults
            self._gets = 0

    def take(self, name: str) -> bool:
        """Whether this request is hit by the counted fault; counts it."""
        with self._lock:
            left: int = getattr(self._faults, name)
            if left <= 0:
                return False
            # Through a dict: mypy can't know that the field is an int.
            counted: dict[str, int] = {name: left - 1}
            self._faults = dataclasses.replace(self._faults, **counted)  # type: ignore[arg-type]
            return True

    def unavailable(self) -> bool:
        """Whether this GET of a chunk is an n-th one."""
        with self._lock:
            self._gets += 1
            every = self._faults.unavailable_every
            return every > 0 and self._gets % every == 0
