"""What a plan will take: time, a warehouse's credits, memory, disk. Guesses, from the plan alone.

Each figure is of what is left to do: a resumed table counts without the chunks that are done.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from snowmelt.chunking.chunks import QueryOnce
from snowmelt.chunking.sizing import BYTES_PER_SECOND, row_bytes
from snowmelt.estimates.chunk_sizes import ChunkSizes, chunk_sizes
from snowmelt.estimates.credits import WarehouseTime
from snowmelt.estimates.disk import Disk, DiskNeed, table_disk
from snowmelt.estimates.memory import (
    Cache,
    Flow,
    Load,
    Memory,
    MemoryLimit,
    cached_bytes,
    worker_bytes,
)
from snowmelt.estimates.ranges import Range
from snowmelt.estimates.snapshots import snapshot_facts
from snowmelt.model import Column, into
from snowmelt.replacement import Way
from snowmelt.table_plan import TablePlan

SLOW, FAST = BYTES_PER_SECOND, 100_000_000
"""What one worker moves in a second, in bytes of COPY: what chunks are sized by, and a little more than the 88 MB
that `snowmelt migrate` of 1.4 GB reached on 2 cores which it shared with the server."""
SLOW_SERVER, FAST_SERVER = 60_000_000, 280_000_000
"""What a server takes from all connections, by what two of them gave on 2 cores that client and server shared:
rows of 2.7 kB, encoded on the way, and rows of 200 bytes, encoded beforehand."""
CHUNK_SECONDS = Range(0.003, 0.02)
"""A chunk's claim and commits, whatever its rows: 10,000 chunks of one row took 58 s on 2 busy cores."""
QUERY_SECONDS = Range(0.2, 2.0)
"""Until a chunk's query gives its first rows: a guess, for a key that the table is clustered by."""
SLOW_SCAN, FAST_SCAN = 20_000_000, 200_000_000
"""Bytes of a table's one query that a warehouse leaves in its result in a second: a guess."""


@dataclass(frozen=True, slots=True)
class SourceKind:
    """What estimates need to know of a source."""

    flow: Flow
    on_warehouse: bool = False
    """Its queries run on a warehouse, whose time costs credits."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a run has to work with; what is None or missing is not known."""

    sources: Mapping[str, SourceKind] = field(default_factory=dict)
    """By their names in the config."""
    memory_limit: MemoryLimit | None = None
    free_bytes: int | None = None
    """On the disk of the target's server."""
    warehouse_sizes: Mapping[str, str] = field(default_factory=dict)
    """By the warehouses' names, as Snowflake calls them: X-Small."""
    without_ledger: tuple[str, ...] = ()
    """Target databases in which the ledger will be created."""


NOTHING_KNOWN = Circumstances()


@dataclass(frozen=True, slots=True)
class TableEstimate:
    """What is left to do of one table. None where it is not known, or the table is not planned."""

    chunks: int | None
    """Those of one query, which its result will make, by the rows aimed at."""
    sizes: ChunkSizes
    rows: int | None
    row_bytes: int
    bytes: int | None
    """On the way to the target, as COPY takes them."""
    workers: int
    """That can be at work in it at a time."""
    seconds: Range | None
    warehouse: WarehouseTime | None
    disk: Disk | None
    one_query: bool = False
    """Its rows come from one query that is still to run, and the warehouse may rest after that."""


@dataclass(frozen=True, slots=True)
class RunEstimate:
    """What is left to do of all tables together. `tables` are those of the plan, in its order."""

    tables: tuple[TableEstimate, ...]
    uncounted: int
    """Planned tables whose rows are not known: the figures are without them."""
    chunks: int
    rows: int
    bytes: int
    workers: int
    """As many as are started."""
    busy: int
    """As many of them as there are chunks for."""
    seconds: Range
    memory: Memory | None
    """None where nothing is known of the sources."""
    disk: DiskNeed
    warehouses: tuple[WarehouseTime, ...]


def estimate(tables: Sequence[TablePlan], around: Circumstances) -> RunEstimate:
    """Of all tables of a plan: one crew works them, with as many workers as the table that asks for the most."""
    planned = [table for table in tables if _is_planned(table)]
    workers = max((table.job.parallel_threads for table in planned), default=1)
    parts = tuple(_table(table, workers, around) for table in tables)
    known = [part for part in parts if part.bytes is not None]
    disks = [part.disk for part in parts if part.disk is not None]
    chunks = sum(part.chunks or 0 for part in parts)
    endless = any(part.chunks is None for part in parts if part.workers)
    busy = workers if endless else min(workers, chunks)
    return RunEstimate(
        tables=parts,
        uncounted=len(planned) - len(known),
        chunks=chunks,
        rows=sum(part.rows or 0 for part in parts),
        bytes=sum(part.bytes or 0 for part in parts),
        workers=workers,
        busy=busy,
        seconds=_together(known, workers),
        memory=_memory(list(zip(tables, parts, strict=True)), busy, around),
        disk=DiskNeed(sum(d.tables for d in disks), sum(d.wal for d in disks), around.free_bytes),
        warehouses=tuple(_warehouses(known, workers, around)),
    )


def load_seconds(bytes: int, workers: int) -> Range:
    """How long `workers` move bytes of COPY, where nothing else holds them up."""
    return Range(bytes / min(workers * FAST, FAST_SERVER), bytes / min(workers * SLOW, SLOW_SERVER))


def _is_planned(table: TablePlan) -> bool:
    return bool(table.chunks) or table.resumes is not None


