"""What snowmelt would not do with a table, each with what would let it."""

from __future__ import annotations

from collections.abc import Iterable

from snowmelt.formats import utc
from snowmelt.model import Extraction, Relation, StoredLoad, TableJob, TargetState
from snowmelt.plan import Refusal
from snowmelt.ports import QuerySource, Source
from snowmelt.situation import Situation
from snowmelt.types import created_type, loadable, target_type

_ENDED = frozenset({"completed", "aborted"})


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


def mode_refusals(job: TableJob) -> tuple[Refusal, ...]:
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


def fit_refusals(relation: Relation, target: TargetState) -> tuple[Refusal, ...]:
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


def rows_refusals(situation: Situation) -> tuple[Refusal, ...]:
    """Nothing is appended onto rows that are there, nor beside a run that may go on writing."""
    newest = situation.writers[0] if situation.writers else None
    unfinished = newest is not None and not newest.completed and newest.ending not in _ENDED
    if newest is not None and unfinished:
        return (
            Refusal(
                f"run {newest.run_id}, last active {utc(newest.active_at)}, "
                "has not finished writing this table",
                f"resume it with --resume-run-id {newest.run_id} (or a higher --resume-max-age), "
                f"or end it for good with: snowmelt abort {newest.run_id}",
            ),
        )
    if situation.target.has_rows:
        by = (
            f"run {situation.writers[0].run_id} wrote it"
            if situation.writers
            else "no run recorded them"
        )
        return (
            Refusal(
                f"the target has rows ({by}), and appending could double them",
                "TRUNCATE the table, or name another target; truncate_onstart is only acted on "
                "in an empty table by this release",
            ),
        )
    if situation.target.has_rows is None:
        return (
            Refusal(
                "whether the target has rows could not be found out",
                "grant SELECT on the target to the role of the postgres block",
            ),
        )
    return ()


def resume_refusals(situation: Situation, stored: StoredLoad) -> list[Refusal]:
    if stored.table_hash != situation.table_hash and not stored.completed:
        changed = sorted(
            name
            for name in {*stored.facts, *situation.facts}
            if stored.facts.get(name) != situation.facts.get(name)
        )
        return [
            Refusal(
                f"the table was planned with other settings ({_listed(changed) or 'unknown'} changed)",
                f"put them back to resume, or: TRUNCATE the target and run with "
                f"--restart-table {stored.source.name}",
            )
        ]
    since = next((w for w in situation.writers if w.table_id > stored.table_id), None)
    if since is not None and not stored.completed:
        return [
            Refusal(
                f"run {since.run_id} has written the table since this run planned it",
                "end this run for good with snowmelt abort, or, if its rows are wanted: "
                f"TRUNCATE the target and run with --restart-table {stored.source.name}",
            )
        ]
    if stored.completed_rows and not situation.target.has_rows:
        gone = "is gone" if not situation.target.exists else "is empty"
        return [
            Refusal(
                f"{stored.completed_chunks:,} chunks of the table are done, but the target {gone}",
                f"load it anew with --restart-table {stored.source.name}",
            )
        ]
    return []


def _listed(names: Iterable[object]) -> str:
    return ", ".join(str(name) for name in names)
