"""A build that the server ends by itself, whatever becomes of its client.

Its statements, the note in the ledger and COMMIT are one message of the simple protocol. A backend that asks its
client for nothing and has nothing to tell it does not notice that it is gone: it reads the next message after
COMMIT. What fails is noted by the server as well, since nobody may be there to hear it.
https://www.postgresql.org/docs/current/runtime-config-connection.html#GUC-CLIENT-CONNECTION-CHECK-INTERVAL
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import LiteralString

import psycopg
from psycopg import errors as pg
from psycopg import sql

from snowmelt.postgres.failures import PASSING
from snowmelt.postgres.queries import query

ATTEMPTS = 3
"""At a build that fails for want of memory, or for a deadlock, or whose session was ended."""
# A notice would be sent at once, and a client that can't be sent to ends its backend.
_MESSAGE: LiteralString = """
    SET LOCAL client_connection_check_interval = 0;
    SET LOCAL client_min_messages = error;
    SET LOCAL snowmelt.failure = '';
    DO {};
    SELECT current_setting('snowmelt.failure');
    COMMIT
"""
_BLOCK: LiteralString = """
DECLARE
    what text; detail text; state text;
BEGIN
    {building}
EXCEPTION WHEN query_canceled OR assert_failure OR OTHERS THEN
    GET STACKED DIAGNOSTICS what = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, state = RETURNED_SQLSTATE;
    what := what || CASE WHEN detail <> '' THEN ' (' || detail || ')' ELSE '' END;
    PERFORM set_config('snowmelt.failure', json_build_array(state, what)::text, true);
    IF state = {blocked} THEN {put_off} ELSE {ended} END IF;
END
"""


def handed_over(
    connection: psycopg.Connection, id: int, statements: Sequence[sql.Composed], done: str
) -> psycopg.Error | None:
    """Let the server build what is noted as `id` of post_data, by `statements`, note by `done` that it is, and end
    the transaction that is open. Returns what the server met, which is noted unless it was a lock that was not to
    be had.

    Raises psycopg.Error where the connection is lost: then the server goes on.
    """
    cursor = connection.execute(message(connection, id, statements, done))
    while cursor.description is None and cursor.nextset():
        pass
    (failure,) = cursor.fetchone() or ("",)
    if not failure:
        return None
    state, what = json.loads(failure)
    try:
        return pg.lookup(state)(what)
    except KeyError:
        return psycopg.DatabaseError(what)


def message(
    connection: psycopg.Connection, id: int, statements: Sequence[sql.Composed], done: str
) -> sql.Composed:
    """What is sent, without parameters: with them it would be one statement, by the extended protocol."""
    text = psycopg.ClientCursor(connection)
    limits = {"id": id, "limit": ATTEMPTS, "passing": list(PASSING)}
    executed = [
        *(one.as_string(connection) for one in statements),
        done,
    ]
    block = sql.SQL(_BLOCK).format(
        building=_each(executed),
        blocked=sql.Literal(pg.LockNotAvailable.sqlstate),
        put_off=_each([text.mogrify(query("put_off_post_data"), limits)]),
        ended=_each([text.mogrify(query("ended_post_data"), limits)]),
    )
    return sql.SQL(_MESSAGE).format(sql.Literal(block.as_string(connection)))


def _each(statements: Sequence[str]) -> sql.Composed:
    execute: LiteralString = "EXECUTE {};"
    return sql.SQL(" ").join(sql.SQL(execute).format(sql.Literal(one)) for one in statements)