def _table(table: TablePlan, workers: int, around: Circumstances) -> TableEstimate:
    width = table.row_bytes or row_bytes(table.relation.columns)
    sizes = chunk_sizes(c.planned_rows for c in table.chunks if not isinstance(c.range, QueryOnce))
    if not _is_planned(table):
        return TableEstimate(None, sizes, None, width, None, 0, None, None, None)
    rows = _rows_left(table)
    chunks = _chunks_left(table, rows)
    busy = workers if chunks is None else min(workers, chunks)
    if rows is None:
        return TableEstimate(chunks, sizes, None, width, None, busy, None, None, None)
    kind = around.sources.get(table.job.source_name)
    seconds, works = _seconds(rows * width, busy), None
    seconds += CHUNK_SECONDS * ((chunks or 0) / max(busy, 1))
    if kind is not None and kind.on_warehouse and rows:
        if _is_one_query(table):
            works = Range(rows * width / FAST_SCAN, rows * width / SLOW_SCAN)
            seconds += works
        else:
            works = seconds = seconds + QUERY_SECONDS * ((chunks or 0) / max(busy, 1))
    name = table.job.source.warehouse
    return TableEstimate(
        chunks,
        sizes,
        rows,
        width,
        rows * width,
        busy,
        seconds,
        None if works is None else _warehouse(name, works, around),
        _disk(table, rows, width),
        _is_one_query(table),
    )


def _warehouse(name: str | None, works: Range, around: Circumstances) -> WarehouseTime:
    return WarehouseTime(name, works, around.warehouse_sizes.get(name or ""))


def _is_one_query(table: TablePlan) -> bool:
    return any(isinstance(chunk.range, QueryOnce) for chunk in table.chunks)


def _rows_left(table: TablePlan) -> int | None:
    stored = table.resumes
    rows = table.planned_rows if table.planned_rows is not None else table.relation.rows
    if stored is not None and stored.completed:
        return 0
    if rows is None or stored is None:
        return rows
    return max(rows - stored.completed_rows, 0)


def _chunks_left(table: TablePlan, rows: int | None) -> int | None:
    if table.resumes is not None:
        return table.resumes.chunks - table.resumes.completed_chunks
    if not _is_one_query(table):
        return len(table.chunks)
    return None if rows is None else -(-rows // max(table.chunk_rows, 1))


def _seconds(bytes: int, workers: int) -> Range:
    return load_seconds(bytes, workers) if workers else Range(0, 0)


def _together(parts: Sequence[TableEstimate], workers: int) -> Range:
    """Of tables side by side: as long as all their bytes and queries take, and as the slowest of them."""
    chunks = sum(part.chunks or 0 for part in parts)
    queries = sum(part.chunks or 0 for part in parts if part.warehouse and not part.one_query)
    total = _seconds(sum(part.bytes or 0 for part in parts), min(workers, chunks))
    total += QUERY_SECONDS * (queries / workers) + CHUNK_SECONDS * (chunks / workers)
    for part in parts:
        total = total.at_least(part.seconds or Range(0, 0))
    return total


def _warehouses(
    parts: Sequence[TableEstimate], workers: int, around: Circumstances
) -> Iterator[WarehouseTime]:
    """Each warehouse with the time of all its tables: with a query for each chunk one runs at any time."""
    for name in dict.fromkeys(part.warehouse.name for part in parts if part.warehouse):
        mine = [part for part in parts if part.warehouse and part.warehouse.name == name]
        works = _together([part for part in mine if not part.one_query], workers)
        for part in mine:
            if part.one_query and part.warehouse:
                works += part.warehouse.seconds
        yield _warehouse(name, works, around)


def _disk(table: TablePlan, rows: int, width: int) -> Disk:
    columns = table.relation.columns
    around = table.surroundings
    # Of a table that is there: an index with a condition counts as if it had none.
    keys = list(table.target.unique_keys)
    if around is not None and around.indexes:
        keys = [index.columns for index in around.indexes]
    if table.create and table.relation.primary_key and not keys:
        keys = [into(columns, table.relation.primary_key)]  # made at the end
    twice = table.replacement is not None and table.replacement.way is Way.REFILL
    disk = table_disk(
        rows,
        max(width - 2 - 4 * len(columns), 0),  # COPY counts the row's values, and each one's bytes
        [_width(columns, key) for key in keys],
        nulls=sum(column.nullable for column in columns),
        logged=around is None or not around.unlogged,
    )
    # The table in the target's stead, and the target that is filled from it, before what it held is gone.
    return Disk(2 * disk.heap, disk.indexes, disk.wal + disk.heap) if twice else disk


def _width(columns: Iterable[Column], names: Iterable[str]) -> int:
    """Of the values of some columns, by the target's names."""
    wanted = frozenset(names)
    found = [column for column in columns if column.into in wanted]
    return row_bytes(found) - 2 - 4 * len(found)


def _memory(
    tables: Sequence[tuple[TablePlan, TableEstimate]], workers: int, around: Circumstances
) -> Memory | None:
    """Of the heaviest table for each worker, since any worker may come to hold a chunk of it."""
    heaviest, base = 0, 0
    files: dict[tuple[str, str], tuple[Cache, int]] = {}
    for table, part in tables:
        kind = around.sources.get(table.job.source_name)
        if kind is None or not _is_planned(table):
            continue
        base = max(base, kind.flow.base)
        largest = part.sizes.largest
        load = Load(
            part.row_bytes,
            _width(table.relation.columns, into(table.relation.columns, table.key)),
            None if largest is None else largest * part.row_bytes,
        )
        heaviest = max(heaviest, worker_bytes(kind.flow, load))
        for name, bytes in snapshot_facts(table.relation.snapshot).files:
            files[table.job.source_name, name] = (kind.flow.cache, bytes)
    if not base:
        return None
    limit = around.memory_limit
    cache = cached_bytes(files.values(), workers, limit.bytes if limit else None)
    return Memory(base, heaviest, workers, cache, limit)
