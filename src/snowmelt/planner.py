"""What exists + what was done -> what will happen, table by table, before anything moves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from snowmelt.chunks import Chunk, DateRangeStrategy, QueryOnce, query_once, whole_table
from snowmelt.extraction import pick
from snowmelt.model import (
    ChunkKey,
    Extraction,
    KeyType,
    Relation,
    StoredLoad,
    TableJob,
    TargetState,
    Writer,
)
from snowmelt.plan import Refusal, TablePlan
from snowmelt.ports import QuerySource, Source
from snowmelt.truncation import TargetFacts, Truncation, decide
from snowmelt.types import created_type, loadable, target_type

_ENDED = frozenset({"completed", "aborted"})
_DATE_KEYS = frozenset({KeyType.DATE, KeyType.TIMESTAMP, None})


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a table's plan is made from besides the source: its identity, its target, and what runs did."""

    table_hash: str
    facts: Mapping[str, object]
    target: TargetState
    writers: tuple[Writer, ...]
    resumes: StoredLoad | None
    resume_hours: float = 168.0
    """How long after its last activity the run may be resumed."""


def plan_table(job: TableJob, source: Source, around: Surroundings) -> TablePlan:
    """Plan a table, or take up its plan where a run left it. Reads the source, changes nothing.

    Raises TableError when the source can't be described; what snowmelt would not do is in `refusals`.
    """
    truncation = decide(
        TargetFacts(
            resuming=around.resumes is not None,
            has_status=bool(around.writers) or around.resumes is not None,
            has_rows=around.target.has_rows,
            configured=job.truncate_onstart,
        )
    )
    if around.resumes is not None:
        return _resumed(job, around, around.resumes, truncation)
    relation = source.describe(job.source)
    mode = (*_mode_refusals(job), *_extraction_refusals(job, relation, source))
    refusals = (*mode, *_fit_refusals(relation, around.target), *rows_refusals(around))
    strategy, reason, chunks, rows = (
        ("none", "the table is refused", (), 0) if mode else _chunks(job, source, relation)
    )
    if not relation.exact:
        # Rows come and go while it is read: what was counted once is no measure.
        chunks = tuple(Chunk(chunk.id, chunk.range, _of_query(chunk)) for chunk in chunks)
        rows = None
    return TablePlan(
        job=job,
        table_hash=around.table_hash,
        facts=around.facts,
        relation=relation,
        target=around.target,
        strategy=strategy,
        reason=reason,
        chunks=chunks,
        planned_rows=rows,
        truncation=truncation,
        create=not around.target.exists,
        notes=(*relation.notes, *_retention_notes(relation, around.resume_hours)),
        refusals=refusals,
    )


def _of_query(chunk: Chunk) -> int | None:
    return 0 if isinstance(chunk.range, QueryOnce) else None


def _resumed(
    job: TableJob, around: Surroundings, stored: StoredLoad, truncation: Truncation
) -> TablePlan:
    left = stored.chunks - stored.completed_chunks
    return TablePlan(
        job=job,
        table_hash=around.table_hash,
        facts=around.facts,
        relation=Relation(stored.columns, stored.key, stored.snapshot),
        target=around.target,
        strategy="as planned",
        reason=f"{stored.completed_chunks:,} of {stored.chunks:,} chunks are done, {left:,} are left",
        chunks=(),
        planned_rows=stored.planned_rows,
        truncation=truncation,
        create=stored.create,
        resumes=stored,
        refusals=tuple(_resume_refusals(around, stored)),
    )


def _chunks(
    job: TableJob, source: Source, relation: Relation
) -> tuple[str, str, tuple[Chunk, ...], int | None]:
    """Strategy, why, chunks and rows."""
    way = pick(job, relation, source)
    if way.extraction is Extraction.ONE_QUERY:
        return "ResultSetStrategy", way.reason, query_once(), _count(job, source, relation)
    if not job.keys:
        rows = _count(job, source, relation)
        return "whole table", way.reason, whole_table(rows), rows
    histogram = source.days(job.source, job.keys[0], relation.snapshot)
    chunks = DateRangeStrategy(job.batch_size).chunks(histogram)
    return (
        "DateRangeStrategy",
        f"days of {job.keys[0].column}, {job.batch_size:,} rows a chunk",
        chunks,
        histogram.rows,
    )


