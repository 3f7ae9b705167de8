"""Chunks that a claimed one has become, and chunks planned again when a result is gone: all or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pytest

from snowmelt.chunking.bounds import Timestamp
from snowmelt.chunking.chunks import Chunk, Key, KeyKind, ResultBatches, query_once
from snowmelt.chunking.histogram import Bucket, KeyHistogram, Loaded
from snowmelt.chunking.strategies import ResultSetStrategy, chunks_beside
from snowmelt.errors import ClaimLost, ConnectionLost, SnowmeltError, TableError
from snowmelt.extraction import replan
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
from snowmelt.ports import Replan
from snowmelt.postgres.claims import PostgresClaims, Pulse
from snowmelt.postgres.connect import Server, Session
from snowmelt.postgres.loads import PostgresLoads
from snowmelt.postgres.migrations import migrate_ledger
from snowmelt.postgres.runs import PostgresRuns
from snowmelt.postgres.target import PostgresTarget
from snowmelt.sources.duckdb import DuckDBSource
from snowmelt.truncation import TargetFacts, decide
from tests.support import Database, duckdb_file

DAY = datetime(2024, 1, 1)
DAYS, PER_DAY = 5, 4
KINDS: dict[KeyKind, tuple[str, pa.DataType]] = {
    KeyKind.DATE: ("date", pa.date32()),
    KeyKind.TIMESTAMP: ("timestamp", pa.timestamp("us")),
    KeyKind.INSTANT: ("timestamptz", pa.timestamp("us", tz="UTC")),
}


class Desk:
    """A planned table of one query, its ledger, and any number of workers."""

    def __init__(self, database: Database, kind: KeyKind, stack: ExitStack) -> None:
        self.database, self.kind = database, kind
        self._server = Server.of({}, dsn=database.dsn)
        self._stack = stack
        type, arrow = KINDS[kind]
        database.execute(f"CREATE TABLE t (n integer, k {type})")
        # The days of an instant are days in UTC, whatever the role's zone is.
        database.execute(f"ALTER DATABASE {database.name} SET TimeZone = 'Pacific/Kiritimati'")
        self.columns = (Column("n", pa.int32()), Column("k", arrow))
        session = self.session()
        migrate_ledger(session)
        self.loads = PostgresLoads(session)
        run_id = uuid4()
        PostgresRuns(session).open(run_id, Identity("c", "e", ("s",)), 1, {})
        self.job = TableJob(
            "s", SourceTable("", "", "t"), TargetTable(database.name, "public", "t")
        )
        self.loads.add(
            run_id,
            TablePlan(
                job=self.job,
                table_hash="v1:hash",
                facts={},
                relation=Relation(self.columns, (), {}),
                target=TargetState(exists=True),
                strategy="test",
                reason="test",
                chunks=query_once(),
                planned_rows=len(self.rows()),
                truncation=decide(TargetFacts(False, False, False, False)),
            ),
        )
        self.table_id = int(database.value("SELECT table_id FROM migration_status.load"))

    def session(self) -> Session:
        session = Session(self._server)
        self._stack.callback(session.close)
        return session

    def claims(self) -> PostgresClaims:
        return PostgresClaims(self.session(), Pulse())

    def rows(self) -> list[tuple[int, date | datetime | None]]:
        """Late on each day, where another zone would have the next one; then rows without a key."""
        days = [
            (day * PER_DAY + n, DAY + timedelta(days=day, hours=18 + n))
            for day in range(DAYS)
            for n in range(PER_DAY)
        ]
        keyed = [(n, at.date() if self.kind is KeyKind.DATE else at) for n, at in days]
        return [*keyed, (100, None), (101, None)]

    def histogram(self) -> KeyHistogram:
        days = [(DAY + timedelta(days=day)).date() for day in range(DAYS)]
        utc = self.kind is KeyKind.INSTANT
        lows = [
            day if self.kind is KeyKind.DATE else Timestamp.midnight(day, utc=utc) for day in days
        ]
        buckets = [Bucket(low, PER_DAY) for low in lows]
        return KeyHistogram.of(Key("k", self.kind), buckets, nulls=2)

    def batch(self, numbers: set[int]) -> pa.RecordBatch:
        chosen = [row for row in self.rows() if row[0] in numbers]
        arrays = [
            pa.array([row[place] for row in chosen], column.type)
            for place, column in enumerate(self.columns)
        ]
        return pa.RecordBatch.from_arrays(arrays, names=["n", "k"])

    def expand(self, batches: list[int]) -> None:
        """Run the query: so many rows in each batch of its result, each batch a chunk."""
        claims = self.claims()
        claim = _claimed(claims, self.table_id)
        claims.expand(claim, ResultSetStrategy(1).chunks("q1", batches))

    def load(self, claim: Claim, numbers: set[int]) -> None:
        table = LoadTable(self.table_id, self.job, self.columns, {}, ("n",))
        with PostgresTarget(self.session()).load(claim, table) as load:
            for piece in load.encode(self.batch(numbers)):
                load.send(piece)
            load.complete(len(numbers))
            load.commit()

    def replan(self, query_id: str = "q1", *, key: bool = True) -> object:
        histogram = self.histogram()

        def chunks(loaded: Loaded) -> list[tuple[Chunk, bool]]:
            if not loaded:
                return [(chunk, False) for chunk in query_once()]
            return list(chunks_beside(histogram, 6, loaded))

        plan = Replan(chunks, histogram.days() if key else None)
        return PostgresLoads(self.session()).replan(self.table_id, query_id, plan)

    def numbers(self) -> list[int]:
        return [n for (n,) in self.database.execute("SELECT n FROM t ORDER BY n")]

    def sums(self) -> tuple[int, int]:
        """Rows of completed chunks, and open chunks."""
        ((rows, open_chunks),) = self.database.execute(
            "SELECT coalesce(sum(rows_written), 0)::int, count(*) FILTER (WHERE completed_at IS NULL)::int "
            "FROM migration_status.chunk"
        )
        return int(rows), int(open_chunks)


def _claimed(claims: PostgresClaims, table_id: int) -> Claim:
    claim = claims.claim(table_id)
    assert claim is not None
    return claim


@pytest.fixture(params=KINDS)
def desk(request: pytest.FixtureRequest, database: Database) -> Iterator[Desk]:
    with ExitStack() as stack:
        yield Desk(database, request.param, stack)


def _loaded(desk: Desk, *parts: set[int]) -> None:
    """Let one chunk load each part."""
    claims = desk.claims()
    for part in parts:
        claim = _claimed(claims, desk.table_id)
        desk.load(claim, part)
        claims.drop(claim)


def test_an_expansion_is_written_once(desk: Desk) -> None:
    claims = desk.claims()
    claim = _claimed(claims, desk.table_id)
    desk.database.execute("UPDATE migration_status.chunk SET token = gen_random_uuid()")
    with pytest.raises(ClaimLost):
        claims.expand(claim, ResultSetStrategy(1).chunks("q1", [1, 2]))

    assert desk.database.value("SELECT count(*) FROM migration_status.chunk") == 1
    assert desk.sums() == (0, 1)


def test_whole_days_stay_and_the_rest_is_planned_again(desk: Desk) -> None:
    desk.expand([5, 5, 4, 8])
    # All of day 0 and day 2, half of day 1, and the rows without a key.
    _loaded(desk, {0, 1, 2, 3, 4}, {5, 8, 9, 10, 11}, {100, 101, 12, 13})
    assert desk.sums() == (14, 1)

    done = desk.replan()

    assert desk.numbers() == [0, 1, 2, 3, 8, 9, 10, 11, 100, 101]
    assert desk.sums()[0] == 10
    ranges = desk.database.execute(
        "SELECT range, planned_rows, completed_at IS NOT NULL FROM migration_status.chunk ORDER BY chunk_id"
    )
    assert [(rows, done) for _, rows, done in ranges] == [
        (4, True),
        (4, False),
        (4, True),
        (4, False),
        (4, False),
        (2, True),
    ]
    assert desk.replan() is None  # the second who finds the result gone has nothing to do
    assert done is not None
    recorded = desk.database.value("SELECT replanned FROM migration_status.load")
    assert (recorded[0]["rows_kept"], recorded[0]["rows_removed"]) == (10, 4)
    # What is left loads, and the table is completed.
    _loaded(desk, {4, 5, 6, 7}, {12, 13, 14, 15}, {16, 17, 18, 19})
    assert desk.loads.finish(desk.table_id)
    assert desk.numbers() == [n for n, _ in desk.rows()]


def test_with_no_day_whole_or_without_a_key_all_is_read_again(desk: Desk) -> None:
    for key in (True, False):
        desk.expand([8, 14])
        _loaded(desk, {0, 4, 8, 12, 16, 1, 5, 100})

        desk.replan(key=key)

        assert desk.numbers() == []
        assert desk.sums() == (0, 1)
        assert desk.database.value("SELECT range FROM migration_status.chunk") == {"kind": "query"}
        # The same query id as before stands for the next result.
        assert desk.replan(key=key) is None


def test_rows_without_a_key_may_be_all_that_is_whole(desk: Desk) -> None:
    desk.expand([2, 3, 17])
    _loaded(desk, {100, 101}, {0, 4, 8})

    desk.replan()

    assert desk.numbers() == [100, 101]
    assert desk.sums()[0] == 2


def test_keys_before_the_calendar_do_not_stop_it(desk: Desk) -> None:
    desk.expand([1, 21])
    _loaded(desk, {0})
    desk.database.execute("UPDATE t SET k = '0044-03-15 BC'")

    desk.replan()

    assert desk.numbers() == []


def test_a_target_that_a_foreign_key_refers_to_is_emptied(desk: Desk) -> None:
    desk.database.execute("ALTER TABLE t ADD UNIQUE (n)")
    desk.database.execute("CREATE TABLE other (n integer REFERENCES t (n))")
    desk.expand([2, 20])
    _loaded(desk, {0, 1})

    desk.replan(key=False)

    assert desk.numbers() == []


def test_a_run_that_was_aborted_removes_nothing(desk: Desk) -> None:
    """Its target may be another run's by now."""
    desk.expand([4, 18])
    _loaded(desk, {0, 1, 2, 3})
    run_id = desk.database.value("SELECT run_id FROM migration_status.run")
    assert PostgresRuns(desk.session()).abort(run_id)

    for key in (True, False):
        assert desk.replan(key=key) is None
    assert desk.numbers() == [0, 1, 2, 3]


