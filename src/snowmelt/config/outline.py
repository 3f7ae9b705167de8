"""What a file, right or wrong, sets out to do: its sources and tables, and which of them run.

Checks across tables need names and switches of every table, also beside a value that is wrong; so
each mapping is read alone and as far as it goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import ValidationError

from snowmelt.config.document import Place
from snowmelt.config.models import ConfigFile, FileModel, Postgres, Source, Table

M = TypeVar("M", bound=FileModel)


@dataclass(frozen=True, slots=True)
class TableOutline:
    """A table of a source that runs, or would if it were chosen."""

    place: Place
    table: Table


@dataclass(frozen=True, slots=True)
class SourceOutline:
    """A source with its tables apart. A broken name gives way to the place, unique as well."""

    place: Place
    source: Source
    tables: tuple[TableOutline, ...]
    chosen: bool
    connected: bool
    """Whether a connection is given, be it a wrong one."""

    @property
    def runs(self) -> bool:
        return self.source.enabled and self.chosen

    @property
    def enabled_tables(self) -> tuple[TableOutline, ...]:
        return tuple(outline for outline in self.tables if outline.table.enabled)


@dataclass(frozen=True, slots=True)
class Outline:
    """The sources of a file as far as they can be read; `postgres` is None where it can't.

    `top` has the keys of the top level that are right, and no sources.
    """

    root: Mapping[str, object]
    top: ConfigFile
    sources: tuple[SourceOutline, ...]
    postgres: Postgres | None

    @classmethod
    def of(cls, root: Mapping[str, object], names: Sequence[str]) -> Outline:
        """`names` are the chosen sources; none chooses all."""
        sources = root.get("sources")
        items = enumerate(sources) if isinstance(sources, list) else ()
        read = (_source(raw, ("sources", index), names) for index, raw in items)
        postgres = _salvage(Postgres, root.get("postgres"), {})
        found = tuple(source for source in read if source)
        return cls(root, _top(root), found, postgres)

    @property
    def running(self) -> tuple[SourceOutline, ...]:
        return tuple(source for source in self.sources if source.runs)

    @property
    def needs_snowflake(self) -> bool:
        return any(not source.connected for source in self.running)

    def needs(self, place: Place) -> bool:
        """Whether what runs can't do without the value at a place."""
        if place[0] == "snowflake":
            return self.needs_snowflake
        if place[0] != "sources" or len(place) < 3 or place[2] in ("source_name", "enabled"):
            return True
        source = next((outline for outline in self.running if outline.place == place[:2]), None)
        if source is None:
            return False
        table = next((outline for outline in source.tables if outline.place == place[:4]), None)
        return table is None or table.table.enabled or place[4:] == ("enabled",)

    def running_root(self) -> dict[str, object]:
        """The file without whatever does not run."""
        sources = [
            {**mapping_at(self.root, source.place), "tables": self._running_tables(source)}
            for source in self.running
        ]
        unused = set() if self.needs_snowflake else {"snowflake"}
        kept = {key: value for key, value in self.root.items() if key not in unused}
        return {**kept, "sources": sources}

    def _running_tables(self, source: SourceOutline) -> list[Mapping[str, object]]:
        return [mapping_at(self.root, outline.place) for outline in source.enabled_tables]


def _top(root: Mapping[str, object]) -> ConfigFile:
    blocks = {"postgres": Postgres(), "sources": ()}
    top = _salvage(ConfigFile, {**root, **blocks, "snowflake": None}, blocks)
    return top or ConfigFile.model_validate(blocks)


def _source(raw: object, place: Place, names: Sequence[str]) -> SourceOutline | None:
    if not isinstance(raw, dict):
        return None
    stand_in = {"source_name": f"sources[{place[1]}]"}
    source = _salvage(Source, {**raw, "tables": []}, stand_in)
    if source is None:
        return None
    tables = raw.get("tables")
    outlines = [
        TableOutline((*place, "tables", index), table)
        for index, item in enumerate(tables if isinstance(tables, list) else ())
        if (table := _salvage(Table, item, {"source": f"sources[{place[1]}].tables[{index}]"}))
    ]
    chosen = not names or source.source_name in names
    return SourceOutline(place, source, tuple(outlines), chosen, raw.get("connection") is not None)


def _salvage(model: type[M], raw: object, stand_ins: Mapping[str, object]) -> M | None:
    """The mapping without its wrong keys, and with stand-ins for those it can't do without."""
    if not isinstance(raw, dict):
        return None
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        wrong = {details["loc"][0] for details in error.errors() if details["loc"]}
    try:
        return model.model_validate(
            {**stand_ins, **{key: value for key, value in raw.items() if key not in wrong}}
        )
    except ValidationError:
        return None


def mapping_at(root: object, place: Place) -> Mapping[str, object]:
    """The mapping at a place that an outline was made from."""
    for part in place:
        if isinstance(root, dict | list):
            root = root[part]  # type: ignore[index]
    return root if isinstance(root, dict) else {}