def _count(job: TableJob, source: Source, relation: Relation) -> int:
    return (
        relation.rows if relation.rows is not None else source.count(job.source, relation.snapshot)
    )


def _extraction_refusals(job: TableJob, relation: Relation, source: Source) -> tuple[Refusal, ...]:
    """A key of the wrong kind matters only where chunks are made of it."""
    if job.extraction is not Extraction.ONE_QUERY:
        return _key_refusals(job.keys, relation)
    if isinstance(source, QuerySource):
        return ()
    return (
        Refusal(
            "extraction: one_query needs a source that keeps the results of its queries, "
            "and files keep none",
            "leave extraction out, or set it to query_per_chunk",
        ),
    )


ROWS_PER_SECOND = 100_000
"""For the expected duration that a retention is held against: a fifth of what one machine of 2 cores moved."""


def _retention_notes(relation: Relation, resume_hours: float) -> tuple[str, ...]:
    """Whether the snapshot outlives the run, and a run that is resumed as late as it may be."""
    kept = relation.retention_hours
    if kept is None:
        return ()
    expected = (relation.rows or 0) / ROWS_PER_SECOND / 3600
    if expected > kept:
        return (
            f"Time Travel keeps {kept:g} hours, and the table may take {expected:,.1f} hours at "
            f"{ROWS_PER_SECOND:,} rows/s: set snapshot: clone, or a longer "
            "DATA_RETENTION_TIME_IN_DAYS",
        )
    if resume_hours > kept:
        return (
            f"Time Travel keeps {kept:g} hours: a run that is resumed later than that, up to the "
            f"{resume_hours:g} hours of resume_max_age, has to load the table anew; snapshot: clone or "
            "a longer DATA_RETENTION_TIME_IN_DAYS avoids it",
        )
    return ()


def _mode_refusals(job: TableJob) -> tuple[Refusal, ...]:
    """This release appends into an empty table. Any other wish is refused, never approximated."""
    refusals = []
    if job.insert_only:
        refusals.append(
            Refusal(
                "insert_only_mode skips rows that the target has, and this release can only append",
                "set insert_only_mode to false and start with an empty target",
            )
        )
    if job.uniqueness_columns and not job.insert_only:
        refusals.append(
            Refusal(
                "uniqueness_columns asks for an upsert, and this release can only append",
                "set uniqueness_columns to null and start with an empty target",
            )
        )
    if job.source_watermark or job.target_watermark:
        refusals.append(
            Refusal(
                "source_watermark and target_watermark ask for an incremental load, "
                "and this release can only append the whole table",
                "set both to null and start with an empty target",
            )
        )
    if job.disable_index:
        refusals.append(
            Refusal(
                "disable_index asks to drop and rebuild indexes, which this release does not do",
                "set disable_index to false; drop and create the indexes yourself where it pays",
            )
        )
    return tuple(refusals)


def _key_refusals(keys: Sequence[ChunkKey], relation: Relation) -> tuple[Refusal, ...]:
    refusals = []
    if len(keys) > 1:
        refusals.append(
            Refusal(
                "chunking_columns names several columns, and this release ranges over one",
                f"keep the first, {keys[0].column}",
            )
        )
    for key in keys[:1]:
        if relation.column(key.column) is None:
            refusals.append(
                Refusal(
                    f'the source has no column "{key.column}" to make chunks of',
                    f"name one of {_listed(column.name for column in relation.columns)}",
                )
            )
        elif key.type not in _DATE_KEYS:
            refusals.append(
                Refusal(
                    f"chunks over a key of type {key.type} are not made by this release",
                    "name a date or timestamp column, or set chunking_columns to null: "
                    "the table is then streamed as one chunk",
                )
            )
    return tuple(refusals)


