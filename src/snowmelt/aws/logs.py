"""Where the function's lines go: JSON in the Lambda runtime, a readable form elsewhere."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from snowmelt.aws.bound import Bound
from snowmelt.aws.json_line import Facts, JsonLine
from snowmelt.client_logs import CLIENTS, hand_over

_log = logging.getLogger(__name__)

Write = Callable[[str], None]
SIGNS = ("AWS_LAMBDA_RUNTIME_API", "AWS_EXECUTION_ENV", "AWS_LAMBDA_FUNCTION_NAME")
_READABLE = "%(asctime)s %(levelname)-7s %(message)s"


def in_lambda(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this is the Lambda runtime, or what stands in for it."""
    execution = environment.get("AWS_EXECUTION_ENV", "AWS_Lambda_")
    return any(sign in environment for sign in SIGNS) and execution.startswith("AWS_Lambda_")


class _Output(logging.Handler):
    """Whole lines to the stream of that name as it is now: the runtime puts another in its place."""

    def __init__(self, stream: str) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.write(self.format(record))
        except Exception:  # noqa: BLE001
            self.handleError(record)

    def write(self, line: str) -> None:
        """In one call, and one line at a time."""
        with self.lock:  # type: ignore[union-attr]
            stream = getattr(sys, self._stream)
            coding = getattr(stream, "encoding", None) or "utf-8"
            stream.write(line.encode(coding, "backslashreplace").decode(coding) + "\n")
            stream.flush()


@contextmanager
def logged(facts: Facts, environment: Mapping[str, str] = os.environ) -> Iterator[Write | None]:
    """Log what snowmelt does until the block ends, each line once; then all is as it was before.

    Yields what writes a line for CloudWatch to read, None outside of Lambda. The root logger and its handlers
    are left alone: they are the runtime's, and other libraries'.
    """
    runtime = in_lambda(environment)
    output, bound = _Output("stdout" if runtime else "stderr"), Bound()
    output.setFormatter(JsonLine(facts) if runtime else logging.Formatter(_READABLE))
    output.addFilter(bound)
    with _restored("snowmelt", *CLIENTS):
        logger = logging.getLogger("snowmelt")
        logger.handlers[:] = [output]
        logger.propagate = False
        logger.setLevel(_level(environment))
        hand_over(None)
        try:
            yield output.write if runtime else None
        finally:
            left = bound.left_out()
            if left:
                _log.warning(left, extra={"action": "left_out"})


def _level(environment: Mapping[str, str]) -> int:
    """INFO, unless the function is configured for another one."""
    name = environment.get("AWS_LAMBDA_LOG_LEVEL", "").upper()
    names = {**logging.getLevelNamesMapping(), "TRACE": logging.DEBUG}
    return names.get(name, logging.INFO) or logging.INFO


@contextmanager
def _restored(*names: str) -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in names]
    before = [(one, list(one.handlers), one.propagate, one.level) for one in loggers]
    try:
        yield
    finally:
        for logger, handlers, propagate, level in before:
            logger.handlers[:] = handlers
            logger.propagate = propagate
            logger.setLevel(level)
