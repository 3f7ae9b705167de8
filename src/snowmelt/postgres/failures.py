"""Driver errors -> snowmelt's errors, by SQLSTATE and type, once and here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors as pg

from snowmelt.errors import (
    Blocked,
    ConnectionLost,
    RetriableError,
    RunError,
    SnowmeltError,
    TableError,
    TooHeavy,
    ValueDoesNotFit,
)

_RETRIABLE = (
    pg.SerializationFailure,
    pg.DeadlockDetected,
    pg.QueryCanceled,
    pg.OutOfMemory,
    pg.ConfigurationLimitExceeded,
    pg.ObjectInUse,
)
PASSING = tuple(sorted(str(kind.sqlstate) for kind in _RETRIABLE))
"""SQLSTATEs of what passes by itself."""
_SERVER_GONE = (
    pg.AdminShutdown,
    pg.CrashShutdown,
    pg.CannotConnectNow,
    pg.TooManyConnections,
    pg.DatabaseDropped,
    pg.IdleInTransactionSessionTimeout,
    pg.IdleSessionTimeout,
    pg.TransactionTimeout,
    # A primary that became a standby: the next connection finds the new primary.
    pg.ReadOnlySqlTransaction,
)
_RUN_ENDS = {
    pg.DiskFull: "free space on the server's disk, then run again: it resumes",
    pg.InvalidPassword: "correct the password of the postgres block",
    pg.InvalidAuthorizationSpecification: "correct user and password of the postgres block",
    pg.InvalidCatalogName: "create the database, or correct target_pg_database",
}
_HELD = "see in pg_locks who holds the lock; it is waited for"
_OUTGROWN = {
    pg.QueryCanceled: "raise statement_timeout for the role of the postgres block",
    pg.TransactionTimeout: "raise transaction_timeout for the role of the postgres block",
    pg.OutOfMemory: "give the PostgreSQL server more memory",
    pg.ConfigurationLimitExceeded: "raise temp_file_limit for the role of the postgres block",
}
_NO_PLACE = (
    "create a partition for the row, or a DEFAULT partition, or filter it out with source_filter"
)
_REMEDIES = {
    pg.InsufficientPrivilege: "grant the role of the postgres block what the message names",
    pg.UndefinedTable: "the table was dropped or renamed after planning; put it back or start anew",
    pg.UndefinedColumn: "the target table changed after planning; put the column back",
    pg.UniqueViolation: "the source repeats a value of a unique key of the target; "
    "remove the repetition, or load into a table without that key",
    pg.NotNullViolation: "filter the row out with source_filter, or drop NOT NULL in the target",
    pg.CheckViolation: "filter the row out with source_filter, or drop the check in the target",
    pg.StatementTooComplex: "leave the row out with source_filter, make the target column text, or raise "
    "max_stack_depth of the server",
    pg.ProgramLimitExceeded: "leave the row out with source_filter",
    pg.ForeignKeyViolation: "load the referenced table first, or drop the foreign key",
}


def translate(error: psycopg.Error) -> SnowmeltError:
    """The error a caller acts on. What is not known is fatal for its table: unknown means stop."""
    text = (error.diag.message_primary or str(error)).strip()
    if error.diag.message_detail:
        text = f"{text} ({error.diag.message_detail})"
    state = error.sqlstate
    for kind, remedy in _RUN_ENDS.items():
        if isinstance(error, kind):
            return RunError(text, remedy=remedy, sqlstate=state)
    if isinstance(error, pg.LockNotAvailable):
        return Blocked(text, remedy=_HELD, sqlstate=state)
    if isinstance(error, _RETRIABLE):
        return RetriableError(text, sqlstate=state)
    if isinstance(error, _SERVER_GONE) or (state or "").startswith("08"):
        return ConnectionLost(text, sqlstate=state)
    if state is None and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return ConnectionLost(text)
    if isinstance(error, pg.InternalError) and state is None:
        return ConnectionLost(text)
    column = error.diag.column_name
    if isinstance(error, psycopg.DataError):
        remedy = "correct the value in the source, filter the row out, or widen the target column"
        return ValueDoesNotFit(text, column=column, remedy=remedy, sqlstate=state)
    if isinstance(error, pg.CheckViolation) and error.diag.constraint_name is None:
        # Of a constraint the name is told: what has none is the place of a row among partitions.
        return TableError(text, column=column, remedy=_NO_PLACE, sqlstate=state)
    remedy_known = next((r for kind, r in _REMEDIES.items() if isinstance(error, kind)), None)
    return TableError(text, column=column, remedy=remedy_known, sqlstate=state)


def translate_move(error: psycopg.Error) -> SnowmeltError:
    """The same for statements that take as long as a chunk has rows: what ends them for that is TooHeavy.

    A person who cancels one has the SQLSTATE of statement_timeout: smaller ones are then right as well.
    """
    known = translate(error)
    for kind, remedy in _OUTGROWN.items():
        if isinstance(error, kind):
            return TooHeavy(known.what, remedy=remedy, sqlstate=error.sqlstate)
    return known


@contextmanager
def translated(table: str | None = None, chunk: int | None = None) -> Iterator[None]:
    """Raise what `translate` makes of a driver error, with where it happened."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error).located(table=table, chunk=chunk) from error