def test_a_table_that_failed_removes_nothing(desk: Desk) -> None:
    desk.expand([4, 18])
    _loaded(desk, {0, 1, 2, 3})
    desk.loads.fail(desk.table_id, "something else")

    assert desk.replan(key=False) is None
    assert desk.numbers() == [0, 1, 2, 3]


def test_other_rows_in_the_target_stop_it(desk: Desk) -> None:
    desk.expand([4, 18])
    _loaded(desk, {0, 1, 2, 3})
    desk.database.execute("INSERT INTO t VALUES (-1, NULL)")
    before = desk.sums()

    for key in (True, False):
        with pytest.raises(TableError, match="nothing is removed"):
            desk.replan(key=key)

    assert desk.numbers() == [-1, 0, 1, 2, 3]
    assert desk.sums() == before


def test_a_worker_in_the_middle_of_an_old_chunk_can_not_commit(desk: Desk) -> None:
    desk.expand([4, 18])
    claims = desk.claims()
    claim = _claimed(claims, desk.table_id)
    table = LoadTable(desk.table_id, desk.job, desk.columns, {}, ("n",))

    def move() -> None:
        with PostgresTarget(desk.session()).load(claim, table) as load:
            for piece in load.encode(desk.batch({0, 1, 2, 3})):
                load.send(piece)
            # Its rows are in COPY; now the result turns out to be gone for somebody else.
            for attempt in range(10):
                try:
                    desk.replan(key=False)
                except SnowmeltError:
                    assert attempt < 9, "the old worker is not out of the way"
                else:
                    break
            load.complete(4)
            load.commit()

    with pytest.raises((ClaimLost, ConnectionLost)):
        move()

    assert desk.numbers() == []
    assert desk.sums() == (0, 1)


