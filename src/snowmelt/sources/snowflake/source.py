"""Snowflake as a source: one session for each worker, one snapshot for each table."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from snowmelt.choices import Snapshot
from snowmelt.chunking.chunks import Chunk, Key, ResultBatches, Span
from snowmelt.chunking.histogram import Grain, KeyHistogram
from snowmelt.chunking.sizing import row_bytes
from snowmelt.errors import ResultGone, RetriableError, SourceChanged, TableError
from snowmelt.memory.governor import UNLIMITED, Governor
from snowmelt.model import Column, Reading, Relation, ResultSet, SourceTable, Tag
from snowmelt.ports import Latest
from snowmelt.preflight.questions import Answer, Question
from snowmelt.sources.key_answers import coarse_histogram, fine_histograms, latest_of
from snowmelt.sources.snowflake import statements
from snowmelt.sources.snowflake.catalogue import Catalogue, TableKind
from snowmelt.sources.snowflake.columns import clustering_columns, fitted, notes, plain
from snowmelt.sources.snowflake.login import Login
from snowmelt.sources.snowflake.measures import measures
from snowmelt.sources.snowflake.results import Result, reading
from snowmelt.sources.snowflake.session import Session
from snowmelt.sources.snowflake.snapshot import TableSnapshot

LAG_SECONDS = 5.0
"""How far back a snapshot is taken: whatever was committing at the moment itself is through by then."""
RESULTS_KEPT = 4
"""Results whose URLs are remembered between two chunks of them: each has some hundred bytes a batch."""


class SnowflakeSource:
    """`ports.QuerySource`: its session is opened when it is needed first, and again after it ended."""

    def __init__(
        self, login: Login, *, clone_schema: str | None = None, memory: Governor = UNLIMITED
    ) -> None:
        """`memory` is whom batches in flight are asked of."""
        self._session = Session(login)
        self._memory = memory
        self._clone_schema = tuple((clone_schema or "").split(".")) if clone_schema else ()
        self._cloned: set[tuple[str, ...]] = set()
        self._results: dict[str, Result] = {}

    def connect(self) -> None:
        """Open the session. Raises RunError if the login is refused, ConnectionLost if nobody answers."""
        _ = self._session.connection

    def describe(self, table: SourceTable) -> Relation:
        """Columns, key and a snapshot: the server's time of a few seconds ago, and how the table is read."""
        about = Catalogue(self._session, table)
        found = about.columns()
        kind = about.kind()
        self._require_clonable(table, kind)
        exact = table.snapshot is not Snapshot.NONE
        columns = plain(found)
        moment = self._session.now() - timedelta(seconds=LAG_SECONDS)
        try:
            seen = about.observe(moment, columns)
        except SourceChanged:
            # Made since then, perhaps: there is no history before a table. Now, as soon as it is a while back.
            moment = self._session.now()
            time.sleep(LAG_SECONDS)
            seen = about.observe(moment, columns)
        columns = fitted(columns, seen.ranges)
        snapshot = TableSnapshot(
            table.snapshot,
            moment,
            _bound(table, moment),
            about.read_as(found, kind.name),
            self._clone_name(table) if table.snapshot is Snapshot.CLONE else (),
        )
        key = about.primary_key(found, kind.name)
        return Relation(
            columns,
            key,
            snapshot.to_json(),
            exact=exact,
            retention_hours=kind.retention_hours
            if table.snapshot is Snapshot.TIME_TRAVEL
            else None,
            rows=seen.rows,
            clustering=clustering_columns(kind.clustering, columns),
            row_bytes=max(row_bytes(columns), kind.row_bytes or 0),
            notes=(*_notes(snapshot, kind), *_key_notes(key), *notes(columns)),
            comment=kind.comment,
        )

    def measure(
        self, table: SourceTable, questions: Sequence[Question], snapshot: Mapping[str, object]
    ) -> tuple[Answer, ...]:
        """The answers to the questions, of the rows that pass the filter, by one query."""
        stored = TableSnapshot.from_json(snapshot)
        name, moment = self._standing(table, stored)
        (answers,) = self._rows(measures(name, moment, questions, _narrowed(table, stored)), table)
        return answers

    def latest(self, table: SourceTable, key: Key, snapshot: Mapping[str, object]) -> Latest:
        """The greatest value of a key among the rows that pass filter and window, by one query."""
        stored = TableSnapshot.from_json(snapshot)
        name, moment = self._standing(table, stored)
        statement = statements.newest(name, moment, key, _narrowed(table, stored))
        (row,) = self._rows(statement, table)
        return latest_of(key, row, str(table))

    def histogram(
        self, table: SourceTable, key: Key, snapshot: Mapping[str, object], grain: Grain
    ) -> KeyHistogram:
        """Rows by ranges of the key, by one aggregated query."""
        stored = TableSnapshot.from_json(snapshot)
        name, moment = self._standing(table, stored)
        statement = statements.key_histogram(name, moment, key, grain, _narrowed(table, stored))
        return coarse_histogram(key, self._rows(statement, table))

    def refine(
        self,
        table: SourceTable,
        keys: Sequence[Key],
        snapshot: Mapping[str, object],
        spans: Sequence[Span],
        rows: int,
    ) -> tuple[KeyHistogram, ...]:
        """A histogram for each span by the keys' own values, by one aggregated query."""
        stored = TableSnapshot.from_json(snapshot)
        name, moment = self._standing(table, stored)
        statement = statements.finer_histograms(
            name, moment, keys, spans, rows, _narrowed(table, stored)
        )
        return fine_histograms(keys, self._rows(statement, table), spans=len(spans))

    @contextmanager
    def read(
        self,
        table: SourceTable,
        chunk: Chunk,
        columns: Sequence[Column],
        snapshot: Mapping[str, object],
        tag: Tag,
    ) -> Iterator[Reading]:
        """The chunk's rows as batches of exactly the columns' types: of a query of its own, or out of the
        result of the table's one query."""
        match chunk.range:
            case ResultBatches(_, first, rows) as batches:
                result = self._kept(table, batches)
            case keys:
                condition = statements.condition(keys)
                result = self._query(table, columns, snapshot, condition, tag)
                first, rows = 0, result.rows
        # Of a kept result it was asked when its query ran.
        unchecked = [] if isinstance(chunk.range, ResultBatches) else [snapshot]

        def check() -> None:
            while unchecked:
                self._check_reader(table, TableSnapshot.from_json(unchecked.pop()))

        try:
            with reading(result, first, rows, columns, str(table), self._memory, check) as read:
                check()  # while the first batches are on their way
                yield read
        except RetriableError:
            self._results.pop(result.query_id, None)  # the next attempt asks for it anew
            raise

    def extract(
        self,
        table: SourceTable,
        columns: Sequence[Column],
        snapshot: Mapping[str, object],
        tag: Tag,
    ) -> ResultSet:
        """Run the table's one query; its result stays on the server for a day."""
        result = self._query(table, columns, snapshot, None, tag)
        self._check_reader(table, TableSnapshot.from_json(snapshot))
        self._remember(result)
        return ResultSet(result.query_id, result.rows)

    def labelled(self, tag: Tag) -> AbstractContextManager[None]:
        """Give queries within that have no tag of their own this one."""
        return self._session.labelled(str(tag))

    def cancel(self, table: SourceTable, tag: Tag) -> int:
        """End this user's queries whose tags begin with this one."""
        running = self._rows(statements.running(table, str(tag)), table)
        for (query_id,) in running:
            self._session.rows(statements.cancel(query_id))
        return len(running)

    def release(self, table: SourceTable, snapshot: Mapping[str, object]) -> None:
        """Drop the clone, if the snapshot is one."""
        stored = TableSnapshot.from_json(snapshot)
        if stored.clone:
            self._session.rows(statements.drop(statements.relation(*stored.clone)))
            self._cloned.discard(stored.clone)

    def close(self) -> None:
        """End the session."""
        self._session.close()

    def _rows(self, statement: str, table: SourceTable) -> list[tuple[Any, ...]]:
        return self._session.rows(statement, warehouse=self._warehouse(table), table=str(table))

    def _require_clonable(self, table: SourceTable, kind: TableKind) -> None:
        if table.snapshot is Snapshot.CLONE and kind.name == "VIEW":
            raise TableError(
                "a view can't be cloned",
                table=str(table),
                remedy="set snapshot: time_travel for it, or name the table under the view",
            )

    def _clone_name(self, table: SourceTable) -> tuple[str, ...]:
        schema = self._clone_schema
        parts = schema if len(schema) == 2 else (table.database, *schema)
        return (*parts, f"SNOWMELT_{table.name[:200]}_{secrets.token_hex(4)}".upper())

    def _query(
        self,
        table: SourceTable,
        columns: Sequence[Column],
        snapshot: Mapping[str, object],
        condition: str | None,
        tag: Tag,
    ) -> Result:
        """Run a query over the snapshot; how it was read is still to be checked."""
        stored = TableSnapshot.from_json(snapshot)
        name, moment = self._fixed(table, stored, tag)
        statement = statements.rows(name, moment, columns, condition, _narrowed(table, stored))
        cursor = self._session.execute(
            statement, str(tag), warehouse=self._warehouse(table), table=str(table)
        )
        return Result(cursor, partial(self._again, str(cursor.sfqid), table))

    def _again(self, query_id: str, table: SourceTable) -> Any:
        try:
            return self._session.result(query_id, table=str(table))
        except ResultGone as gone:
            gone.query_id = query_id
            raise

    def _kept(self, table: SourceTable, range: ResultBatches) -> Result:
        """The stored batches of the one query's result. Raises ResultGone, or SourceChanged if the server has
        them otherwise than the ledger."""
        result = self._results.get(range.query_id)
        if result is None:
            refresh = partial(self._again, range.query_id, table)
            result = Result(refresh(), refresh)
            self._remember(result)
        end = range.first + len(range.rows)
        if result.rows[range.first : end] != range.rows:
            raise SourceChanged(
                f"the result of query {range.query_id} has other batches than were recorded",
                table=str(table),
                remedy="TRUNCATE the target and load the table anew with --restart-table",
            )
        return result

    def _remember(self, result: Result) -> None:
        while len(self._results) >= RESULTS_KEPT:
            self._results.pop(next(iter(self._results)))
        self._results[result.query_id] = result

    def _warehouse(self, table: SourceTable) -> str | None:
        """The table's own, or that of the login: an earlier table may have used another."""
        return table.warehouse or self._session.warehouse

    def _fixed(self, table: SourceTable, stored: TableSnapshot, tag: Tag) -> tuple[str, str]:
        """What a chunk is read FROM: the table at its moment, or the clone, which the first that needs it
        makes. Made twice it is the same, so nobody has to know who was first."""
        name = statements.table(table)
        if stored.kind is Snapshot.NONE:
            return name, ""
        if stored.kind is Snapshot.TIME_TRAVEL:
            return name, statements.at(stored.moment)
        clone = statements.relation(*stored.clone)
        if stored.clone not in self._cloned and not self._is_there(stored.clone):
            made = statements.clone(clone, name, statements.at(stored.moment))
            try:
                self._session.execute(made, str(tag), table=str(table))
            except TableError:
                if not self._is_there(stored.clone):  # nor made by another worker at the same time
                    raise
            self._cloned.add(stored.clone)
        return clone, ""

    def _standing(self, table: SourceTable, stored: TableSnapshot) -> tuple[str, str]:
        """The same for planning, which makes nothing: the clone if it is there."""
        name = statements.table(table)
        if stored.kind is Snapshot.NONE:
            return name, ""
        if stored.clone and (stored.clone in self._cloned or self._is_there(stored.clone)):
            return statements.relation(*stored.clone), ""
        return name, statements.at(stored.moment)

    def _is_there(self, clone: tuple[str, ...]) -> bool:
        try:
            self._session.rows(statements.describe(statements.relation(*clone)))
        except RetriableError:
            raise
        except TableError:
            return False
        self._cloned.add(clone)
        return True

    def _check_reader(self, table: SourceTable, stored: TableSnapshot) -> None:
        """Raise SourceChanged unless the table is read now as it was when it was planned.

        A query's result is made when it runs, so asking right after it tells of the query itself.
        """
        read_from = table
        if stored.clone:
            database, schema, name = stored.clone
            read_from = replace(table, database=database, schema=schema, name=name)
        about = Catalogue(self._session, read_from)
        now = about.read_as(about.columns(), stored.read_as.kind)
        changes = stored.read_as.differences(now)
        if changes:
            raise SourceChanged(
                f"the table is not read as it was planned: {'; '.join(changes)}",
                table=str(table),
                remedy="put it back as it was to go on, or load the table anew with --restart-table",
            )


