"""What snowmelt would not do with a table, each with what would let it."""

from __future__ import annotations

from collections.abc import Iterable

from snowmelt.alterations import drop_not_null, quote, retype, table_of
from snowmelt.choices import Extraction, Mode
from snowmelt.columns import Columns
from snowmelt.formats import size
from snowmelt.model import Column, StoredLoad, TableJob, TargetColumn
from snowmelt.plan import Plan, Refusal
from snowmelt.ports import QuerySource, Source
from snowmelt.situation import Situation
from snowmelt.types import created_type, loadable, target_type


def extraction_refusals(job: TableJob, source: Source) -> tuple[Refusal, ...]:
    """One query needs a source that keeps its result."""
    if job.extraction is not Extraction.ONE_QUERY or isinstance(source, QuerySource):
        return ()
    return (
        Refusal(
            "extraction: one_query needs a source that keeps the results of its queries, "
            "and files keep none",
            "leave extraction out, or set it to query_per_chunk",
        ),
    )


def fit_refusals(job: TableJob, columns: Columns, situation: Situation) -> tuple[Refusal, ...]:
    """Columns that the target has in a type that can't take them, or wants and would not get."""
    target = situation.target
    if not target.exists:
        return tuple(
            Refusal(
                f'column "{column.name}": {column.source_type or column.type} has no PostgreSQL type here',
                "cast the column to text in a view and migrate the view",
            )
            for column in columns.read
            if created_type(column.type, column.source_type) is None
        )
    table = table_of(situation.surroundings, job.target.schema, job.target.name)
    found = {column.name: column for column in target.columns}
    refusals = []
    for column in columns.read:
        there = found.get(column.into)
        wire = target_type(there.type) if there else None
        if there is None or (not there.generated and wire and loadable(column.type, wire)):
            continue
        refusals.append(_misfit(column, there, table))
    for there in columns.kept:
        if not (there.nullable or there.has_default):
            refusals.append(
                Refusal(
                    f'the target column "{there.name}" is NOT NULL without a default, '
                    "and the source does not have it",
                    f"give it a default, or drop NOT NULL: {drop_not_null(table, there.name)}",
                )
            )
    return tuple(refusals)


def _misfit(column: Column, there: TargetColumn, table: str) -> Refusal:
    type = created_type(column.type, column.source_type) or "text"
    if there.generated:
        return Refusal(
            f'column "{column.name}": what the source has can\'t be loaded into a generated column',
            f"drop its expression, or its identity: ALTER TABLE {table} ALTER COLUMN {quote(there.name)} "
            "DROP EXPRESSION;",
        )
    return Refusal(
        f'column "{column.name}": {column.source_type or column.type} '
        f"can't be loaded exactly into {there.type}",
        f"make the target column {type}: {retype(table, there.name, there.type, type)}",
    )


def resume_refusals(situation: Situation, stored: StoredLoad) -> list[Refusal]:
    """What keeps a table from going on as it was planned."""
    anew = f"with --restart-table {stored.source.name}"
    anew = f"TRUNCATE the target and run {anew}" if stored.mode is Mode.APPEND else f"run {anew}"
    if stored.table_hash != situation.table_hash and not stored.completed:
        changed = sorted(
            name
            for name in {*stored.facts, *situation.facts}
            if stored.facts.get(name) != situation.facts.get(name)
        )
        return [
            Refusal(
                f"the table was planned with other settings ({_listed(changed) or 'unknown'} changed)",
                f"put them back to resume, or: {anew}",
            )
        ]
    since = next((w for w in situation.writers if w.table_id > stored.table_id), None)
    if since is not None and not stored.completed:
        return [
            Refusal(
                f"run {since.run_id} has written the table since this run planned it",
                f"end this run for good with snowmelt abort, or, if its rows are wanted: {anew}",
            )
        ]
    if stored.completed_rows and not stored.completed and not situation.loaded.has_rows:
        gone = "is gone" if not situation.loaded.exists else "is empty"
        return [
            Refusal(
                f"{stored.completed_chunks:,} chunks of the table are done, but the target {gone}",
                f"load it anew with --restart-table {stored.source.name}",
            )
        ]
    return []


def _listed(names: Iterable[object]) -> str:
    return ", ".join(str(name) for name in names)


def room_refusals(plan: Plan) -> tuple[Refusal, ...]:
    """A table is loaded beside the one that it replaces: both have to fit."""
    need = plan.estimate().disk
    if need.free is None or need.fits_without_wal is not False:
        return ()
    if not any(table.job.replace for table in plan.tables):
        return ()
    return (
        Refusal(
            f"the tables that are loaded take about {size(need.tables)} beside those that they replace, and "
            f"{size(need.free)} are free on the target's disk",
            "make room, or load with mode: truncate, which frees what a table takes before it is loaded",
        ),
    )
