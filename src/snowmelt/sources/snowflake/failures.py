"""The connector's errors -> snowmelt's errors, by number, once and here.

Numbers of the server: https://docs.snowflake.com/en/user-guide/query-errors; of the connector: its errorcode.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
from snowflake.connector import errors as sf

from snowmelt.errors import (
    ConnectionLost,
    ResultGone,
    RetriableError,
    RunError,
    SnowmeltError,
    SourceChanged,
    TableError,
)

HISTORY_GONE = 707
NO_SUCH_OBJECT = 2003
RESULT_GONE = frozenset({709, 710})
_SESSION_OVER = frozenset({390103, 390104, 390111, 390112, 390114, 390115, 250002})
"""No token, login again, session gone, session or master token expired, connection closed."""
_LOGIN_REFUSED = frozenset(
    {250001, 251001, 251005, 251006, 251007, 390100, 390101, 390144, 390186, 390189, 390195, 390201}
    | {390303, 390317, 390318, 390422, 394304, 394507}
)
_CANCELLED = 604
_TIMED_OUT = 630
_NO_WAREHOUSE = 606
_DENIED = frozenset({3001, 90105, 90106})
_MISREAD = frozenset({904, 1003, 2002, 2043})


def translate(error: sf.Error) -> SnowmeltError:
    """The error a caller acts on. What is not known is fatal for its table: unknown means stop.

    The message of a failed download may quote its URL, which is as good as a password: it is left out.
    """
    number, text = error.errno or -1, _text(error)
    state = error.sqlstate
    if number in _LOGIN_REFUSED or (isinstance(error, sf.ForbiddenError) and "oginrequest" in text):
        return RunError(
            f"Snowflake refused the login: {text}",
            remedy="correct account, user and key, password or token of the snowflake block",
            sqlstate=state,
        )
    if number in _SESSION_OVER:
        return ConnectionLost(f"the Snowflake session ended: {text}", sqlstate=state)
    if number == HISTORY_GONE:
        return SourceChanged(
            f"the table's history at the moment of its snapshot is gone: {text}",
            remedy="TRUNCATE the target and load the table anew with --restart-table; snapshot: clone, or a "
            "longer DATA_RETENTION_TIME_IN_DAYS, keeps the moment for longer",
        )
    if number in RESULT_GONE:
        return ResultGone(text)
    if number in (_CANCELLED, _TIMED_OUT):
        return RetriableError(text, sqlstate=state, remedy="see statement_timeout_seconds")
    if number == _NO_WAREHOUSE:
        return RunError(
            text,
            remedy="name a warehouse that the role may use in the snowflake block",
            sqlstate=state,
        )
    if number == NO_SUCH_OBJECT:
        return TableError(
            text,
            remedy="correct `source`, source_sf_schema or source_sf_database (names keep their case), or grant "
            "the role USAGE on database and schema and SELECT on the table",
            sqlstate=state,
        )
    if number in _DENIED:
        return TableError(
            text,
            remedy="grant the role of the snowflake block what the message names",
            sqlstate=state,
        )
    if number in _MISREAD:
        return TableError(
            text,
            remedy="correct the column names or `source_filter` of the table",
            sqlstate=state,
        )
    if _passes(error, number):
        return ConnectionLost(f"Snowflake could not be reached: {text}", sqlstate=state)
    return TableError(text, sqlstate=state)


def _passes(error: sf.Error, number: int) -> bool:
    """A network that failed, or a server with an HTTP status that passes with time: the connector gives those
    the number 290000 plus the status, and its own tries are over."""
    return isinstance(error, sf.HttpError | sf.InterfaceError | sf.InternalError) or (
        isinstance(error, sf.OperationalError) and (number < 0 or 250_000 <= number < 300_000)
    )


def _text(error: sf.Error) -> str:
    text = str(error.raw_msg or error.msg or type(error).__name__).strip()
    line = " ".join(part.strip() for part in text.splitlines() if part.strip())
    return line if "://" not in line else f"{type(error).__name__} {error.errno}"


@contextmanager
def translated(table: str | None = None) -> Iterator[None]:
    """Raise what `translate` makes of the connector's errors, with the table.

    A chain that was cut at the connector's error keeps a URL in its message out of logs and tracebacks.
    """
    try:
        yield
    except sf.Error as error:
        raise translate(error).located(table=table) from error
    except pa.ArrowException as error:
        raise TableError(
            f"a result can't be read: {str(error).strip().splitlines()[0]}", table=table
        ) from error
