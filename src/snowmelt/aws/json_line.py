"""A log record as one line of JSON."""

from __future__ import annotations

import json
import logging
import re
import traceback
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from snowmelt.aws.wording import told
from snowmelt.errors import SnowmeltError

_FIELDS = ("action", "table", "chunk_id", "rows", "seconds", "query_id")
"""Of a record's `extra`; others are left out, so that nothing is written that nobody looked at."""
_BREAKS = str.maketrans({"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"})
"""What some readers of lines take for an end of one, and JSON lets stand."""


@dataclass(slots=True)
class Facts:
    """What is known of an invocation; each line has what is known by then."""

    request_id: str | None = None
    source_name: str | None = None
    run_id: str | None = None


class JsonLine(logging.Formatter):
    """Timestamp, level, message and logger, what the record is about, and the facts of its invocation."""

    def __init__(self, facts: Facts) -> None:
        super().__init__()
        self._facts = facts

    def format(self, record: logging.LogRecord) -> str:
        about = {name: getattr(record, name, None) for name in _FIELDS}
        for error in _errors(record):
            about["table"] = about["table"] or error.table
            about["chunk_id"] = error.chunk if about["chunk_id"] is None else about["chunk_id"]
        line = {
            "timestamp": f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%S.%f}"[:23]
            + "Z",
            "level": record.levelname,
            "message": told(record.getMessage()),
            "logger": record.name,
            **about,
            **asdict(self._facts),
            "raised": _raised(record),
        }
        return to_line({name: value for name, value in line.items() if value is not None})


def to_line(document: dict[str, object]) -> str:
    """JSON without a line break in it, which any UTF-8 stream takes."""
    text = json.dumps(document, ensure_ascii=False, default=str).translate(_BREAKS)
    # Half a surrogate pair, as a name in a file may have it, is no UTF-8.
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def _errors(record: logging.LogRecord) -> list[SnowmeltError]:
    """The errors that the message is made from: they know where they happened."""
    given = record.args if isinstance(record.args, tuple) else ()
    return [argument for argument in given if isinstance(argument, SnowmeltError)]


def _raised(record: logging.LogRecord) -> str | None:
    """Where an exception comes from, without what it says: that may be a secret."""
    if not record.exc_info or record.exc_info[0] is None:
        return None
    kind, _, trace = record.exc_info
    frames = traceback.extract_tb(trace)
    return " < ".join(
        [kind.__name__, *(f"{f.filename}:{f.lineno} {f.name}" for f in reversed(frames))]
    )
