"""The connector's errors -> snowmelt's errors, by number, once and here.

Numbers of the server: https://docs.snowflake.com/en/user-guide/query-errors; of the connector: its errorcode.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.request import getproxies

import pyarrow as pa
from snowflake.connector import errors as sf
from snowflake.connector.vendored import requests
from snowflake.connector.vendored.urllib3.exceptions import HTTPError

from snowmelt.errors import (
    ConnectionLost,
    ResultGone,
    RetriableError,
    RunError,
    SnowmeltError,
    SourceChanged,
    TableError,
    TooHeavy,
)


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a group of numbers means: the error that the caller gets, and what to do."""

    kind: type[SnowmeltError]
    what: str = "{text}"
    remedy: str | None = None


NOT_CONNECTED = 250001
"""Of an OperationalError: nobody answered. Of any other error: the login was refused."""
NO_ANSWER = 250003
"""Of a request that did not come through."""
LOGIN_REFUSED = Meaning(
    RunError,
    "Snowflake refused the login: {text}",
    "correct account, user and key, password or token of the snowflake block",
)
UNREACHABLE = Meaning(
    ConnectionLost,
    "Snowflake could not be reached: {text}",
    "are account and host of the snowflake block right, and is the network open?",
)
UNTRUSTED = Meaning(
    RunError,
    "the certificate that came from the address of Snowflake is not of a CA that is trusted here",
    "does a proxy look into TLS on the way? set REQUESTS_CA_BUNDLE to a file with its CA, and with the public "
    "ones where not all goes through it",
)
MISNAMED = Meaning(
    RunError,
    "the certificate that came from the address of Snowflake is of another host",
    "correct account and host of the snowflake block",
)
SESSION_OVER = Meaning(ConnectionLost, "the Snowflake session ended: {text}")
HISTORY_GONE = Meaning(
    SourceChanged,
    "the table's history at the moment of its snapshot is gone: {text}",
    "TRUNCATE the target and load the table anew with --restart-table; snapshot: clone, or a longer "
    "DATA_RETENTION_TIME_IN_DAYS, keeps the moment for longer",
)
RESULT_GONE = Meaning(ResultGone)
CANCELLED = Meaning(RetriableError)
"""By somebody: another attempt may be left alone."""
QUEUED = Meaning(
    RetriableError,
    remedy="raise STATEMENT_QUEUED_TIMEOUT_IN_SECONDS of the warehouse, give it more clusters, or name another",
)
"""The query never ran: smaller chunks would wait as long."""
NOT_READY = Meaning(RetriableError)
"""A warehouse that is suspended or resumes just now."""
FAULT = Meaning(RetriableError)
"""Snowflake's own: the same query often runs the next time."""
TIMED_OUT = Meaning(
    TooHeavy,
    remedy="raise statement_timeout_seconds of the snowflake block, or STATEMENT_TIMEOUT_IN_SECONDS of the "
    "warehouse",
)
OUT_OF_MEMORY = Meaning(TooHeavy, remedy="use a larger warehouse")
QUOTA = Meaning(
    RunError,
    remedy="raise the quota of the resource monitor or name another warehouse, then run again: it resumes",
)
NO_WAREHOUSE = Meaning(
    RunError, remedy="name a warehouse that the role may use in the snowflake block"
)
NO_SUCH_OBJECT = Meaning(
    TableError,
    remedy="correct `source`, source_sf_schema or source_sf_database (names keep their case), or grant the "
    "role USAGE on database and schema and SELECT on the table",
)
DENIED = Meaning(TableError, remedy="grant the role of the snowflake block what the message names")
MISREAD = Meaning(TableError, remedy="correct the column names or `source_filter` of the table")
OTHER_FORMATS = Meaning(
    TableError,
    remedy="unset DATE_INPUT_FORMAT and TIMESTAMP_INPUT_FORMAT for the user: dates are written in ISO form",
)
_BY_NUMBER = {
    number: meaning
    for meaning, numbers in (
        # Account or user missing or wrong, password, key, tokens, network policy, user locked.
        (LOGIN_REFUSED, (251001, 251005, 251006, 251007, 251008, 390100, 390101, 390144, 390186)),
        (LOGIN_REFUSED, (390189, 390195, 390201, 390303, 390317, 390318, 390422, 394304, 394507)),
        # No token, login again, session gone, session or master token expired, connection closed.
        (SESSION_OVER, (390103, 390104, 390111, 390112, 390114, 390115, 250002)),
        (HISTORY_GONE, (707,)),
        (RESULT_GONE, (709, 710)),
        (FAULT, (603,)),
        (CANCELLED, (604,)),
        (TIMED_OUT, (630,)),
        (NO_WAREHOUSE, (606,)),
        (NO_SUCH_OBJECT, (2003,)),
        (DENIED, (3001, 90105, 90106)),
        (QUOTA, (90073,)),
        (MISREAD, (904, 1003, 2002, 2043)),
        (OTHER_FORMATS, (100035, 100040)),
    )
    for number in numbers
}