def test_a_chunk_that_commits_meanwhile_is_seen(desk: Desk) -> None:
    """The count of what was committed is taken when nobody can commit any more."""
    desk.expand([4, 4, 14])
    _loaded(desk, {0, 1, 2, 3}, {4, 5, 6, 7})
    gone = desk.database.value(
        "SELECT range FROM migration_status.chunk WHERE completed_at IS NULL AND range ->> 'kind' = 'result'"
    )
    assert ResultBatches("q1", 2, (14,)).first == gone["first"]

    desk.replan()

    assert desk.sums()[0] == len(desk.numbers()) == 8


def test_days_of_the_target_are_counted_by_its_own_name(tmp_path: Path) -> None:
    file = duckdb_file(
        tmp_path / "s.duckdb", "CREATE TABLE t AS SELECT 1 AS n, DATE '2024-05-01' AS \"AT\""
    )
    with closing(DuckDBSource("duckdb", file)) as source:
        relation = source.describe(SourceTable("", "", "t"))
        columns = tuple(replace(column, target=column.name.lower()) for column in relation.columns)
        key = ChunkKey("AT", None)
        job = TableJob("s", SourceTable("", "", "t"), TargetTable("d", "public", "t"), (key,))
        again = replan(LoadTable(1, job, columns, relation.snapshot, planned_rows=1), source)
    assert again.key is not None
    assert again.key.column == "at"
