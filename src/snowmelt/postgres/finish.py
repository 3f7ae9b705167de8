"""From the last chunk of a load to its end: what is built on the table, the recount, the target's replacement."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from snowmelt.choices import Mode
from snowmelt.errors import CountMismatch, RetriableError, SnowmeltError, TableError
from snowmelt.model import TargetTable
from snowmelt.ports import OnBuilding
from snowmelt.postgres.builds import FINISH
from snowmelt.postgres.claims import brief
from snowmelt.postgres.connect import Session, without_time_limits
from snowmelt.postgres.ddl import count_within, identifier
from snowmelt.postgres.exchange import Name, exchange, statistics_made
from snowmelt.postgres.failures import translate
from snowmelt.postgres.furnishing import (
    Load,
    gets_more,
    load_of,
    names_in,
    note_rest,
    swaps,
    unnoted,
)
from snowmelt.postgres.locks import lock_writers_out, patiently
from snowmelt.postgres.marks import advance_mark
from snowmelt.postgres.queries import query
from snowmelt.postgres.rollback import drop_kept, kept
from snowmelt.postgres.sequences import past_the_rows
from snowmelt.postgres.shadow import Shadow, drop_table, oid_of
from snowmelt.postgres.truncate import note_removal
from snowmelt.postgres.upkeep import drop_staging
from snowmelt.replacement import Way

_log = logging.getLogger(__name__)


def build_step(session: Session, table_id: int, tell: OnBuilding, *, goes_on: bool = False) -> bool:
    """Build one index or foreign key of a load whose chunks are all committed; False if there is nothing to do
    here now. Who comes first notes what there is to build. `goes_on` as in `Builds.step`."""
    with session.transaction() as connection:
        # Whoever finishes it may hold its row for as long as readers hold the target.
        load = load_of(connection, table_id, locked=False)
    if load is None or load.completed:
        return False
    if not gets_more(load) or load.furnished:
        return load.builds(session).step(tell, goes_on=goes_on)
    with brief(session) as connection:
        load = load_of(connection, table_id, locked=True) if _alone(connection, table_id) else None
        if load is None or load.completed:
            return False
        if not load.furnished:
            note_rest(session, connection, load)
    return True


def _alone(connection: psycopg.Connection, table_id: int) -> bool:
    row = connection.execute(
        query("lock_chunk"), {"table_id": table_id, "chunk_id": FINISH}
    ).fetchone()
    return bool(row and row[0])


def finish_load(session: Session, table_id: int) -> bool:
    """Complete a table if every chunk is committed and all is built; False if some are not, or not any more, if
    another process is about it, or if the run was aborted.

    The recount stands in the transaction that marks the table: what workers were told of asynchronous commits is
    not the truth after a crash of the server, the ledger is. Raises CountMismatch when the rows read are not the
    rows planned, TableError when something could not be built, Blocked while readers keep the target from being
    replaced.
    """
    with brief(session) as connection:
        if not _alone(connection, table_id):
            return False
        load = load_of(connection, table_id, locked=True)
        if load is None:
            return False
        if load.completed:
            return True
        without_time_limits(connection)
        count = _recounted(connection, load)
        if count is None:
            return False
        if gets_more(load) and not load.furnished:
            note_rest(session, connection, load)
            return False
        if swaps(load) and unnoted(connection, load):
            note_rest(session, connection, load)  # somebody has created an index meanwhile
            return False
        builds = load.builds(session)
        if failures := builds.failures():
            raise _unbuilt(load, failures)
        if builds.left():
            return False
        if not connection.execute(query("complete_load"), {"table_id": table_id}).rowcount:
            return False
        _furnish(connection, load)
        if load.shadow is not None:
            _require_survived(connection, load.shadow.table, count)
            _replace(connection, load, load.shadow)
        _note_rows(connection, load, count)
        advance_mark(connection, load.plan, table_id)
        names = {"schema": load.target.schema, "table": load.target.name}
        connection.execute(query("note_restored"), names)
    _log.info(
        "%s is completed",
        load.target,
        extra={"action": "table_completed", "table": str(load.target)},
    )
    _drop_staging(session, table_id)
    if load.shadow is not None:
        _drop_older(session, load, load.shadow)
    return True


def _recounted(connection: psycopg.Connection, load: Load) -> int | None:
    """Rows written, by the ledger; None while a chunk is open."""
    cursor = connection.cursor(row_factory=dict_row)
    count = cursor.execute(query("recount"), {"table_id": load.table_id}).fetchone() or {}
    if count["open_chunks"]:
        return None
    if load.planned_rows is not None and count["rows_read"] != load.planned_rows:
        raise CountMismatch(
            f"{count['rows_read']:,} rows were read, {load.planned_rows:,} were planned",
            table=str(load.target),
            remedy="the source changed while it was read: load the table anew into an empty target",
        )
    return int(count["rows_written"])


def _unbuilt(load: Load, failures: Mapping[str, str]) -> TableError:
    many = "1 index or key" if len(failures) == 1 else f"{len(failures)} indexes and keys"
    told = "\n    ".join(f"{name}: {why}" for name, why in failures.items())
    return TableError(
        f"all rows are loaded, but {many} could not be built:\n    {told}",
        table=str(load.target),
        remedy="see to the cause, then run again: only what is missing is built",
    )


def _furnish(connection: psycopg.Connection, load: Load) -> None:
    """Give the table fresh statistics; sequences go past what was loaded."""
    connection.execute(sql.SQL("ANALYZE {}").format(identifier(load.into)))
    if load.shadow is None:
        past_the_rows(connection, load.target, load.target)


def _replace(connection: psycopg.Connection, load: Load, shadow: Shadow) -> None:
    """The moment in which the new rows take the place of the old. From the count on nobody writes the target."""
    if oid_of(connection, load.target) is None:
        _move_in(connection, load, shadow)
        return
    removed = _counted(connection, load, shadow)
    past_the_rows(connection, load.target, shadow.table)
    if shadow.way is Way.REFILL:
        _refill(connection, load, shadow)
    else:
        _swap(connection, load, shadow)
    note_removal(connection, load.run_id, load.target, removed, "replaced")


def _counted(connection: psycopg.Connection, load: Load, shadow: Shadow) -> int:
    lock_writers_out(connection, load.target)
    found = count_within(connection, load.target)
    if shadow.rows is not None and found != shadow.rows:
        raise TableError(
            f"the target had {shadow.rows:,} rows when it was planned, and has {found:,} now: it is not replaced",
            table=str(load.target),
            remedy="see who writes the target; to replace the rows all the same: run again with --allow-truncate",
        )
    return found


def _swap(connection: psycopg.Connection, load: Load, shadow: Shadow) -> None:
    names = [
        Name("index", load.target.schema, built_as, name)
        for name, built_as in names_in(connection, load)
    ]
    names += statistics_made(connection, load.target, f"{shadow.table.name}_s")
    aside = shadow.previous
    try:
        kept_names = exchange(connection, load.target, shadow.table, names, aside)
    except psycopg.errors.DuplicateTable as error:
        raise RetriableError(translate(error).what) from error  # an index created just now
    # Noted where it is not to be kept, too: it is dropped afterwards, or found by a cleanup.
    connection.execute(
        query("note_replacement"),
        {
            "table_id": load.table_id,
            "schema": load.target.schema,
            "table": load.target.name,
            "previous": aside.name,
            "names": Jsonb([dataclasses.asdict(name) for name in kept_names]),
            "hours": shadow.hours,
        },
    )


def _move_in(connection: psycopg.Connection, load: Load, shadow: Shadow) -> None:
    """Into a name that is free."""
    rename: LiteralString = "ALTER TABLE {} RENAME TO {}"
    for name, built_as in names_in(connection, load):
        index: LiteralString = "ALTER INDEX {} RENAME TO {}"
        place = sql.Identifier(load.target.schema, built_as)
        connection.execute(sql.SQL(index).format(place, sql.Identifier(name)))
    connection.execute(
        sql.SQL(rename).format(identifier(shadow.table), sql.Identifier(load.target.name))
    )


def _refill(connection: psycopg.Connection, load: Load, shadow: Shadow) -> None:
    truncate: LiteralString = "TRUNCATE {}"
    insert: LiteralString = "INSERT INTO {} ({}) SELECT {} FROM {}"
    columns = [
        row[0]
        for row in connection.execute(
            query("columns_of"), {"schema": shadow.table.schema, "table": shadow.table.name}
        ).fetchall()
    ]
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    target = identifier(load.target)
    fill = sql.SQL(insert).format(target, names, names, identifier(shadow.table))

    def once() -> None:
        connection.execute(sql.SQL(truncate).format(target))
        connection.execute(fill)
        _require_all(connection, load, shadow)

    patiently(connection, (load.target,), once, purpose="refill the target")
    connection.execute(sql.SQL("ANALYZE {}").format(target))
    drop_table(connection, shadow.table)


def _require_survived(connection: psycopg.Connection, table: TargetTable, rows: int) -> None:
    """An UNLOGGED table is emptied by a crash of the server, and chunks of which the ledger knows with it."""
    kind = "SELECT relpersistence = 'u' FROM pg_class WHERE oid = %s"
    row = connection.execute(kind, [oid_of(connection, table)]).fetchone()
    if row is None or not row[0]:
        return
    there = count_within(connection, table)
    if there != rows:
        raise TableError(
            f"{rows:,} rows were loaded into {table}, which is UNLOGGED and has {there:,}",
            remedy="was there a crash of the server? Run with --restart-table: it is loaded anew",
        )


def _require_all(connection: psycopg.Connection, load: Load, shadow: Shadow) -> None:
    """Rules and triggers of the target may leave rows out, or put them elsewhere."""
    loaded, there = (count_within(connection, table) for table in (shadow.table, load.target))
    if there != loaded:
        raise TableError(
            f"of {loaded:,} rows that it was to be filled with the target has {there:,}: it is not replaced",
            table=str(load.target),
            remedy="see which rule, trigger or policy of the target keeps rows out of it, then run again",
        )


def _note_rows(connection: psycopg.Connection, load: Load, written: int) -> None:
    """Note all rows of a target that was empty: by their number a full refresh knows them as its own."""
    # What release 0.3.0 planned does not say so, and always began so.
    if not load.plan.get("began_empty", True):
        return
    if load.plan.get("mode") == Mode.UPSERT:  # of one row several versions may have been written
        written = count_within(connection, load.target)
    connection.execute(query("note_rows"), {"table_id": load.table_id, "rows": written})


def _drop_older(session: Session, load: Load, shadow: Shadow) -> None:
    """Of one target the table that was replaced last is kept, if any is to be. A drop is a transaction of its own:
    who reads a table that its foreign keys refer to is in the way of that, and not of the exchange."""
    found = kept(session, load.target)
    if not any(one.table_id == load.table_id for one in found):
        return  # it moved into a name that was free, and replaced nothing
    going = [one for one in found if one.table_id != load.table_id or not shadow.hours]
    for one, why in drop_kept(session, going):
        text = "%s is left, for a cleanup to drop: %s"
        _log.warning(
            text, one.previous, why, extra={"action": "previous_left", "table": str(load.target)}
        )


def _drop_staging(session: Session, table_id: int) -> None:
    """What can't be dropped now, `snowmelt cleanup` finds."""
    try:
        drop_staging(session, [table_id])
    except SnowmeltError as error:
        _log.warning("%s", error, extra={"action": "staging_left"})
