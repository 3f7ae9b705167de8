"""The frozen values that the rooms hand each other. No I/O, no driver, no config file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import pyarrow as pa

from snowmelt.choices import (
    ColumnNames,
    Extraction,
    KeyType,
    Mode,
    NewColumns,
    NulCharacters,
    Snapshot,
)
from snowmelt.chunking.bounds import Bound
from snowmelt.chunking.chunks import Chunk
from snowmelt.chunking.window import Window

DEFAULT_CHUNK_ROWS = 100_000
"""Of tables that release 0.2.0 planned, which stored none."""


@dataclass(frozen=True, slots=True)
class ChunkKey:
    """A chunking column; `type` is None where the config leaves it to the source's type."""

    column: str
    type: KeyType | None


@dataclass(frozen=True, slots=True)
class SourceTable:
    """Where rows come from. For files `name` is a path or glob below the folder.

    `warehouse` runs the table's queries, and `snapshot` says how they agree; files have neither.
    """

    database: str
    schema: str
    name: str
    filter: str | None = None
    warehouse: str | None = None
    snapshot: Snapshot = Snapshot.TIME_TRAVEL
    window: Window | None = None
    """Of its rows those that an incremental load reads; all where it is None."""

    def __str__(self) -> str:
        return ".".join(part for part in (self.database, self.schema, self.name) if part)


@dataclass(frozen=True, slots=True)
class TargetTable:
    """Where rows go: one PostgreSQL table, names exactly as written."""

    database: str
    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Column:
    """A source column: its name, its Arrow type, and the type as the source spells it."""

    name: str
    type: pa.DataType
    nullable: bool = True
    source_type: str = ""
    target: str | None = None
    """The target's name of it, where that is another."""
    comment: str = ""

    @property
    def into(self) -> str:
        """The target column that takes it."""
        return self.name if self.target is None else self.target


def into(columns: Iterable[Column], names: Iterable[str]) -> tuple[str, ...]:
    """The target's names of some columns of the source; a name that is none of theirs stays."""
    found = {column.name: column.into for column in columns}
    return tuple(found.get(name, name) for name in names)


@dataclass(frozen=True, slots=True)
class Relation:
    """A source table as found: columns in order, primary key, and the snapshot they belong to.

    `snapshot` is a JSON-ready value that only its source understands; reading a chunk with it gives the
    rows of that moment or raises SourceChanged. `exact` is False where nothing holds the rows still.
    """

    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    snapshot: Mapping[str, object]
    exact: bool = True
    retention_hours: float | None = None
    """How long the snapshot can be read; None where it does not pass by itself."""
    rows: int | None = None
    """Rows of the snapshot that pass the filter, where describing it counted them."""
    notes: tuple[str, ...] = ()
    """What a plan should tell of the table, a line each."""
    clustering: tuple[str, ...] = ()
    """Columns that the table is clustered by, as far as they are columns or days of them."""
    row_bytes: int | None = None
    """What a row weighs, where the source knows or measured it."""
    comment: str = ""

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)


@dataclass(frozen=True, slots=True)
class TargetColumn:
    """A column of an existing target table; `type` as `format_type` spells it."""

    name: str
    type: str
    nullable: bool
    has_default: bool = False
    generated: bool = False


@dataclass(frozen=True, slots=True)
class TargetState:
    """What stands in the target before a table is loaded. None means: could not be found out."""

    exists: bool
    columns: tuple[TargetColumn, ...] = ()
    has_rows: bool | None = False
    unique_keys: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class TableJob:
    """One table of a config, with every setting resolved: table over source over global."""

    source_name: str
    source: SourceTable
    target: TargetTable
    keys: tuple[ChunkKey, ...] = ()
    batch_size: int | None = None
    """Rows of a chunk, about; None leaves it to `sizing`."""
    parallel_threads: int = 4
    extraction: Extraction = Extraction.AUTO
    max_retry_attempts: int = 5
    uniqueness_columns: tuple[str, ...] = ()
    source_watermark: str | None = None
    target_watermark: str | None = None
    mode: Mode = Mode.APPEND
    truncate_onstart: bool = False
    allow_truncate: bool = False
    """Rows that no completed run of ours recorded may be truncated as well."""
    overlap_seconds: int | None = None
    """How far an incremental load reads back behind the mark; None leaves it to the watermark's kind."""
    disable_index: bool = False
    replace: bool = False
    """Rows go into a shadow table, which takes the target's place when it is complete."""
    keep_previous_hours: int | None = None
    """How long the table that was replaced is kept; it is dropped at once where None or 0."""
    nul_characters: NulCharacters = NulCharacters.FAIL
    column_names: ColumnNames = ColumnNames.EXACT
    new_columns: NewColumns = NewColumns.AUTO

    def __str__(self) -> str:
        return f"{self.source_name}: {self.source} → {self.target}"

    @property
    def incremental(self) -> bool:
        """Whether only rows behind the mark are read: not where those that are there go."""
        return self.source_watermark is not None and not self.refreshes

    @property
    def refreshes(self) -> bool:
        """Whether all rows that are there go, and all of the source come."""
        return self.truncate_onstart or self.replace


@dataclass(slots=True)
class Reading:
    """A chunk's rows on their way out of the source: batches of the planned types, to be iterated once.

    `floored` counts, as far as was read, the values whose digits below the microsecond were dropped.
    """

    batches: Iterator[pa.RecordBatch]
    floored: int = 0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self.batches