def _bound(table: SourceTable, moment: datetime) -> str | None:
    """The table's filter as it is asked at the moment; without one its parser is not loaded."""
    if not table.filter:
        return None
    from snowmelt.sources.snowflake.filters import bind

    return bind(table.filter, moment, str(table))


def _narrowed(table: SourceTable, stored: TableSnapshot) -> str | None:
    """The filter as it was bound, and the window of the load."""
    return statements.narrowed(stored.filter, table.window)


def _key_notes(key: Sequence[str]) -> tuple[str, ...]:
    if not key:
        return ()
    return (
        f"primary key {', '.join(key)}: Snowflake does not enforce it; where it repeats, a target that is created "
        "fails at its finish, with all rows loaded",
    )


def _notes(snapshot: TableSnapshot, kind: TableKind) -> tuple[str, ...]:
    moment = f"{snapshot.moment:%Y-%m-%d %H:%M:%S} UTC"
    if snapshot.kind is Snapshot.NONE:
        told = "snapshot: none, so the load is NOT exact: each query reads the table as it is then"
    elif snapshot.kind is Snapshot.CLONE:
        told = f"snapshot: clone {'.'.join(snapshot.clone)} of {moment}, dropped at the end"
    else:
        told = f"snapshot: Time Travel to {moment}"
        if kind.name == "VIEW":
            told += "; how long the tables under the view keep their history is not known"
        elif kind.transient:
            told += "; the table is transient, whose history is kept for a day at most"
    notes = [told]
    if snapshot.filter is not None:
        notes.append(f"filter: {' '.join(snapshot.filter.split())}")
    if snapshot.read_as.policies is None:
        notes.append(
            "row access and masking policies can't be seen by this role, so a change of them would not be noticed"
        )
    elif snapshot.read_as.policies:
        names = ", ".join(sorted({name for _, name, _ in snapshot.read_as.policies}))
        notes.append(
            f"read through the policies {names}: the rows and values are those of the role"
        )
    return tuple(notes)
