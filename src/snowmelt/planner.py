"""What exists + what was done -> what will happen, table by table, before anything moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from snowmelt.choices import Extraction, Mode
from snowmelt.chunking.chunks import Chunk, Key, QueryOnce, query_once, whole_table
from snowmelt.chunking.keys import KeyProblem, keys_of
from snowmelt.chunking.sizing import ChunkSize, chunk_size, row_bytes
from snowmelt.chunking.strategies import FAR_OVER, chunks_of, strategy_of
from snowmelt.columns import match, needed, spelled
from snowmelt.errors import CountMismatch, SnowmeltError
from snowmelt.examination import examine
from snowmelt.extraction import ROWS_PER_SECOND, Way, counted, pick, recounted
from snowmelt.incremental import plan_increment
from snowmelt.model import Relation, StoredLoad, TableJob, TargetState, into
from snowmelt.modes import mode_refusals, rights_of, rows_refusals
from snowmelt.plan import Refusal, TablePlan
from snowmelt.ports import Source
from snowmelt.preflight.indexes import index_note
from snowmelt.preflight.questions import ROWS
from snowmelt.preflight.surroundings import TargetSurroundings
from snowmelt.refusals import (
    extraction_refusals,
    fit_refusals,
    resume_refusals,
)
from snowmelt.replacement import Replacement, replace_refusals, replacement
from snowmelt.situation import Situation
from snowmelt.truncation import Action, TargetFacts, Truncation, decide


def plan_table(
    job: TableJob, source: Source, situation: Situation, *, values: bool = False
) -> TablePlan:
    """Plan a table, or take up its plan where a run left it. Reads the source, changes nothing.

    `values` has one query measure whether all values fit the target. Raises TableError when the source can't be
    described; what snowmelt would not do is in `refusals`.
    """
    truncation = _truncation(job, situation)
    if situation.resumes is not None:
        return _resumed(job, situation, situation.resumes, truncation)
    relation = source.describe(job.source)
    job = spelled(job, relation.columns)
    around = situation.surroundings
    columns = match(job, relation, situation.target, last=situation.last, around=around)
    wishes = (
        *mode_refusals(job, relation),
        *needed(job, columns),
        *extraction_refusals(job, source),
    )
    wanted = _wanted(job, relation, wishes, source, situation)
    job, relation = wanted.job, wanted.relation
    way, unreplaced = _replacing(job, around)
    fit = (
        *wanted.refusals,
        *columns.refusals,
        *fit_refusals(job, columns, situation),
        *unreplaced,
    )
    rights = rights_of(job, truncation, way)
    # By columns that are left out rows may be chosen and chunks be made all the same.
    read = columns.of(relation)
    told = wanted.notes
    if job.disable_index and around is not None and way is None:
        told = (*told, _index_note(job, read, situation, truncation))
    examined = examine(job, read, source, situation, rights, ask=not fit, values=values)
    chunking = _REFUSED
    if not wanted.refusals:
        by = replace(relation, row_bytes=read.row_bytes)
        chunking = _chunking(job, wanted.keys, by, source, situation)
    return TablePlan(
        job=job,
        table_hash=situation.table_hash,
        facts=situation.facts,
        relation=read,
        target=situation.target,
        strategy=chunking.strategy,
        reason=chunking.reason,
        chunks=chunking.chunks,
        planned_rows=chunking.rows,
        truncation=truncation,
        create=not situation.target.exists,
        mark=situation.mark,
        notes=(
            *read.notes,
            *columns.notes,
            *told,
            *chunking.notes,
            *_retention_notes(relation, situation.resume_hours),
            *examined.notes,
        ),
        refusals=(*fit, *examined.refusals, *rows_refusals(job, situation, truncation)),
        chunk_rows=chunking.size.rows,
        row_bytes=width(read),
        surroundings=around,
        added=columns.added,
        left_out=columns.left_out,
        kept=columns.kept,
        replacement=way,
    )


def _index_note(
    job: TableJob, relation: Relation, situation: Situation, truncation: Truncation
) -> str:
    merges = job.mode is not Mode.APPEND
    empty = truncation.action is Action.TRUNCATE or situation.target.has_rows is False
    found = situation.surroundings.indexes if situation.surroundings else ()
    keys = into(relation.columns, job.uniqueness_columns)
    return index_note(found, keys, merges=merges, began_empty=empty)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a job reads: of an incremental load its window alone. With what is in the way of that, and what is
    worth a line."""

    job: TableJob
    relation: Relation
    keys: tuple[Key, ...]
    refusals: tuple[Refusal, ...]
    notes: tuple[str, ...] = ()


