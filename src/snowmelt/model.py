"""The frozen values that the rooms hand each other. No I/O, no driver, no config file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import pyarrow as pa

from snowmelt.chunks import Chunk
from snowmelt.errors import RunError


class KeyType(StrEnum):
    """How a chunking column is ranged over; the values of `chunking_column_types`."""

    INT = "int"
    NUMERIC = "numeric"
    VARCHAR = "varchar"
    VARCHAR_NUMERIC = "varchar_numeric"
    UUID = "uuid"
    DATE = "date"
    TIMESTAMP = "timestamp"


@dataclass(frozen=True, slots=True)
class ChunkKey:
    """A chunking column; `type` is None where the config leaves it to the source's type."""

    column: str
    type: KeyType | None


@dataclass(frozen=True, slots=True)
class SourceTable:
    """Where rows come from. For files `name` is a path or glob below the folder."""

    database: str
    schema: str
    name: str
    filter: str | None = None

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


@dataclass(frozen=True, slots=True)
class Relation:
    """A source table as found: columns in order, primary key, and the snapshot they belong to.

    `snapshot` is a JSON-ready value that only its source understands; reading a chunk with it gives the
    rows of that moment or raises SourceChanged.
    """

    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    snapshot: Mapping[str, object]

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
    batch_size: int = 100_000
    parallel_threads: int = 4
    max_retry_attempts: int = 5
    uniqueness_columns: tuple[str, ...] = ()
    source_watermark: str | None = None
    target_watermark: str | None = None
    truncate_onstart: bool = False
    insert_only: bool = False
    disable_index: bool = False

    def __str__(self) -> str:
        return f"{self.source_name}: {self.source} → {self.target}"


@dataclass(frozen=True, slots=True)
class LoadTable:
    """What a worker needs to move any chunk of a table; stored in the ledger beside the chunks."""

    table_id: int
    job: TableJob
    columns: tuple[Column, ...]
    snapshot: Mapping[str, object]
    key: tuple[str, ...] = ()
    """Columns that identify a row in messages."""


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
    chunks: int
    completed_chunks: int
    completed_rows: int
    completed: bool


@dataclass(frozen=True, slots=True)
class Writer:
    """A run that has a record of writing some target table."""

    table_id: int
    run_id: UUID
    ending: str
    active_at: datetime
    completed: bool


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


class State(StrEnum):
    """Of chunks, tables and runs, in the words the running system's ledger uses."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    RUNNING = "running"
    COMPLETED = "completed"
    PARTIAL = "partial"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class TableStatus:
    """One table of a run as the ledger of one target database has it; `table_id` counts in that database."""

    database: str
    table_id: int
    source_name: str
    source: str
    target: str
    state: State
    chunks: int
    completed_chunks: int
    in_progress_chunks: int
    failed_chunks: int
    retries: int
    planned_rows: int
    rows: int
    bytes: int
    started_at: datetime | None = None
    completed_at: datetime | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A run as the ledger of one target database has it."""

    run_id: UUID
    state: State
    source_names: tuple[str, ...]
    started_at: datetime
    active_at: datetime
    completed_at: datetime | None
    database: str
    tables: tuple[TableStatus, ...] = ()
    live_workers: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """How a run ended. Folded from the ledgers, not from what workers remember."""

    run_id: UUID
    state: State
    tables: tuple[TableStatus, ...]
    seconds: float
    resumed: bool
    errors: tuple[str, ...] = field(default=())

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables)

    def raise_for_failures(self) -> None:
        """Raise RunError with every table's error, if the run failed. A partial run is no failure."""
        if self.state is State.FAILED:
            raise RunError(
                "\n".join(self.errors) or "the run failed",
                remedy=f"mend the cause, then run again: run {self.run_id} resumes",
            )

    @property
    def exit_code(self) -> int:
        """0 done, 1 failed, 3 partial."""
        return {State.COMPLETED: 0, State.PARTIAL: 3}.get(self.state, 1)
