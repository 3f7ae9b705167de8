"""What a `World` is made of: processes, workers, and one table with its plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import Enum, auto
from typing import Any
from uuid import UUID

import pyarrow as pa

from snowmelt.chunking.chunks import Chunk, Key, KeyKind, KeyRange
from snowmelt.model import Claim, Column, Relation, TableJob, TargetState
from snowmelt.plan import TablePlan
from snowmelt.postgres.claims import PostgresClaims, Pulse
from snowmelt.postgres.load import PostgresLoad
from snowmelt.postgres.staging import Staging
from snowmelt.truncation import TargetFacts, decide
from tests.integration.protocol_line import Call, Line, Violation

COLUMNS = (Column("chunk", pa.int32()), Column("id", pa.int64()), Column("payload", pa.string()))


def expect(promise: bool, broken: str) -> None:
    """Raises Violation unless the promise is kept."""
    if not promise:
        raise Violation(broken)


def plan_table(job: TableJob, sizes: Sequence[int], *, unique: bool) -> TablePlan:
    """A chunk of each size. Without a unique key the table gets a primary key before it is finished."""
    days = [date(2024, 1, 1) + timedelta(days=number) for number in range(len(sizes) - 1)]
    bounds = zip([None, *days], [*days, None], sizes, strict=True)
    key = Key("day", KeyKind.DATE)
    return TablePlan(
        job=job,
        table_hash="",
        facts={},
        relation=Relation(COLUMNS, () if unique else ("id",), {}),
        target=TargetState(exists=unique),
        strategy="",
        reason="",
        chunks=tuple(
            Chunk(number, KeyRange(key, low, high), size)
            for number, (low, high, size) in enumerate(bounds)
        ),
        planned_rows=sum(sizes),
        truncation=decide(TargetFacts(False, False, False, False)),
        create=not unique,
    )


def batch_of(chunk_id: int, ids: Sequence[int]) -> pa.RecordBatch:
    """These rows of the source."""
    chunks = pa.array([chunk_id] * len(ids), pa.int32())
    payloads = pa.array([f"row {id}" for id in ids], pa.string())
    names = [column.name for column in COLUMNS]
    return pa.record_batch([chunks, pa.array(ids, pa.int64()), payloads], names=names)


def halves(ids: list[int]) -> tuple[list[int], list[int]]:
    """What the two parts of a chunk have of its rows."""
    return ids[: len(ids) // 2], ids[len(ids) // 2 :]


class Stage(Enum):
    """How far a worker is with its chunk."""

    IDLE = auto()
    CLAIMED = auto()
    LOADING = auto()
    RECORDED = auto()
    """The last UPDATE is done, COMMIT is not sent."""
    UNSURE = auto()
    """Something broke; the ledger has not been asked yet."""


@dataclass(slots=True)
class Process:
    """What two threads of a process share, and whether others may think it dead."""

    pulse: Pulse = field(default_factory=Pulse)
    expired: bool = False
    frozen: Call[Any] | None = None


@dataclass(slots=True)
class Worker:
    """One thread of a process with its session. `shaken`: something was done to it or to the server since its
    claim that entitles it to fail; one that is not shaken must succeed."""

    process: Process
    line: Line
    stage: Stage = Stage.IDLE
    claim: Claim | None = None
    load: PostgresLoad | None = None
    sent: int = 0
    shaken: bool = False
    staging: Staging = field(init=False)

    def __post_init__(self) -> None:
        self.staging = Staging(self.line)

    @property
    def claims(self) -> PostgresClaims:
        return PostgresClaims(self.line, self.process.pulse)

    @property
    def held(self) -> Claim:
        assert self.claim is not None
        return self.claim

    def leave(self, error: BaseException | None) -> None:
        """Leave the move's transaction, as the end of its `with` block does."""
        load, self.load = self.load, None
        if load is not None:
            load.__exit__(type(error) if error else None, error, None)

    def idle(self) -> None:
        self.stage, self.claim, self.load, self.sent = Stage.IDLE, None, None, 0


@dataclass(frozen=True, slots=True)
class Row:
    """A chunk as committed: its record, and the ids of its rows in the target, in the same snapshot."""

    chunk_id: int
    token: UUID | None
    completed: bool
    failed: bool
    rows_read: int | None
    rows_written: int | None
    ids: list[int]
    table_completed: bool
    parent_id: int | None
    retired: bool
