"""Metrics in the embedded metric format: lines of JSON that CloudWatch reads figures from.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict

from snowmelt.aws.json_line import Facts, to_line
from snowmelt.aws.watch import Watch
from snowmelt.estimates.memory_limit import memory_limit
from snowmelt.memory.resident import peak_resident

NAMESPACE = "snowmelt"
UNITS: Mapping[str, str] = {
    "Rows": "Count",
    "Bytes": "Bytes",
    "Chunks": "Count",
    "Retries": "Count",
    "Errors": "Count",
    "FailedTables": "Count",
    "Seconds": "Seconds",
    "PeakMemory": "Bytes",
    "MemoryLimit": "Bytes",
}
"""Each metric, as counted since the line before; the memory is the most that the process had so far."""
_LONGEST = 1_024
"""Characters of a dimension's value."""


class Metrics:
    """Writes what was counted since the last line."""

    def __init__(
        self, write: Callable[[str], None] | None, facts: Facts, watch: Watch, now: float
    ) -> None:
        """`write` gets whole lines; None writes nothing. `now` is by the monotonic clock."""
        self._write = write
        self._facts = facts
        self._watch = watch
        self._last, self._since = dict.fromkeys(_counted(watch), 0.0), now

    def flush(self, now: float) -> None:
        """One line."""
        if self._write is None:
            return
        figures = _counted(self._watch)
        values = {name: count - self._last[name] for name, count in figures.items()}
        values["Seconds"] = round(now - self._since, 3)
        self._last, self._since = figures, now
        limit = memory_limit(None)
        memory = {"PeakMemory": peak_resident(), "MemoryLimit": limit.bytes if limit else None}
        given = {name: value for name, value in memory.items() if value is not None}
        self._write(to_line(document({**values, **given}, self._facts, time.time())))


def document(figures: Mapping[str, float], facts: Facts, when: float) -> dict[str, object]:
    """The line's document. The source is the one dimension: each value of one is a metric that is paid for, so
    run and request are properties. `when` is in seconds since 1970."""
    about = asdict(facts)
    return {
        "_aws": {
            "Timestamp": int(when * 1_000),
            "CloudWatchMetrics": [
                {
                    "Namespace": NAMESPACE,
                    "Dimensions": [["source_name"]],
                    "Metrics": [{"Name": name, "Unit": UNITS[name]} for name in figures],
                }
            ],
        },
        **{name: value for name, value in about.items() if value is not None},
        "source_name": dimension(facts.source_name),
        **figures,
    }


def dimension(name: str | None) -> str:
    """A name as the value of a dimension: printable ASCII, not empty.

    >>> dimension("größe"), dimension(None)
    ('gr\\\\xf6\\\\xdfe', 'unknown')
    """
    text = (name or "").encode("ascii", "backslashreplace").decode("ascii")
    text = re.sub(r"[\x00-\x1f\x7f]", "?", text)[:_LONGEST]
    return text if text.strip() else "unknown"


def _counted(watch: Watch) -> dict[str, float]:
    """Since the invocation began."""
    tally = watch.tally
    return {
        "Rows": tally.rows,
        "Bytes": tally.bytes,
        "Chunks": tally.chunks,
        "Retries": tally.retries,
        "Errors": tally.errors + watch.ended_in_failure,
        "FailedTables": tally.failed_tables,
    }
