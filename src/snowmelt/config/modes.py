"""What the keys of a config come to: the mode of a table, and whether its target is emptied first.

The nearest level (table, then source, then top level) that has `mode` or `insert_only_mode` decides how rows are
written:

    said there                      rows are written by
    mode: append, truncate, replace append
    mode: insert_only               insert_only
    mode: upsert                    upsert
    insert_only_mode: true          insert_only
    insert_only_mode: false         upsert with uniqueness_columns, append without
    nothing on any level            upsert with uniqueness_columns, append without

The nearest level that has `truncate_onstart`, or that decides by `mode: truncate`, says whether the target is
emptied first:

    said there                      the target is
    mode: truncate                  emptied first
    truncate_onstart: true          emptied first
    truncate_onstart: false         left as it is
    nothing on any level            left as it is

A table that the deciding level replaces (`mode: replace`) is loaded beside its target and then put in its place:
whether the target would be emptied first does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from snowmelt.choices import Mode
from snowmelt.config.load_mode import LoadMode


class Level(Protocol):
    """A table, a source or the top level; None where a key is not set there."""

    @property
    def mode(self) -> LoadMode | None: ...
    @property
    def insert_only_mode(self) -> bool | None: ...
    @property
    def truncate_onstart(self) -> bool | None: ...


@dataclass(frozen=True, slots=True)
class TopLevel:
    """The keys of the top level, which has no `truncate_onstart`."""

    mode: LoadMode | None
    insert_only_mode: bool | None
    truncate_onstart: None = None


def written_by(levels: Sequence[Level], *, unique: bool) -> Mode:
    """How rows are written; levels from the nearest, `unique` says that there are uniqueness_columns."""
    level = _deciding(levels)
    match level and level.mode:
        case LoadMode.APPEND | LoadMode.TRUNCATE | LoadMode.REPLACE:
            return Mode.APPEND
        case LoadMode.INSERT_ONLY:
            return Mode.INSERT_ONLY
        case LoadMode.UPSERT:
            return Mode.UPSERT
    if level is not None and level.insert_only_mode:
        return Mode.INSERT_ONLY
    return Mode.UPSERT if unique else Mode.APPEND


def emptied_first(levels: Sequence[Level]) -> bool:
    """Whether the target is emptied before the load; levels from the nearest."""
    deciding = _deciding(levels)
    if replaced(levels):
        return False
    for level in levels:
        if level.truncate_onstart is not None:
            return level.truncate_onstart
        if level is deciding and level.mode is LoadMode.TRUNCATE:
            return True
    return False


def replaced(levels: Sequence[Level]) -> bool:
    """Whether the target is replaced by what is loaded; levels from the nearest."""
    deciding = _deciding(levels)
    return deciding is not None and deciding.mode is LoadMode.REPLACE


def decides(level: Level) -> bool:
    """Whether a level says how rows are written."""
    return level.mode is not None or level.insert_only_mode is not None


def _deciding(levels: Sequence[Level]) -> Level | None:
    return next((level for level in levels if decides(level)), None)