_OF_TLS = (
    (re.compile(r"certificate.verify.failed", re.IGNORECASE), UNTRUSTED),
    (re.compile(r"hostname .* doesn't match|hostname mismatch", re.IGNORECASE), MISNAMED),
)
"""Of a message that quotes the URL, which is why it is not told."""
_BY_SQLSTATE = {"57014": CANCELLED, "57P03": NOT_READY}
"""Of numbers that are not known here: the class says that it passes."""
_BY_TEXT = (
    # Queries that wait too long for a warehouse, and those that run too long, may come under one number.
    ((604, 630), re.compile(r"\bqueued?\b", re.IGNORECASE), QUEUED),
    # A worker of the warehouse that was ended for its memory is told of as "Disappeared worker(s)".
    ((603,), re.compile(r"\b300005\b|out of memory", re.IGNORECASE), OUT_OF_MEMORY),
)
NETWORK_ERRORS = (sf.Error, requests.exceptions.RequestException, HTTPError, OSError)
"""What a call of the connector may raise: its own errors, and those of the libraries below, as they are, when its
tries of a download are over."""


def translate(error: Exception) -> SnowmeltError:
    """The error a caller acts on. What is not known is fatal for its table: unknown means stop.

    The message of a failed download may quote its URL, which is as good as a password: it is left out.
    """
    if not isinstance(error, sf.Error):
        meaning, text, sqlstate = _of_tls(str(error)) or UNREACHABLE, type(error).__name__, None
    else:
        meaning, text, sqlstate = _meaning(error), _text(error), error.sqlstate
    remedy = meaning.remedy
    if meaning is UNREACHABLE and getproxies().get("https"):
        remedy = f"{remedy} does the proxy of HTTPS_PROXY let it through?"
    return meaning.kind(meaning.what.format(text=text), remedy=remedy, sqlstate=sqlstate)


def _of_tls(text: str) -> Meaning | None:
    return next((meaning for words, meaning in _OF_TLS if words.search(text)), None)


def _meaning(error: sf.Error) -> Meaning:
    number = error.errno or -1
    if number == NO_ANSWER and (of_tls := _of_tls(str(error.raw_msg or error.msg))):
        return of_tls
    for numbers, words, meaning in _BY_TEXT:
        if number in numbers and words.search(_text(error)):
            return meaning
    if number in _BY_NUMBER:
        return _BY_NUMBER[number]
    if number == NOT_CONNECTED and not isinstance(error, sf.OperationalError):
        return LOGIN_REFUSED
    if 0 < number < 250_000 and error.sqlstate in _BY_SQLSTATE:
        return _BY_SQLSTATE[error.sqlstate]
    return UNREACHABLE if _passes(error, number) else Meaning(TableError)


def _passes(error: sf.Error, number: int) -> bool:
    """A network that failed, or a server with an HTTP status that passes with time, which the connector tells
    by the number 290000 plus the status: its own tries are over. The numbers of the server are below."""
    if isinstance(error, sf.InterfaceError | sf.InternalError):
        return True
    client = number < 0 or 250_000 <= number < 300_000
    return client and not isinstance(error, sf.ProgrammingError)


_URL = re.compile(r"://|\burl\b|/\S*\?\S*=", re.IGNORECASE)


def _text(error: sf.Error) -> str:
    text = str(error.raw_msg or error.msg or type(error).__name__).strip()
    line = " ".join(part.strip() for part in text.splitlines() if part.strip())
    if not isinstance(error, sf.ProgrammingError) and _URL.search(line):
        return f"{type(error).__name__} {error.errno}"
    return line


@contextmanager
def translated(table: str | None = None) -> Iterator[None]:
    """Raise what `translate` makes of the connector's errors, with the table.

    A chain that was cut at the connector's error keeps a URL in its message out of logs and tracebacks.
    """
    try:
        yield
    except sf.Error as error:
        raise translate(error).located(table=table) from error
    except NETWORK_ERRORS as error:
        raise translate(error).located(table=table) from None
    except MemoryError:  # some of Arrow's errors are
        raise
    except pa.ArrowException as error:
        raise TableError(
            f"a result can't be read: {str(error).strip().splitlines()[0]}", table=table
        ) from error
