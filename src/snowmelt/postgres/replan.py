"""A table's chunks planned again, when the result that they are parts of is gone at the source."""

from __future__ import annotations

import logging
from typing import LiteralString

import psycopg
from psycopg import errors as pg
from psycopg import sql
from psycopg.rows import dict_row

from snowmelt.choices import Mode
from snowmelt.chunking.chunks import Key, KeyKind
from snowmelt.chunking.histogram import DayHistogram, Loaded
from snowmelt.errors import RetriableError, TableError
from snowmelt.model import TargetTable
from snowmelt.ports import Replan, Replanned
from snowmelt.postgres.claims import LOCK_TIMEOUT_MS, add_chunks, brief, evict_within
from snowmelt.postgres.connect import Session, without_time_limits
from snowmelt.postgres.ddl import identifier
from snowmelt.postgres.queries import query
from snowmelt.postgres.shadow import shadow_of

_log = logging.getLogger(__name__)

_DAYS: dict[KeyKind, LiteralString] = {
    KeyKind.DATE: "{}",
    KeyKind.TIMESTAMP: "{}::date",
    KeyKind.INSTANT: "({} AT TIME ZONE 'UTC')::date",
}
_CLAMPED: LiteralString = (
    "CASE WHEN {key} IS NULL THEN NULL ELSE greatest(least({day}, '9999-12-31'), '0001-01-01') END"
)
"""Days as Python has them, as the source's histogram counts them too; least() alone passes over NULL."""


def replan_chunks(
    session: Session, table_id: int, query_id: str, replan: Replan
) -> Replanned | None:
    """Replace the chunks of a table, in one durable transaction with what happens to its target.

    The target was empty or new when the table was planned, so what this run committed is all that is in it;
    that is counted before anything is removed. Whole days of the key stay, other rows go, and without a key
    all go. A worker that still moves a chunk of the old result is ended, and can't complete it any more: its
    row of the ledger is gone.

    Returns None if another worker did it before. Raises RetriableError while the target is locked,
    TableError if it has other rows than the ledger says.
    """
    try:
        with brief(session) as connection:
            without_time_limits(connection)
            connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
            return _replan(connection, table_id, query_id, replan)
    except RetriableError as error:
        if isinstance(error.__cause__, pg.LockNotAvailable):
            error.remedy = "another session holds the target or its chunks; it is tried again"
        raise


def _replan(
    connection: psycopg.Connection, table_id: int, query_id: str, replan: Replan
) -> Replanned | None:
    cursor = connection.cursor(row_factory=dict_row)
    of_query = {"table_id": table_id, "query_id": query_id}
    load = cursor.execute(query("lock_load"), of_query).fetchone()
    stands = cursor.execute(query("has_open_batches"), of_query).fetchone()
    if load is None or stands is None or not stands["stands"]:
        return None
    removed = cursor.execute(query("remove_chunks"), of_query).fetchone() or {}
    for chunk_id in removed["held"]:
        evict_within(connection, {"table_id": table_id, "chunk_id": chunk_id})
    shadow = shadow_of(load["plan"], load["target_schema"])
    target = (
        shadow.table if shadow else TargetTable("", load["target_schema"], load["target_table"])
    )
    if load["plan"].get("mode", Mode.APPEND) != Mode.APPEND:
        # What is there is found by its key when it comes again.
        chunks = replan.chunks(Loaded())
        add_chunks(connection, table_id, chunks, after=removed["last_chunk_id"])
        connection.execute(query("record_replan"), {**of_query, "rows_kept": 0, "rows_removed": 0})
        return Replanned(len(chunks), 0, 0)
    loaded = _check(connection, target, replan, removed["rows_written"])
    kept = replan.histogram.whole_in(loaded) if replan.histogram and loaded else Loaded()
    chunks = replan.chunks(kept)
    rows_kept = sum(chunk.planned_rows or 0 for chunk, done in chunks if done)
    _remove(connection, target, replan, kept)
    left = _rows(connection, target)
    if left != rows_kept:
        raise TableError(
            f"{left:,} rows are left in the target where {rows_kept:,} should stay",
            table=str(target),
            remedy="TRUNCATE the target and run with --restart-table",
        )
    add_chunks(connection, table_id, chunks, after=removed["last_chunk_id"])
    rows_removed = removed["rows_written"] - rows_kept
    connection.execute(
        query("record_replan"), {**of_query, "rows_kept": rows_kept, "rows_removed": rows_removed}
    )
    _log.warning(
        "the result of query %s is gone: %s is planned again, %s rows stay, %s are removed",
        query_id,
        target,
        f"{rows_kept:,}",
        f"{rows_removed:,}",
        extra={"action": "replanned", "table": str(target), "query_id": query_id},
    )
    done = sum(done for _, done in chunks)
    return Replanned(len(chunks), done, rows_kept)


def _check(
    connection: psycopg.Connection, target: TargetTable, replan: Replan, written: int
) -> DayHistogram | None:
    """What the target has per day, if there is a key; TableError if it is not what this run committed."""
    # From the count on nobody else writes; where days of a key may stay, others may read meanwhile.
    lock: LiteralString = "LOCK TABLE {} IN ACCESS EXCLUSIVE MODE"
    if replan.key:
        lock = "LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE"
    connection.execute(sql.SQL(lock).format(identifier(target)))
    loaded = _days(connection, target, replan.key) if replan.key else None
    rows = loaded.rows if loaded else _rows(connection, target)
    if rows != written:
        raise TableError(
            f"the target has {rows:,} rows, and this run committed {written:,}: nothing is removed",
            table=str(target),
            remedy="somebody else wrote the target; see to its rows, then TRUNCATE it and run with "
            "--restart-table",
        )
    return loaded


def _rows(connection: psycopg.Connection, target: TargetTable) -> int:
    count: LiteralString = "SELECT count(*) FROM {}"
    row = connection.execute(sql.SQL(count).format(identifier(target))).fetchone()
    return int(row[0]) if row else 0


def _days(connection: psycopg.Connection, target: TargetTable, key: Key) -> DayHistogram:
    statement: LiteralString = "SELECT {} AS day, count(*) FROM {} GROUP BY 1 ORDER BY 1"
    rows = connection.execute(sql.SQL(statement).format(_day(key), identifier(target))).fetchall()
    return DayHistogram(
        key,
        tuple((day, count) for day, count in rows if day is not None),
        sum(count for day, count in rows if day is None),
    )


def _day(key: Key) -> sql.Composed:
    column = sql.Identifier(key.column)
    return sql.SQL(_CLAMPED).format(key=column, day=sql.SQL(_DAYS[key.kind]).format(column))


def _remove(
    connection: psycopg.Connection, target: TargetTable, replan: Replan, kept: Loaded
) -> None:
    table = identifier(target)
    if not (kept and replan.key):
        _empty(connection, table)
        return
    column = sql.Identifier(replan.key.column)
    delete: LiteralString = (
        "DELETE FROM {table} "
        "WHERE NOT CASE WHEN {key} IS NULL THEN %s ELSE {day} = ANY (%s::date[]) END"
    )
    connection.execute(
        sql.SQL(delete).format(table=table, key=column, day=_day(replan.key)),
        [kept.nulls, sorted(kept.days)],
    )


def _empty(connection: psycopg.Connection, table: sql.Identifier) -> None:
    truncate: LiteralString = "TRUNCATE {}"
    delete: LiteralString = "DELETE FROM {}"
    try:
        with connection.transaction():
            connection.execute(sql.SQL(truncate).format(table))
    except pg.FeatureNotSupported:  # a foreign key of another table refers to it
        connection.execute(sql.SQL(delete).format(table))