@dataclass(frozen=True, slots=True)
class ResultSet:
    """The kept result of a query: its id at the source, and the rows of each of its batches in order."""

    query_id: str
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tag:
    """How a query is labelled at the source, so that what a killed worker left behind can be found.

    >>> str(Tag(UUID(int=7), "db", 3))
    'snowmelt/00000000-0000-0000-0000-000000000007/db/3/'
    """

    run_id: UUID
    database: str | None = None
    table_id: int | None = None
    chunk_id: int | None = None

    def __str__(self) -> str:
        """The parts that are known, each ended: a label of a chunk begins with its table's and run's, and the
        one of chunk 10 does not begin with that of chunk 1."""
        parts = (self.run_id, self.database, self.table_id, self.chunk_id)
        return "snowmelt/" + "".join(f"{part}/" for part in parts if part is not None)

    def chunk(self, chunk_id: int) -> Tag:
        """The tag of one of the table's chunks."""
        return Tag(self.run_id, self.database, self.table_id, chunk_id)


@dataclass(frozen=True, slots=True)
class LoadTable:
    """What a worker needs to move any chunk of a table; stored in the ledger beside the chunks."""

    table_id: int
    job: TableJob
    columns: tuple[Column, ...]
    snapshot: Mapping[str, object]
    key: tuple[str, ...] = ()
    """Columns that identify a row in messages."""
    tag: Tag = Tag(UUID(int=0))
    planned_rows: int | None = None
    chunk_rows: int = DEFAULT_CHUNK_ROWS
    shadow: TargetTable | None = None
    """The table that is loaded beside the target, to take its place."""

    @property
    def into(self) -> TargetTable:
        """Where rows go."""
        return self.shadow or self.job.target


@dataclass(frozen=True, slots=True)
class StoredLoad:
    """A table of a run as it was planned, read back from the ledger."""

    table_id: int
    source: SourceTable
    source_name: str
    target: TargetTable
    table_hash: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    snapshot: Mapping[str, object]
    facts: Mapping[str, object]
    """What decided its rows when it was planned: the document that `table_hash` is the hash of."""
    create: bool
    planned_rows: int | None
    chunk_rows: int
    row_bytes: int
    """What a row weighs on the way to the target, about; 0 where it is not stored."""
    chunks: int
    completed_chunks: int
    completed_rows: int
    completed: bool
    mode: Mode = Mode.APPEND
    window: Window | None = None
    began_empty: bool = True
    """Whether the target had no row when the load began: then all its rows are of this load."""
    unique_is_primary: bool = False
    """Whether the key that a created table has from the start is its primary key."""
    added: tuple[str, ...] = ()
    """Columns of the source that the target gets before anything moves."""
    comment: str = ""
    """Of the source's table."""
    shadow: TargetTable | None = None
    """The table that is loaded beside the target, to take its place."""

    @property
    def into(self) -> TargetTable:
        """Where rows go."""
        return self.shadow or self.target


@dataclass(frozen=True, slots=True)
class LastLoad:
    """What the last completed load of a target from a source knew of their columns."""

    columns: tuple[Column, ...]
    """Those that it read."""
    left_out: tuple[str, ...] = ()
    """Those of the source that it did not."""
    kept: tuple[str, ...] | None = None
    """Those of the target that it did not fill; None where it did not note them."""


ENDED = frozenset({"completed", "aborted"})
"""Endings of a run that is not gone on with."""


@dataclass(frozen=True, slots=True)
class Writer:
    """A run that has a record of writing some target table."""

    table_id: int
    run_id: UUID
    ending: str
    active_at: datetime
    completed: bool
    target_rows: int | None = None
    """All rows of the target when it was completed; None where that is not known to be all of them."""
    written_rows: int = 0
    """What it has committed so far."""
    created_by: str = ""
    workers: tuple[str, ...] = ()
    """Its live processes, each as host and process id."""
    beside: bool = False
    """Whether it wrote a table beside the target, which is as it was until the load is completed."""
    rolled_back: bool = False
    """Whether what it had replaced was put back."""

    @property
    def is_there(self) -> bool:
        """Whether rows of it may be in the target, now or once it goes on."""
        if self.rolled_back:
            return False
        return self.completed or not self.beside or self.ending not in ENDED


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a source table is in a target table: every row up to `value` of the watermark is there."""

    column: str
    value: Bound
    set_at: datetime
    set_by: str
    run_id: UUID | None = None
    """The run that advanced it; None where it was adopted."""
    filter: str | None = None
    """The `source_filter` that the rows had to pass."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a run is: two runs with one `execution_hash` are the same work."""

    config_hash: str
    execution_hash: str
    source_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Claim:
    """A chunk that one worker owns until it completes, releases or loses it."""

    table_id: int
    chunk: Chunk
    token: UUID
    worker_id: UUID
    attempt: int
    taken_over: bool = False
    """Another worker had it and is gone; a query of its may still run at the source."""
    overran_seconds: float | None = None
    """So long it had been under way when the time of another process was up."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows as the bytes that COPY takes."""

    rows: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """A committed chunk. `seconds` runs from the claim to the commit; `bytes` are what COPY was sent."""

    table_id: int
    chunk_id: int
    rows_read: int
    rows_written: int
    bytes: int
    seconds: float
