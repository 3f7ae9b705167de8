"""What an incremental load reads: the rows whose watermark lies in a window, fixed when it is planned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from snowmelt.chunking.bounds import Bound, bound_from_json, bound_to_json
from snowmelt.chunking.chunks import Key, KeyKind


@dataclass(frozen=True, slots=True)
class Window:
    """Rows with `low <= watermark <= high`, or `< high` where it is not `closed`; an end of None is open.

    `nulls` lets rows without a watermark in as well: nothing says that they are older.
    """

    key: Key
    low: Bound | None = None
    high: Bound | None = None
    closed: bool = True
    nulls: bool = True


def window_to_json(window: Window) -> dict[str, object]:
    """A window as the ledger stores it; `window_from_json` gives the same window back."""
    return {
        "column": window.key.column,
        "key": window.key.kind.value,
        "low": None if window.low is None else bound_to_json(window.low),
        "high": None if window.high is None else bound_to_json(window.high),
        "closed": window.closed,
        "nulls": window.nulls,
    }


def window_from_json(value: Mapping[str, object]) -> Window:
    """Raises ValueError on what this release does not know."""
    match value:
        case {
            "column": str(column),
            "key": str(kind),
            "low": low,
            "high": high,
            "closed": bool(closed),
            "nulls": bool(nulls),
        }:
            return Window(
                Key(column, KeyKind(kind)),
                None if low is None else bound_from_json(low),
                None if high is None else bound_from_json(high),
                closed,
                nulls,
            )
    raise ValueError(f"not a window: {value!r}")
