"""One statement as it was asked for, and its run."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from snowmelt.standin.bindings import Bindings
from snowmelt.standin.catalogue import now
from snowmelt.standin.failures import StatementError
from snowmelt.standin.results import Result
from snowmelt.standin.session import Session


@dataclass(frozen=True, slots=True)
class Request:
    """A statement as a client sent it; `parameters` are for it alone."""

    request_id: str
    text: str
    bindings: Bindings
    parameters: Mapping[str, object]
    describe_only: bool = False


@dataclass(slots=True)
class Query:
    """A statement's run. `finished` is set when `result` or `error` is there."""

    request: Request
    session: Session
    tag: str
    query_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    started: int = field(default_factory=now)
    ended: int | None = None
    result: Result | None = None
    error: StatementError | None = None
    stop: StatementError | None = None
    executing: bool = False
    finished: threading.Event = field(default_factory=threading.Event)
    stopped: threading.Event = field(default_factory=threading.Event)

    @property
    def status(self) -> str:
        if not self.finished.is_set():
            return "RUNNING"
        return "SUCCESS" if self.error is None else "FAILED_WITH_ERROR"
