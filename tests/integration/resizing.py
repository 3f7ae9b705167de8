"""A planned table whose chunks are resized, and what the tests of that ask of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pyarrow as pa

from snowmelt.chunking.chunks import Chunk, Key, KeyKind, KeyRange, Range
from snowmelt.model import (
    ChunkKey,
    Claim,
    Column,
    Identity,
    LoadTable,
    Relation,
    SourceTable,
    TableJob,
    TargetState,
    TargetTable,
)
from snowmelt.plan import TablePlan
from snowmelt.postgres.claims import PostgresClaims, Pulse
from snowmelt.postgres.connect import Server, Session
from snowmelt.postgres.load import PostgresLoad
from snowmelt.postgres.loads import PostgresLoads
from snowmelt.postgres.migrations import migrate_ledger
from snowmelt.postgres.runs import PostgresRuns
from snowmelt.postgres.target import PostgresTarget
from snowmelt.truncation import TargetFacts, decide
from tests.support import Database

KEY = Key("n", KeyKind.NUMBER)
COLUMNS = (Column("n", pa.int64(), source_type="BIGINT"),)
SIZE = 16
CHUNKS = 3
WHY = "it ran for an hour"


def ranges_of(*bounds: int | None) -> list[KeyRange]:
    return [KeyRange(KEY, low, high) for low, high in pairwise(bounds)]


def chunks_of(*bounds: int | None) -> list[Chunk]:
    """Numbers 0 to 47 in ranges; the ends are open."""
    ends = [(low or 0, CHUNKS * SIZE if high is None else high) for low, high in pairwise(bounds)]
    return [
        Chunk(place, range, high - low)
        for place, (range, (low, high)) in enumerate(zip(ranges_of(*bounds), ends, strict=True))
    ]


class Desk:
    """A planned table of three chunks of 16 numbers, its ledger, and any number of workers."""

    def __init__(self, database: Database, stack: ExitStack) -> None:
        self.database = database
        self.server = Server.of({}, dsn=database.dsn)
        self._stack = stack
        self.job = TableJob(
            "s",
            SourceTable("", "", "t.parquet"),
            TargetTable(database.name, "public", "t"),
            keys=(ChunkKey("n", None),),
        )
        session = self.session()
        migrate_ledger(session)
        self.runs, self.loads = PostgresRuns(session), PostgresLoads(session)
        self.run_id = uuid4()
        database.execute("CREATE TABLE t (n bigint)")
        self.runs.open(self.run_id, Identity("c", "e", ("s",)), 1, {})
        self.table_id = self.plan(chunks_of(None, 16, 32, None))

    def plan(self, chunks: Sequence[Chunk]) -> int:
        plan = TablePlan(
            job=self.job,
            table_hash="v1:hash",
            facts={},
            relation=Relation(COLUMNS, (), {}),
            target=TargetState(exists=True),
            strategy="test",
            reason="test",
            chunks=tuple(chunks),
            planned_rows=CHUNKS * SIZE,
            truncation=decide(TargetFacts(False, False, False, False)),
        )
        self.loads.add(self.run_id, plan)
        return int(self.database.value("SELECT max(table_id) FROM migration_status.load"))

    def session(self) -> Session:
        session = Session(self.server)
        self._stack.callback(session.close)
        return session

    def claims(self) -> PostgresClaims:
        return PostgresClaims(self.session(), Pulse())

    @property
    def table(self) -> LoadTable:
        return LoadTable(self.table_id, self.job, COLUMNS, {}, chunk_rows=SIZE)

    def claimed(self, claims: PostgresClaims) -> Claim:
        claim = claims.claim(self.table_id)
        assert claim is not None
        return claim

    @contextmanager
    def moving(self, claim: Claim, rows: int | None = None) -> Iterator[PostgresLoad]:
        """A move whose rows are all sent, and none recorded; `rows` of them if told."""
        numbers = numbers_of(claim.chunk.range)[:rows]
        batch = pa.record_batch([pa.array(numbers, pa.int64())], names=["n"])
        with PostgresTarget(self.session()).load(claim, self.table) as load:
            load.write(batch)
            yield load

    def load(self, claim: Claim, rows: int | None = None) -> None:
        with self.moving(claim, rows) as load:
            load.complete(len(numbers_of(claim.chunk.range)[:rows]))
            load.commit()

    def load_rest(self) -> list[int]:
        """Move all that is open; the numbers of the chunks in the order in which they were claimed."""
        claims, order = self.claims(), []
        while (claim := claims.claim(self.table_id)) is not None:
            self.load(claim)
            claims.drop(claim)
            order.append(claim.chunk.id)
        return order

    def forget_owner(self) -> None:
        """The workers' processes are gone, as far as others know."""
        self.database.execute("UPDATE migration_status.chunk SET worker_id = gen_random_uuid()")

    def numbers(self) -> list[int]:
        return [n for (n,) in self.database.execute("SELECT n FROM t ORDER BY n")]

    def chunks(self) -> list[tuple[Any, ...]]:
        """(number, range, planned rows, parent, whether retired), in order."""
        return [
            (
                id,
                (value["low"] and int(value["low"][1]), value["high"] and int(value["high"][1])),
                *rest,
            )
            for id, value, *rest in self.database.execute(
                "SELECT chunk_id, range, planned_rows, parent_id, retired_at IS NOT NULL "
                "FROM migration_status.chunk ORDER BY chunk_id"
            )
        ]


def numbers_of(span: Range) -> list[int]:
    assert isinstance(span, KeyRange)
    low = 0 if span.low is None else span.low
    high = CHUNKS * SIZE if span.high is None else span.high
    assert isinstance(low, int)
    assert isinstance(high, int)
    return list(range(low, high))


PLANNED = [
    (0, (None, 16), 16, None, False),
    (1, (16, 32), 16, None, False),
    (2, (32, None), 16, None, False),
]
