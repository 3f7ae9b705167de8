"""Which rows an incremental load reads: from the mark, less an overlap, up to the newest of the snapshot."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

from snowmelt.choices import Mode
from snowmelt.chunking.bounds import Bound, Timestamp
from snowmelt.chunking.chunks import Key, KeyKind
from snowmelt.chunking.keys import KeyProblem, key_of
from snowmelt.chunking.window import Window
from snowmelt.model import ChunkKey, Mark, Relation, TableJob
from snowmelt.ports import Source
from snowmelt.refusal import Refusal
from snowmelt.situation import Situation

OVERLAP_SECONDS = 3_600
"""Read once more where a row that is there is found by its key: a transaction that commits late has rows that are
older than some that were there before it."""
_KINDS = frozenset({KeyKind.DATE, KeyKind.TIMESTAMP, KeyKind.INSTANT, KeyKind.NUMBER})


@dataclass(frozen=True, slots=True)
class Increment:
    """The window of a load, the rows in it where they were counted, and what is worth a line."""

    window: Window
    rows: int | None
    notes: tuple[str, ...]


def plan_increment(
    job: TableJob, relation: Relation, source: Source, situation: Situation
) -> Increment | Refusal:
    """The window by the mark of the table, fixed from here on. Asks the source once."""
    column = job.source_watermark or ""
    key = key_of(ChunkKey(column, None), relation)
    if isinstance(key, KeyProblem):
        return Refusal(key.what, key.remedy.replace("chunking_columns", "source_watermark"))
    if key.kind not in _KINDS:
        return Refusal(
            f'source_watermark "{column}" is neither a time nor a whole or decimal number',
            "name the column that says when a row changed",
        )
    mark = situation.mark if situation.target.has_rows else None
    low: Bound | None = None
    if mark is not None:
        found = _behind(mark, key, job)
        if isinstance(found, Refusal):
            return found
        low = found
    notes = _notes(job, situation, mark)
    return _up_to_newest(job, relation, source, Window(key, low), mark, notes)


def _up_to_newest(
    job: TableJob,
    relation: Relation,
    source: Source,
    begins: Window,
    mark: Mark | None,
    notes: tuple[str, ...],
) -> Increment | Refusal:
    key, low = begins.key, begins.low
    appends = job.mode is Mode.APPEND
    beyond = replace(job.source, window=begins)
    latest = source.latest(beyond, key, relation.snapshot)
    if appends and latest.nulls:
        return Refusal(
            f'{latest.nulls:,} rows have no "{key.column}": nothing tells whether they were loaded before',
            "name uniqueness_columns, by which a row that is there is found, or filter them out",
        )
    # Of rows with the newest value more may come, and what is appended can't be read twice: these wait.
    newest = latest.value
    if mark is not None:
        # Without an end, rows that come before they are read would be loaded, and the mark would not tell.
        newest = mark.value if newest is None else max(newest, mark.value)
    window = Window(key, low, newest, closed=not appends, nulls=not appends)
    rows = None if appends else latest.rows
    span = f"{'from ' + str(low) if low is not None else 'from the first row'} "
    if latest.value is None:
        told = f"watermark {key.column}: {span}on there is no row with one"
    else:
        told = f"watermark {key.column}: {span}up to {latest.value}"
    if appends:
        told += "; rows with that value wait for the next run, since more of them may come"
    elif latest.nulls:
        told += f", and {latest.nulls:,} rows without one"
    return Increment(window, rows, (told, *notes))


def _behind(mark: Mark, key: Key, job: TableJob) -> Bound | Refusal:
    """Where to begin: the mark, less the overlap."""
    if mark.column != key.column or not is_of(mark.value, key.kind):
        return Refusal(
            f'the mark of the table is {mark.value} of "{mark.column}", and source_watermark is "{key.column}"',
            f"set source_watermark back to {mark.column}; or truncate the target, which drops the mark",
        )
    seconds = job.overlap_seconds
    if seconds is None:
        seconds = OVERLAP_SECONDS if key.kind.is_time and job.mode is not Mode.APPEND else 0
    if seconds and job.mode is Mode.APPEND:
        return Refusal(
            "overlap_seconds reads rows again, and mode append would double them",
            "set overlap_seconds to 0, or name uniqueness_columns with mode insert_only or upsert",
        )
    if seconds and key.kind is KeyKind.NUMBER:
        return Refusal(
            f'overlap_seconds is a time, and source_watermark "{key.column}" is a number',
            "set overlap_seconds to 0",
        )
    return _earlier(mark.value, seconds)


def is_of(value: Bound, kind: KeyKind) -> bool:
    """Whether a value is one of such a watermark."""
    match value:
        case Timestamp():
            return kind is (KeyKind.INSTANT if value.is_instant else KeyKind.TIMESTAMP)
        case date():
            return kind is KeyKind.DATE
        case str() | float():
            return False
    return kind is KeyKind.NUMBER


def _earlier(value: Bound, seconds: int) -> Bound:
    """The value so much before, not before the first day that there is."""
    try:
        match value:
            case Timestamp(at, nanosecond):
                return Timestamp(at - timedelta(seconds=seconds), nanosecond)
            case date() if not isinstance(value, datetime):
                return value - timedelta(days=math.ceil(seconds / 86_400))
    except OverflowError:
        match value:
            case Timestamp(at, _):
                return Timestamp(datetime.min.replace(tzinfo=at.tzinfo))
            case date():
                return date.min
    return value


def _notes(job: TableJob, situation: Situation, mark: Mark | None) -> tuple[str, ...]:
    notes = []
    if mark is None and situation.mark is not None:
        notes.append("the target is empty: its mark is not used, and all rows are read")
    if mark is None and situation.mark is None and situation.target.has_rows:
        notes.append(
            "the target has rows and no mark: all rows of the source are read; `snowmelt adopt` would begin at "
            "the target's newest row"
        )
    if mark is not None and mark.filter != job.source.filter:
        notes.append(
            "source_filter is another than when the mark was set: rows that only it lets through, and that are "
            "older than the mark, are not read"
        )
    if job.mode is Mode.APPEND:
        notes.append("a row that comes later with an older watermark than the mark is not seen")
    return tuple(notes)
