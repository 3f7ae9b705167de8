"""What the use cases ask of the world. Adapters fulfil these; nothing else of an adapter is called."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol, runtime_checkable
from uuid import UUID

import pyarrow as pa

from snowmelt.chunking.bounds import Bound
from snowmelt.chunking.chunks import Chunk, Key, Span
from snowmelt.chunking.histogram import DayHistogram, Grain, KeyHistogram, Loaded
from snowmelt.model import (
    Claim,
    Column,
    Identity,
    LoadTable,
    Piece,
    Reading,
    Relation,
    ResultSet,
    SourceTable,
    StoredLoad,
    Tag,
    TargetState,
    TargetTable,
    Writer,
)
from snowmelt.preflight.questions import Answer, Question
from snowmelt.status import RunStatus, State
from snowmelt.table_plan import TablePlan


@dataclass(frozen=True, slots=True)
class Latest:
    """How far a table reaches: the greatest value of a key, None without any, and how many rows there are,
    of which `nulls` have no value."""

    value: Bound | None
    rows: int
    nulls: int


class Source(Protocol):
    """One open session of a source. Not for two threads at once: each worker opens its own.

    Every method raises SnowmeltError subclasses only: TableError for what is wrong with the table,
    SourceChanged when the snapshot is gone, RetriableError for what passes.
    """

    def describe(self, table: SourceTable) -> Relation:
        """Columns, key and a snapshot of the table as it stands."""
        ...

    def measure(
        self, table: SourceTable, questions: Sequence[Question], snapshot: Mapping[str, object]
    ) -> tuple[Answer, ...]:
        """The answers to the questions, of the rows that pass the table's filter, by one query."""
        ...

    def latest(self, table: SourceTable, key: Key, snapshot: Mapping[str, object]) -> Latest:
        """The greatest value of a key among the rows that pass the filter and the window, by one query."""
        ...

    def histogram(
        self, table: SourceTable, key: Key, snapshot: Mapping[str, object], grain: Grain
    ) -> KeyHistogram:
        """Rows by ranges of the key, by one aggregated query."""
        ...

    def refine(
        self,
        table: SourceTable,
        keys: Sequence[Key],
        snapshot: Mapping[str, object],
        spans: Sequence[Span],
        rows: int,
    ) -> tuple[KeyHistogram, ...]:
        """A histogram for each span, by one aggregated query: buckets of the keys' own values.

        A bucket has less than twice `rows` rows, unless all have one value of the first key; such a one of more
        than `rows` is alone in its bucket, and split by the next key, if there is one.
        """
        ...

    def read(
        self,
        table: SourceTable,
        chunk: Chunk,
        columns: Sequence[Column],
        snapshot: Mapping[str, object],
        tag: Tag,
    ) -> AbstractContextManager[Reading]:
        """The chunk's rows as record batches of the columns' planned types, in bounded memory.

        Raises ResultGone for a chunk of a result that is kept no more.
        """
        ...

    def close(self) -> None:
        """Release the session; closing twice is no error."""
        ...


@runtime_checkable
class QuerySource(Source, Protocol):
    """A source whose queries run on a server: results are kept there, and work can be left behind."""

    def extract(
        self,
        table: SourceTable,
        columns: Sequence[Column],
        snapshot: Mapping[str, object],
        tag: Tag,
    ) -> ResultSet:
        """Run the table's one query, and leave its result at the source for `read`."""
        ...

    def labelled(self, tag: Tag) -> AbstractContextManager[None]:
        """Queries within that are asked without a tag have this one, by which they are cancelled."""
        ...

    def cancel(self, table: SourceTable, tag: Tag) -> int:
        """End the queries still running whose tags begin with this one; returns how many there were."""
        ...

    def release(self, table: SourceTable, snapshot: Mapping[str, object]) -> None:
        """Drop what was made at the source for the table's snapshot; nothing there is no error."""
        ...


@runtime_checkable
class EmbeddedSource(Source, Protocol):
    """A source that is read within this process."""

    def interrupt(self) -> None:
        """From another thread: end what the session is doing, which raises there; without any, do nothing."""
        ...


class Load(Protocol):
    """The transaction that moves one chunk: its rows and its completion commit together or not at all."""

    def encode(self, batch: pa.RecordBatch) -> Iterator[Piece]:
        """A batch as what COPY takes, some megabytes at a time. Raises ValueDoesNotFit.

        Batches are encoded in the order in which they are sent; `send` may run in another thread meanwhile.
        """
        ...

    def send(self, piece: Piece) -> None:
        """Send encoded rows to COPY."""
        ...

    def complete(self, rows_read: int, floored: int = 0) -> int:
        """End COPY and mark the chunk completed; returns rows written. Raises ClaimLost.

        `floored` is what the source counted of values cut to microseconds; encoding adds its own count.
        """
        ...

    def commit(self) -> None:
        """Raises ConnectionLost when the answer did not come: then only the ledger knows."""
        ...


class Target(Protocol):
    """One session to a target database. Not for two threads at once."""

    def inspect(self, table: TargetTable) -> TargetState:
        """What stands in the target table now."""
        ...

    def create(
        self,
        table: TargetTable,
        columns: Sequence[Column],
        unique: Sequence[str] = (),
        *,
        primary: bool = False,
        comment: str = "",
    ) -> None:
        """Create the table if it is not there, with a unique key if rows are to be found by one."""
        ...

    def add_columns(self, table: TargetTable, columns: Sequence[Column]) -> None:
        """Add the columns that are not there. Raises Refused where the table stays locked."""
        ...

    def load(self, claim: Claim, table: LoadTable) -> AbstractContextManager[Load]:
        """Begin moving a claimed chunk; leaving without `commit` rolls back. Raises ClaimLost."""
        ...


