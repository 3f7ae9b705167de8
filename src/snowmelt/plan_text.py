"""A plan as facts with labels: what a library prints as text, and the command line with colours."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum

from snowmelt.choices import Mode
from snowmelt.estimates.chunk_sizes import ChunkSizes
from snowmelt.estimates.credits import WarehouseTime
from snowmelt.estimates.disk import DiskNeed
from snowmelt.estimates.estimate import Circumstances, RunEstimate, TableEstimate
from snowmelt.estimates.memory import Memory
from snowmelt.estimates.snapshots import snapshot_facts
from snowmelt.formats import counted, size, span, utc
from snowmelt.preflight.surroundings import problems
from snowmelt.refusal import Refusal
from snowmelt.table_plan import TablePlan
from snowmelt.types import created_type

UNKNOWN = "not known"


class Tone(StrEnum):
    """How much a fact should catch the eye."""

    PLAIN = "plain"
    WARNING = "warning"
    REFUSAL = "refusal"


@dataclass(frozen=True, slots=True)
class Fact:
    """One line: a label of a word, and what there is to say. `detail` is for those who ask for all."""

    label: str
    text: str
    tone: Tone = Tone.PLAIN
    detail: bool = False


def plain(facts: Iterable[Fact], *, details: bool = False) -> list[str]:
    """Facts as lines of text, aligned behind their labels."""
    return [
        textwrap.indent(f"{fact.label:<11} {fact.text}", "    ")
        for fact in facts
        if details or not fact.detail
    ]


def table_facts(table: TablePlan, part: TableEstimate) -> list[Fact]:
    """What will happen to one table, the problems last."""
    facts = [Fact("strategy", f"{table.strategy}: {table.reason}")]
    if part.chunks is not None or part.rows is not None:
        facts += [Fact("rows", _rows(table, part)), Fact("chunks", chunks_text(table, part))]
        facts += [*_classes(part.sizes), *_takes(part)]
    facts += [*_snapshot(table), *_target(table), *_around(table)]
    if table.strategy != "none":
        facts.append(Fact("mode", _mode(table)))
    decision = table.truncation
    if table.strategy != "none":
        facts.append(Fact("truncation", f"{decision.action.value} ({decision.reason})"))
    facts += [Fact("note", note) for note in table.notes if _labelled(note) is None]
    return facts + refusal_facts(table.refusals)


def _mode(table: TablePlan) -> str:
    """What becomes of rows whose key is there."""
    job = table.job
    key = ", ".join(_name(name) for name in job.uniqueness_columns)
    if job.replace:
        return f"replace {table.replacement.note if table.replacement else 'as it was planned'}"
    match job.mode:
        case Mode.APPEND:
            return "append: nobody looks whether a row is there"
        case Mode.INSERT_ONLY if key:
            return f"insert_only: a row whose {key} is there is skipped and counted"
        case Mode.INSERT_ONLY:
            return "insert_only: a row that a unique index refuses is skipped and counted"
        case Mode.UPSERT if job.source_watermark is not None:
            return f"upsert by {key}: the row with the newer {_name(job.source_watermark)} stays"
        case Mode.UPSERT:
            return f"upsert by {key}: the row of the source stays"


def refusal_facts(refusals: Iterable[Refusal]) -> list[Fact]:
    """What stands in the way, each with what would clear it."""
    return [Fact("REFUSED", str(refusal), Tone.REFUSAL) for refusal in refusals]


def _rows(table: TablePlan, part: TableEstimate) -> str:
    if part.rows is None or part.bytes is None:
        return "not counted"
    text = (
        f"{counted(part.rows, 'row')}{' left' if table.resumes else ''}, about {size(part.bytes)}"
    )
    return f"{text} at {counted(part.row_bytes, 'byte')} a row"


def chunks_text(table: TablePlan, part: TableEstimate) -> str:
    """How many chunks are left, how large they are, and a bar for each class of sizes."""
    if part.one_query:
        about = "" if part.chunks is None else f": about {counted(part.chunks, 'chunk')}"
        return (
            "the query runs once, as the first step; groups of its result's batches are the chunks"
            + about
        )
    text = counted(part.chunks or 0, "chunk")
    if table.resumes is not None:
        return f"{text} left of {table.resumes.chunks:,}"
    sizes = part.sizes
    if sizes.largest is None:
        return text
    if sizes.smallest == sizes.largest:
        each = " each" if part.chunks != 1 else ""
        return f"{text} of {counted(sizes.largest, 'row')}{each}"
    text += (
        f": smallest {sizes.smallest:,}, median {sizes.median:,}, largest {sizes.largest:,} rows"
    )
    return f"{text}  {sizes.bars}" if len(sizes.bins) > 1 else text


def _classes(sizes: ChunkSizes) -> list[Fact]:
    """How many chunks are of which size."""
    filled = [one for one in sizes.bins if one.chunks]
    if len(filled) < 2:
        return []
    return [
        Fact("", f"{one.low:,} to {one.high:,} rows: {counted(one.chunks, 'chunk')}", detail=True)
        for one in filled
    ]


def _takes(part: TableEstimate) -> list[Fact]:
    facts = []
    if part.seconds is not None:
        facts.append(Fact("time", _time(part)))
    if part.warehouse is not None:
        facts.append(Fact("warehouse", warehouse_text(part.warehouse)))
    if part.disk is not None:
        disk = part.disk
        facts.append(
            Fact(
                "disk",
                f"about {size(disk.heap)} of rows"
                + (f", {size(disk.indexes)} of indexes" if disk.indexes else "")
                + f", {size(disk.wal)} of WAL",
            )
        )
    return facts


def _time(part: TableEstimate) -> str:
    if part.seconds is None:
        return UNKNOWN
    if not part.bytes:
        return "nothing to load"
    return f"{span(part.seconds.low, part.seconds.high)} with {counted(part.workers, 'worker')}"


def warehouse_text(time: WarehouseTime) -> str:
    """How long a warehouse works, and what that costs."""
    name = time.name or "the user's default"
    costs = ", ".join(
        f"{one.size} {span(one.credits.low, one.credits.high, credits_text)}"
        for one in time.credits
    )
    return f"{name} works {span(time.seconds.low, time.seconds.high)}; in credits: {costs}"


def credits_text(credits: float) -> str:
    """To two digits after the point, or to two that say something.

    >>> credits_text(12.345), credits_text(0.0167)
    ('12.35', '0.017')
    """
    return f"{credits:,.2f}" if credits >= 0.1 else f"{credits:.2g}"


def _labelled(note: str) -> Fact | None:
    """A note that a source has put a label of its own to."""
    label, _, text = note.partition(": ")
    return Fact(label, text) if label in ("snapshot", "filter") and text else None


_KINDS = {"time_travel": "Time Travel", "clone": "a clone"}


def _snapshot(table: TablePlan) -> list[Fact]:
    facts = [fact for note in table.notes if (fact := _labelled(note)) is not None]
    known = snapshot_facts(table.relation.snapshot)
    if not facts and known.files:
        bytes = sum(bytes for _, bytes in known.files)
        files = f"{counted(len(known.files), 'file')} of {size(bytes)}, which must not change"
        facts.append(Fact("snapshot", files))
    if not facts and known.moment is not None and known.kind is not None:
        kind = _KINDS.get(known.kind)
        told = (
            f"{kind} of {utc(known.moment)}" if kind else f"{known.kind}, so the load is NOT exact"
        )
        facts.append(Fact("snapshot", told))
    if known.kind == "none":
        facts = [replace(fact, tone=Tone.WARNING) for fact in facts]
    hours = table.relation.retention_hours
    if hours is not None:
        until = (
            "" if known.moment is None else f", until {utc(known.moment + timedelta(hours=hours))}"
        )
        facts.append(Fact("retention", f"{hours:g} hours{until}"))
    return facts


def _target(table: TablePlan) -> list[Fact]:
    columns = table.relation.columns
    if not columns:
        return []
    where = f"{table.job.target} in {table.job.target.database}"
    if not table.create:
        given = counted(len(columns), "column")
        there = len(table.target.columns)
        if not table.added:
            return [Fact("target", f"{where}, as it stands, gets {given} of {there:,}")]
        return [Fact("target", f"{where} gets {given}, {len(table.added):,} of them new")]
    if table.target.exists:
        return [Fact("target", f"{where} was created by this run")]
    text = f"{where} is created with {counted(len(columns), 'column')}"
    key = table.primary_key
    if table.unique:
        kind = "primary" if table.unique_is_primary else "unique"
        text += f", and with its {kind} key ({_names(table.unique)})"
    if key and table.resumes is None:
        text += f", and with its primary key ({_names(key)}) at the end"
    listed = ", ".join(
        f"{_name(column.into)} {created_type(column.type, column.source_type)}"
        + ("" if column.nullable else " NOT NULL")
        for column in columns
    )
    return [Fact("target", text), Fact("columns", listed, detail=True)]


def _around(table: TablePlan) -> list[Fact]:
    """What fires or is checked with each row, and what else the target's catalogue tells."""
    around = table.surroundings
    if around is None:
        return []
    told = [note for note in problems(around).notes if note not in table.notes]
    facts = [Fact("target", note, Tone.WARNING) for note in told]
    checked = [key for key in around.foreign_keys if key.checked]
    if around.exists and not checked and not any(trigger.fires for trigger in around.triggers):
        facts.insert(0, Fact("target", "no trigger fires, and no foreign key is checked"))
    return facts