def _fit_refusals(relation: Relation, target: TargetState) -> tuple[Refusal, ...]:
    """Columns that the target lacks, has in a type that can't take them, or wants and would not get."""
    if not target.exists:
        return tuple(
            Refusal(
                f'column "{column.name}": {column.source_type or column.type} has no PostgreSQL type here',
                "cast the column to text in a view and migrate the view",
            )
            for column in relation.columns
            if created_type(column.type, column.source_type) is None
        )
    found = {column.name: column for column in target.columns}
    refusals = []
    for column in relation.columns:
        there = found.get(column.name)
        if there is None:
            other = next((n for n in found if n.casefold() == column.name.casefold()), None)
            near = f' (it has "{other}": names keep their case)' if other else ""
            refusals.append(
                Refusal(
                    f'the target has no column "{column.name}"{near}',
                    "add the column to the target, or migrate a view without it",
                )
            )
            continue
        wire = target_type(there.type)
        if there.generated or wire is None or not loadable(column.type, wire):
            kind = "a generated column" if there.generated else there.type
            refusals.append(
                Refusal(
                    f'column "{column.name}": {column.source_type or column.type} '
                    f"can't be loaded exactly into {kind}",
                    f"make the target column {created_type(column.type, column.source_type) or 'text'}",
                )
            )
    given = {column.name for column in relation.columns}
    for there in target.columns:
        if not (there.name in given or there.nullable or there.has_default or there.generated):
            refusals.append(
                Refusal(
                    f'the target column "{there.name}" is NOT NULL without a default, '
                    "and the source does not have it",
                    "give it a default, or drop NOT NULL",
                )
            )
    return tuple(refusals)


def rows_refusals(around: Surroundings) -> tuple[Refusal, ...]:
    """Nothing is appended onto rows that are there, nor beside a run that may go on writing."""
    newest = around.writers[0] if around.writers else None
    unfinished = newest is not None and not newest.completed and newest.ending not in _ENDED
    if newest is not None and unfinished:
        return (
            Refusal(
                f"run {newest.run_id}, last active {_utc(newest.active_at)}, "
                "has not finished writing this table",
                f"resume it with --resume-run-id {newest.run_id} (or a higher --resume-max-age), "
                f"or end it for good with: snowmelt abort {newest.run_id}",
            ),
        )
    if around.target.has_rows:
        by = (
            f"run {around.writers[0].run_id} wrote it" if around.writers else "no run recorded them"
        )
        return (
            Refusal(
                f"the target has rows ({by}), and appending could double them",
                "TRUNCATE the table, or name another target; truncate_onstart is only acted on "
                "in an empty table by this release",
            ),
        )
    if around.target.has_rows is None:
        return (
            Refusal(
                "whether the target has rows could not be found out",
                "grant SELECT on the target to the role of the postgres block",
            ),
        )
    return ()


def _resume_refusals(around: Surroundings, stored: StoredLoad) -> list[Refusal]:
    if stored.table_hash != around.table_hash and not stored.completed:
        changed = sorted(
            name
            for name in {*stored.facts, *around.facts}
            if stored.facts.get(name) != around.facts.get(name)
        )
        return [
            Refusal(
                f"the table was planned with other settings ({_listed(changed) or 'unknown'} changed)",
                f"put them back to resume, or: TRUNCATE the target and run with "
                f"--restart-table {stored.source.name}",
            )
        ]
    since = next((w for w in around.writers if w.table_id > stored.table_id), None)
    if since is not None and not stored.completed:
        return [
            Refusal(
                f"run {since.run_id} has written the table since this run planned it",
                "end this run for good with snowmelt abort, or, if its rows are wanted: "
                f"TRUNCATE the target and run with --restart-table {stored.source.name}",
            )
        ]
    if stored.completed_rows and not around.target.has_rows:
        gone = "is gone" if not around.target.exists else "is empty"
        return [
            Refusal(
                f"{stored.completed_chunks:,} chunks of the table are done, but the target {gone}",
                f"load it anew with --restart-table {stored.source.name}",
            )
        ]
    return []


def _utc(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _listed(names: Iterable[object]) -> str:
    return ", ".join(str(name) for name in names)