def _wanted(
    job: TableJob,
    relation: Relation,
    wishes: tuple[Refusal, ...],
    source: Source,
    situation: Situation,
) -> _Wanted:
    """`wishes` is what is in the way by now; then no window is asked for."""
    notes: tuple[str, ...] = ()
    if job.incremental and not wishes:
        increment = plan_increment(job, relation, source, situation)
        if isinstance(increment, Refusal):
            wishes = (increment,)
        else:
            job = replace(job, source=replace(job.source, window=increment.window))
            relation = replace(relation, rows=increment.rows)
            notes = increment.notes
    keys, problems = _keys(job, relation)
    return _Wanted(job, relation, keys, (*wishes, *problems), notes)


def _replacing(
    job: TableJob, around: TargetSurroundings | None
) -> tuple[Replacement | None, tuple[Refusal, ...]]:
    """How the target is replaced, None where it is not, and what is in the way of it."""
    way = replacement(around) if job.replace else None
    if way is None:
        return None, ()
    return way, tuple(replace_refusals(way, around, keeps=bool(job.keep_previous_hours)))


def _keys(job: TableJob, relation: Relation) -> tuple[tuple[Key, ...], tuple[Refusal, ...]]:
    """The chunking columns as keys. One of the wrong kind matters only where chunks are made of it."""
    keys = keys_of(job.keys, relation)
    if not isinstance(keys, KeyProblem):
        return keys, ()
    if job.extraction is Extraction.ONE_QUERY:
        return (), ()
    return (), (Refusal(keys.what, keys.remedy),)


def _truncation(job: TableJob, situation: Situation) -> Truncation:
    return decide(
        TargetFacts(
            resuming=situation.resumes is not None,
            has_status=bool(situation.writers)
            or situation.restarts
            or situation.resumes is not None,
            has_rows=situation.target.has_rows,
            configured=job.refreshes,
            ours=situation.ours,
            allowed=situation.allowed,
        ),
        situation.target_rows,
    )


def unplannable(job: TableJob, error: SnowmeltError) -> TablePlan:
    """The plan of a table that can't be planned: a refusal, so that a plan tells of every table."""
    remedy = error.remedy or "correct what the message names"
    return TablePlan(
        job=job,
        table_hash="",
        facts={},
        relation=Relation((), (), {}),
        target=TargetState(exists=False),
        strategy="none",
        reason="the table can't be planned",
        chunks=(),
        planned_rows=None,
        truncation=decide(TargetFacts(False, False, None, job.truncate_onstart)),
        refusals=(
            Refusal(f"column {error.column}: {error.what}" if error.column else error.what, remedy),
        ),
    )


@dataclass(frozen=True, slots=True)
class Chunking:
    """How a table is cut: the strategy and why, the chunks, and the rows, None where nothing holds them still."""

    strategy: str
    reason: str
    chunks: tuple[Chunk, ...]
    rows: int | None
    size: ChunkSize
    notes: tuple[str, ...] = ()


_REFUSED = Chunking("none", "the table is refused", (), 0, ChunkSize(0, ""))


def width(relation: Relation) -> int:
    """What a row weighs on the way, in bytes: as the source knows it, or by its types."""
    return relation.row_bytes or row_bytes(relation.columns)