class Settled(Enum):
    """What the ledger says of a claim after something went wrong."""

    COMPLETED = auto()
    """The commit had happened; only its answer was lost."""
    CLOSED = auto()
    """Nothing was committed, and the claim is given up."""
    LOST = auto()
    """Somebody else owns the chunk, or the run was aborted."""


@dataclass(frozen=True, slots=True)
class OpenWork:
    """How far a table is, asked of the ledger; `closed` tables have nothing left to claim."""

    open_chunks: int
    failed_chunks: int
    closed: bool
    completed: bool = False


class Claims(Protocol):
    """The chunks of a run as a queue with fences; one per worker thread."""

    def claim(self, table_id: int) -> Claim | None:
        """Own the next open chunk, or one whose owner is gone; None if there is none just now."""
        ...

    def settle(
        self,
        claim: Claim,
        error: str,
        backoff_seconds: float,
        overran_seconds: float | None = None,
    ) -> Settled:
        """Give up an attempt: find out what became of it and reopen the chunk if nothing was committed.

        `overran_seconds`: so long it had been under way when its process had no more time for it.
        """
        ...

    def fail(self, claim: Claim, error: str) -> Settled:
        """Close the chunk as failed, unless it was committed or lost."""
        ...

    def expand(self, claim: Claim, chunks: Sequence[Chunk]) -> None:
        """Complete a chunk without rows by the chunks that it has become, all or nothing. Raises ClaimLost."""
        ...

    def resize(self, claim: Claim, chunks: Sequence[Chunk], reason: str) -> None:
        """Retire a chunk for smaller ones that are exactly its rows, all or nothing. Raises ClaimLost."""
        ...

    def stage(self, claim: Claim) -> bool:
        """Send all chunks of the claim's table through staging from now on; False if they do so already."""
        ...

    def drop(self, claim: Claim) -> None:
        """Forget a claim that is over: committed, or lost."""
        ...

    def beat(self, claim: Claim) -> None:
        """Tell that the claim moved bytes just now."""
        ...

    def work(self, table_id: int) -> OpenWork:
        """What is left to do in a table."""
        ...


class Runs(Protocol):
    """The runs in one target database's ledger."""

    def find(self, identity: Identity, max_age_hours: float) -> UUID | None:
        """The unfinished run of this identity, if it was active within the limit."""
        ...

    def open(
        self, run_id: UUID, identity: Identity, total_tables: int, metadata: Mapping[str, object]
    ) -> None:
        """Record a run, or take back the ending of one that is resumed. Raises Refused if aborted."""
        ...

    def end(self, run_id: UUID, error: str | None = None) -> State | None:
        """Derive how the run ended from its tables; None while other workers go on with it."""
        ...

    def abort(self, run_id: UUID) -> bool:
        """End a run for good; False if there is nothing to end."""
        ...

    def status(self, run_id: UUID | None = None, limit: int = 20) -> tuple[RunStatus, ...]:
        """One run, or the latest ones, newest first, each with its tables."""
        ...


class Loads(Protocol):
    """The tables of runs in one target database's ledger."""

    def add(self, run_id: UUID, plan: TablePlan) -> None:
        """Write a table and all its chunks, before any of them is moved."""
        ...

    def of(self, run_id: UUID) -> tuple[StoredLoad, ...]:
        """The tables of a run as they were planned."""
        ...

    def writers(self, target: TargetTable) -> tuple[Writer, ...]:
        """The runs that have a record of writing the table, newest first."""
        ...

    def reopen(self, run_id: UUID, table_ids: Sequence[int]) -> None:
        """Give failed tables and chunks of a resumed run their attempts back."""
        ...

    def fail(self, table_id: int, error: str) -> None:
        """Close a table as failed."""
        ...

    def replan(self, table_id: int, query_id: str, replan: Replan) -> Replanned | None:
        """Plan a table's chunks again after the result that they are parts of is gone, all or nothing.

        Rows that the plan does not keep are removed from the target. None if another worker was first.
        Raises TableError where the target has other rows than the ledger says.
        """
        ...

    def build(self, table_id: int, tell: OnBuilding, *, goes_on: bool = False) -> bool:
        """Build one index or foreign key of a table whose chunks are all committed; False if there is nothing to
        do just now. `tell` hears from other threads how far it is. `goes_on`: what takes long the server ends,
        should this process be gone by then."""
        ...

    def finish(self, table_id: int) -> bool:
        """Complete a table if every chunk is committed and all is built. Raises CountMismatch."""
        ...


@dataclass(frozen=True, slots=True)
class Replan:
    """How a table's chunks are planned again: over a key of which the target's days are looked at, or
    without one. `chunks` gives the chunks, each with whether its rows stay as they are in the target."""

    chunks: Callable[[Loaded], Sequence[tuple[Chunk, bool]]]
    histogram: DayHistogram | None = None

    @property
    def key(self) -> Key | None:
        return self.histogram.key if self.histogram else None


@dataclass(frozen=True, slots=True)
class Replanned:
    """A table after its chunks were planned again: all of them, and what of it was loaded already."""

    chunks: int
    completed_chunks: int
    rows: int


@dataclass(frozen=True, slots=True)
class Building:
    """How far an index is that is being built: what the server does, and the share of that which is done, where it
    says so."""

    name: str
    phase: str = ""
    share: float | None = None


OnBuilding = Callable[[Building], None]
OpenSource = Callable[[], Source]


class Executor(Protocol):
    """Runs workers. A worker takes chunks by claims until there are none, so they need no coordination."""

    def run(self, worker: Callable[[], None], workers: int) -> None:
        """Run `worker` that many times side by side; returns when all have ended, raises what one raised."""
        ...
