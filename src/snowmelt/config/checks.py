"""Checks of what runs as a whole: what no single value can be blamed for."""

from __future__ import annotations

import re
from collections.abc import Iterator

from snowmelt.choices import Extraction, Snapshot
from snowmelt.config.document import Document, Finding, Place, spell
from snowmelt.config.login import login_findings
from snowmelt.config.mode_checks import idle_overlaps, mode_findings
from snowmelt.config.models import RETIRED, Source, Table
from snowmelt.config.outline import Outline, SourceOutline, mapping_at
from snowmelt.config.settings import nearest
from snowmelt.config.tls import tls_findings
from snowmelt.errors import UnknownName


def cross_findings(outline: Outline, earlier: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Leaves out what would only repeat an earlier finding in other words."""
    broken = {finding.place for finding in earlier}
    found = (
        *_repeated_names(outline),
        *_snowflake(outline),
        *tls_findings(outline.postgres),
        *(() if broken & _DATABASE_PLACES else _missing_databases(outline)),
        *_patterns_as_targets(outline),
        *_shared_targets(outline),
        *mode_findings(outline),
    )
    return tuple(finding for finding in found if finding.place not in broken)


_DATABASE_PLACES: set[Place] = {("postgres",), ("postgres", "dsn"), ("postgres", "database")}


def _repeated_names(outline: Outline) -> Iterator[Finding]:
    """Among enabled sources: a disabled variant of a source may keep its name."""
    seen: dict[str, Place] = {}
    for source in outline.sources:
        if not source.source.enabled:
            continue
        first = seen.setdefault(source.source.source_name, source.place)
        if first is not source.place:
            yield Finding(
                (*source.place, "source_name"),
                f"is the name of {spell(first)} as well",
                "give every source that is enabled a name of its own",
            )


def _snowflake(outline: Outline) -> Iterator[Finding]:
    block = outline.root.get("snowflake")
    if block is None:
        yield from _missing_snowflake(outline)
    elif isinstance(block, dict):
        yield from login_findings(block, needed=outline.needs_snowflake)
        if block.get("clone_schema") is None:
            yield from _clones_without_schema(outline)


def _missing_snowflake(outline: Outline) -> Iterator[Finding]:
    for source in outline.running:
        if not source.connected:
            yield Finding(
                (*source.place, "connection"),
                "is missing, and there is no snowflake block",
                "add snowflake with account and user, or a connection: duckdb:///path.duckdb",
            )


def _clones_without_schema(outline: Outline) -> Iterator[Finding]:
    """Where clone was said, once: at the table, at its source or at the top level."""
    for source in outline.running:
        if source.connected:
            continue
        for entry in source.enabled_tables:
            said = (
                (entry.place, entry.table.snapshot),
                (source.place, source.source.snapshot),
                ((), outline.root.get("snapshot")),
            )
            place, snapshot = next((pair for pair in said if pair[1] is not None), ((), None))
            if snapshot == Snapshot.CLONE:
                yield Finding(
                    (*place, "snapshot"),
                    "is clone, and snowflake.clone_schema is not set",
                    "set snowflake.clone_schema to a schema for the clones, or choose another "
                    "snapshot",
                )


def _missing_databases(outline: Outline) -> Iterator[Finding]:
    default = outline.postgres.database_name if outline.postgres else None
    for source in outline.running:
        if not (source.source.target_pg_database or default):
            yield Finding(
                (*source.place, "target_pg_database"),
                "is missing, and postgres names no database either",
                "set it here, or set postgres.database or the database of its dsn",
            )


def _patterns_as_targets(outline: Outline) -> Iterator[Finding]:
    for source in outline.running:
        connection = source.source.connection
        if connection is None or connection.scheme != "files":
            continue
        for entry in source.enabled_tables:
            if entry.table.target is None and re.search(r"[*?\[\]/\\]", entry.table.source):
                yield Finding(
                    (*entry.place, "target"),
                    "is missing, and the source is a path or pattern, not a name",
                    "name the target table",
                )


def _shared_targets(outline: Outline) -> Iterator[Finding]:
    seen: dict[tuple[str | None, str, str], Place] = {}
    default = outline.postgres.database_name if outline.postgres else None
    for source in outline.running:
        for entry in source.enabled_tables:
            database = source.source.target_pg_database or default
            name = entry.table.target or entry.table.source
            key = (database, source.source.target_pg_schema, name)
            first = seen.setdefault(key, entry.place)
            if first is not entry.place:
                yield Finding(
                    (*entry.place, "target"),
                    f"is the target of {spell(first)} as well: {key[1]}.{name}",
                    "give each table a target of its own, or disable one of them",
                )


def require_names(document: Document, outline: Outline, names: tuple[str, ...]) -> None:
    """Raises UnknownName for a chosen source that is not there, or disabled."""
    enabled = {source.source.source_name for source in outline.sources if source.source.enabled}
    known = sorted({source.source.source_name for source in outline.sources})
    for name in names:
        if name in enabled:
            continue
        if name in known:
            raise UnknownName(
                f"the source {name} is disabled", remedy=f"set enabled: true in {document.path}"
            )
        raise unknown_name("source", name, known)


def unknown_name(kind: str, name: str, known: list[str]) -> UnknownName:
    """The error for a name nobody carries, with the nearest one that somebody does."""
    meant = nearest(name, known)
    remedy = f"did you mean {meant}?" if meant else f"known are {', '.join(known) or 'none'}"
    return UnknownName(f"there is no {kind} {name}", remedy=remedy)


def warnings_of(document: Document, outline: Outline) -> tuple[str, ...]:
    """One line per retired key and per part that would do nothing, in the order of the file."""
    places: list[Place] = [()]
    idle: list[Finding] = []
    for source in outline.running:
        places += [source.place, *(entry.place for entry in source.enabled_tables)]
        idle += _idle(source)
        idle += _without_effect(source, outline.root.get("extraction"))
    if not outline.running:
        idle.append(Finding(("sources",), "has no source that is enabled", "nothing will be moved"))
    retired = [
        Finding((*place, key), "has no effect any more", instead)
        for place in places
        for key, instead in RETIRED.items()
        if mapping_at(outline.root, place).get(key) is not None
    ]
    problems = document.problems([*retired, *idle, *idle_overlaps(outline)])
    return tuple(f"{p.place} (line {p.line}): {p.what}; {p.remedy}" for p in problems)


def _idle(source: SourceOutline) -> list[Finding]:
    if source.enabled_tables:
        return []
    return [Finding((*source.place, "tables"), "has no table that is enabled", "nothing is moved")]


def _without_effect(source: SourceOutline, top: object) -> Iterator[Finding]:
    """Settings of Snowflake on a source with a connection; `top` is the top level's extraction.

    `extraction: one_query` is left to planning, which refuses it there; so another extraction
    inside of it has the effect of taking it back.
    """
    if not source.connected:
        return
    inner = source.source.extraction or top
    levels: list[tuple[Place, Source | Table, object]] = [(source.place, source.source, top)]
    levels += [(entry.place, entry.table, inner) for entry in source.enabled_tables]
    for place, level, outer in levels:
        keys = ["warehouse", "snapshot"]
        if Extraction.ONE_QUERY not in (level.extraction, outer):
            keys.append("extraction")
        for key in keys:
            if getattr(level, key) is not None:
                yield Finding(
                    (*place, key), "has no effect on a source with a connection", "remove it"
                )
