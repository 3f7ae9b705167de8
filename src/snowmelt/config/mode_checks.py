"""Keys of a load mode that contradict each other, lack another, or do nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from snowmelt.config.document import Finding, Place
from snowmelt.config.load_mode import LoadMode
from snowmelt.config.models import Table
from snowmelt.config.modes import Level, TopLevel, decides, emptied_first, replaced
from snowmelt.config.outline import Outline, mapping_at


@dataclass(frozen=True, slots=True)
class _Said:
    """A level as far as it can be read, and as it stands in the file."""

    place: Place
    level: Level
    raw: Mapping[str, object]

    @property
    def is_unread(self) -> bool:
        """Whether what decides here is wrong itself: then nothing follows from farther levels."""
        read = {"mode": self.level.mode, "insert_only_mode": self.level.insert_only_mode}
        return any(self.has(key) and value is None for key, value in read.items())

    def has(self, key: str) -> bool:
        return self.raw.get(key) is not None


def mode_findings(outline: Outline) -> Iterator[Finding]:
    """What contradicts itself on one level, and keys without one that they need."""
    top = _Said((), _top(outline), outline.root)
    yield from _contradictions(top)
    for source in outline.running:
        outer = _Said(source.place, source.source, mapping_at(outline.root, source.place))
        yield from _contradictions(outer)
        for entry in source.enabled_tables:
            said = _Said(entry.place, entry.table, mapping_at(outline.root, entry.place))
            yield from _contradictions(said)
            if not said.raw.get("uniqueness_columns") and _asks_for_upsert(said, outer, top):
                yield Finding(
                    (*entry.place, "uniqueness_columns"),
                    "is missing, and mode upsert finds rows by it",
                    "name the columns that identify a row, or choose another mode",
                )
            if said.has("target_watermark") and not said.has("source_watermark"):
                yield Finding(
                    (*entry.place, "target_watermark"),
                    "stands without source_watermark",
                    "name the source column that says when a row changed, or remove target_watermark",
                )


def idle_overlaps(outline: Outline) -> Iterator[Finding]:
    """Each overlap_seconds that no incremental load takes, in a file that is right."""
    top = _top(outline)
    of_top = []
    for source in outline.running:
        outer = source.source
        of_source = []
        for entry in source.enabled_tables:
            is_incremental = _is_incremental(entry.table, outer, top)
            if entry.table.overlap_seconds is None:
                of_source.append(is_incremental)
            elif not is_incremental:
                yield _idle(entry.place, "the table is not")
        if outer.overlap_seconds is None:
            of_top += of_source
        elif of_source and not any(of_source):
            yield _idle(source.place, "no table that takes it is")
    if outline.top.overlap_seconds is not None and of_top and not any(of_top):
        yield _idle((), "no table that takes it is")


def _idle(place: Place, who: str) -> Finding:
    return Finding(
        (*place, "overlap_seconds"),
        f"has no effect: {who} loaded incrementally",
        "remove it; a load is incremental by source_watermark, where the target is not emptied first",
    )


def _is_incremental(table: Table, source: Level, top: Level) -> bool:
    levels = (table, source, top)
    return table.source_watermark is not None and not (emptied_first(levels) or replaced(levels))


def _top(outline: Outline) -> TopLevel:
    return TopLevel(outline.top.mode, outline.top.insert_only_mode)


def _asks_for_upsert(*levels: _Said) -> bool:
    for said in levels:
        if said.is_unread:
            return False
        if decides(said.level):
            return said.level.mode is LoadMode.UPSERT
    return False


def _contradictions(said: _Said) -> Iterator[Finding]:
    mode, insert_only = said.level.mode, said.level.insert_only_mode
    if mode is None:
        return
    if insert_only is not None and insert_only is not (mode is LoadMode.INSERT_ONLY):
        yield Finding(
            (*said.place, "mode"),
            f"is {mode.value}, and insert_only_mode beside it is {str(insert_only).lower()}",
            "keep one of them",
        )
    if mode is LoadMode.REPLACE and said.level.truncate_onstart:
        yield Finding(
            (*said.place, "mode"),
            "is replace, and truncate_onstart beside it is true",
            "keep one of them",
        )
    if mode is LoadMode.TRUNCATE and said.level.truncate_onstart is False:
        yield Finding(
            (*said.place, "mode"),
            "is truncate, and truncate_onstart beside it is false",
            "keep one of them",
        )