def run_facts(whole: RunEstimate, around: Circumstances, notes: Sequence[str] = ()) -> list[Fact]:
    """What all tables take together, and whether there is room for it."""
    text = f"{counted(len(whole.tables), 'table')}, {counted(whole.rows, 'row')} to load, "
    text += f"about {size(whole.bytes)}, {counted(whole.chunks, 'chunk')}"
    if whole.uncounted:
        text += (
            f"; {counted(whole.uncounted, 'table is', 'tables are')} not counted and not in here"
        )
    facts = [Fact("in all", text)]
    time = span(whole.seconds.low, whole.seconds.high)
    workers = counted(whole.busy, "worker")
    if whole.busy < whole.workers:
        workers += f", as there are no chunks for all {whole.workers}"
    facts.append(Fact("time", f"{time} with {workers}" if whole.bytes else "nothing to load"))
    if whole.memory is not None:
        facts.append(memory_fact(whole.memory))
    facts.append(disk_fact(whole.disk))
    facts += [Fact("warehouse", warehouse_text(one)) for one in whole.warehouses]
    if around.without_ledger:
        names = ", ".join(around.without_ledger)
        facts.append(Fact("ledger", f"the schema migration_status is created in {names}"))
    return facts + [Fact("note", note) for note in notes]


def memory_fact(memory: Memory) -> Fact:
    """What the process may hold, and whether there is so much."""
    text = (
        f"up to {size(memory.bytes)}: {size(memory.base)}, and {counted(memory.workers, 'worker')} "
        f"x {size(memory.per_worker)}"
    )
    if memory.cache:
        text += f"; while there is room, also up to {size(memory.cache)} of files that were read"
    if memory.limit is None:
        return Fact("memory", f"{text}; how much there is, is {UNKNOWN}")
    there = f"{size(memory.limit.bytes)} ({memory.limit.what})"
    if memory.fits:
        return Fact("memory", f"{text}; fits into {there}")
    fitting = max(memory.fitting_workers or 0, 1)
    text += f"; more than {there}: about {counted(fitting, 'worker')} at a time, the others wait for memory"
    return Fact("memory", text, Tone.WARNING)


def disk_fact(disk: DiskNeed) -> Fact:
    """What the target's disk has to take, and whether there is room."""
    text = f"about {size(disk.tables)} for the tables, {size(disk.wal)} of WAL"
    if disk.free is None:
        return Fact("disk", f"{text}; how much is free on the target, is {UNKNOWN}")
    free = f"{size(disk.free)} that are free"
    if disk.fits:
        return Fact("disk", f"{text}; fits into {free}")
    if disk.fits_without_wal:
        return Fact(
            "disk",
            f"{text}; fits into {free} only as the server recycles its WAL: no archiving or "
            "replication may hold it back",
            Tone.WARNING,
        )
    return Fact("disk", f"{text}; TOO MUCH for {free}: make room first", Tone.WARNING)


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _names(names: Iterable[str]) -> str:
    return ", ".join(map(_name, names))