def _chunking(
    job: TableJob, keys: tuple[Key, ...], relation: Relation, source: Source, situation: Situation
) -> Chunking:
    def size_for(rows: int | None) -> ChunkSize:
        return chunk_size(
            job.batch_size,
            width(relation),
            rows=rows,
            workers=job.parallel_threads,
            deadline_seconds=situation.deadline_seconds,
        )

    size = size_for(relation.rows)
    way = pick(job, keys, relation, source, size.rows)
    if way.keys:
        of = (job.source, way.keys, source, relation.snapshot)
        histogram = counted(*of, size.rows, relation.rows)
        size = size_for(histogram.rows)
        histogram = recounted(histogram, *of, size.rows)
        chunks, rows = chunks_of(histogram, size.rows), histogram.rows
        made = Chunking(_name(way.keys[0]), _reason(way, size), chunks, rows, size)
        made = replace(made, notes=_heavy_notes(made, way.keys))
    else:
        known = relation.rows
        rows = _count(job, source, relation) if known is None else known
        size = size_for(rows)
        if way.extraction is Extraction.ONE_QUERY:
            made = Chunking("ResultSetStrategy", _reason(way, size), query_once(), rows, size)
        else:
            made = Chunking("whole table", way.reason, whole_table(rows), rows, size)
    if relation.exact:
        _require_total(made, relation, str(job.source))
        return made
    # Rows come and go while it is read: what was counted once is no measure.
    uncounted = tuple(Chunk(chunk.id, chunk.range, _of_query(chunk)) for chunk in made.chunks)
    return replace(made, chunks=uncounted, rows=None)


def _count(job: TableJob, source: Source, relation: Relation) -> int:
    (rows,) = source.measure(job.source, (ROWS,), relation.snapshot)
    return int(rows or 0)


def _require_total(made: Chunking, relation: Relation, table: str) -> None:
    """Raise CountMismatch unless the chunks hold as many rows as the table was counted to have.

    Each chunk's rows are from another query than the table's: where they agree, none is missing and none is twice.
    """
    if any(isinstance(chunk.range, QueryOnce) for chunk in made.chunks):
        return
    planned = sum(chunk.planned_rows or 0 for chunk in made.chunks)
    for counted_rows in (made.rows, relation.rows):
        if counted_rows is not None and counted_rows != planned:
            raise CountMismatch(
                f"the chunks hold {planned:,} rows, and the table has {counted_rows:,}",
                table=table,
                remedy="the source counts one snapshot differently from query to query: "
                "is it being changed, or its policies?",
            )


def _name(key: Key) -> str:
    return type(strategy_of(key.kind)).__name__


def _reason(way: Way, size: ChunkSize) -> str:
    by = f"ranges of {', '.join(key.column for key in way.keys)} ({way.reason})"
    return f"{by if way.keys else way.reason}; about {size.rows:,} rows a chunk: {size.reason}"


def _heavy_notes(chunking: Chunking, keys: Sequence[Key]) -> tuple[str, ...]:
    """What no key could split."""
    limit = FAR_OVER * chunking.size.rows
    heavy = [rows for chunk in chunking.chunks if (rows := chunk.planned_rows or 0) > limit]
    if not heavy:
        return ()
    names = ", ".join(f'"{key.column}"' for key in keys)
    many = "1 chunk has" if len(heavy) == 1 else f"{len(heavy):,} chunks have"
    return (
        f"{many} more than twice as many rows, the largest {max(heavy):,}: their rows share one value of {names}, "
        "which a further column in chunking_columns would split, or have values that no bound tells apart, such "
        "as dates before the year 1",
    )


def _of_query(chunk: Chunk) -> int | None:
    return 0 if isinstance(chunk.range, QueryOnce) else None


def _resumed(
    job: TableJob, situation: Situation, stored: StoredLoad, truncation: Truncation
) -> TablePlan:
    job = replace(spelled(job, stored.columns), source=replace(job.source, window=stored.window))
    left = stored.chunks - stored.completed_chunks
    return TablePlan(
        job=job,
        table_hash=situation.table_hash,
        facts=situation.facts,
        relation=Relation(stored.columns, stored.key, stored.snapshot, comment=stored.comment),
        target=situation.target,
        strategy="as planned",
        reason=f"{stored.completed_chunks:,} of {stored.chunks:,} chunks are done, {left:,} are left",
        chunks=(),
        planned_rows=stored.planned_rows,
        truncation=truncation,
        create=stored.create,
        chunk_rows=stored.chunk_rows,
        row_bytes=stored.row_bytes,
        surroundings=situation.surroundings,
        resumes=stored,
        refusals=tuple(resume_refusals(situation, stored)),
    )


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
