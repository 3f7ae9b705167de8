"""What a source's stored snapshot tells a person. The JSON itself is the source's own; what is not known here is
passed over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class SnapshotFacts:
    """How the rows are held still: at a moment of Snowflake's, or as files. None where it says nothing of that."""

    kind: str | None = None
    """`time_travel`, `clone` or `none`."""
    moment: datetime | None = None
    clone: str | None = None
    files: tuple[tuple[str, int], ...] = ()
    """Each with its bytes."""


def snapshot_facts(snapshot: Mapping[str, object]) -> SnapshotFacts:
    """Read what `sources.snowflake.snapshot` or `sources.duckdb` wrote."""
    match snapshot:
        case {"kind": str(kind), "moment": str(moment)}:
            clone = snapshot.get("clone")
            name = ".".join(str(part) for part in clone) if isinstance(clone, list) else ""
            return SnapshotFacts(kind, datetime.fromisoformat(moment), name or None)
        case {"files": list(files)}:
            return SnapshotFacts(files=tuple((str(name), int(size)) for name, size, *_ in files))
    return SnapshotFacts()
