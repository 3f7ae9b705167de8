"""Commands in the background, and a gate that holds COPY, for tests that must catch a run in the middle."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from psycopg import sql

from tests.support import SECONDS, Database, command, duckdb_file

FAILED, USAGE = 1, 2
PATIENCE_SECONDS = 45.0
_GATE, _TICKETS = 815, 300


def messages_in(text: str) -> int:
    """How many messages there are: each has one remedy, on a line that begins with an arrow."""
    return len(re.findall(r"^ *→ ", text, re.MULTILINE))


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Poll until the condition holds; fails with `what` was waited for."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a background command ended."""

    code: int
    out: str
    err: str


class Background:
    """A snowmelt process that runs beside the test; leaving the `with` block kills it."""

    def __init__(self, config: Path, *arguments: str) -> None:
        # Several may run side by side, each with files of its own.
        number = len(list(config.parent.glob("background-*.err")))
        self._out = config.parent / f"background-{number}.out"
        self._err = config.parent / f"background-{number}.err"
        with self._out.open("w") as out, self._err.open("w") as err:
            self._process = subprocess.Popen(command(config, *arguments), stdout=out, stderr=err)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def says(self, text: str) -> None:
        """Wait until the process has said this on stderr."""
        wait_until(lambda: text in self._err.read_text(), f"{text!r} on stderr")

    def end(self, seconds: float = SECONDS) -> Ended:
        """Wait for the process to end by itself."""
        code = self._process.wait(seconds)
        return Ended(code, self._out.read_text(), self._err.read_text())


class Gate:
    """Holds each COPY into some tables before its first row while it is closed. It starts closed.

    A held COPY is a chunk in flight: claimed, its transaction open, its rows under way. Each takes a ticket, and
    waits for the lock of its ticket: so many as are let through pass, and not one more.
    """

    def __init__(self, database: Database, connection: psycopg.Connection) -> None:
        self._database = database
        self._connection = connection
        self._next = 1
        # Released at once, not with the transaction: a chunk that has passed does not keep the gate open.
        self._connection.execute(
            "CREATE SEQUENCE public.gate_tickets AS int; "
            "CREATE FUNCTION pass_gate() RETURNS trigger LANGUAGE plpgsql AS "
            "$$DECLARE ticket int := nextval('public.gate_tickets'); "
            f"BEGIN PERFORM pg_advisory_lock_shared({_GATE}, ticket); "
            f"PERFORM pg_advisory_unlock_shared({_GATE}, ticket); RETURN NULL; END$$"
        )
        self.close()

    @classmethod
    @contextmanager
    def before(cls, database: Database, *tables: str) -> Iterator[Self]:
        """A closed gate before tables of the schema public; it opens when the block ends."""
        with database.connect() as connection:
            gate = cls(database, connection)
            for table in tables:
                connection.execute(
                    sql.SQL(
                        "CREATE TRIGGER gate BEFORE INSERT ON {} "
                        "FOR EACH STATEMENT EXECUTE FUNCTION pass_gate()"
                    ).format(sql.Identifier(table))
                )
            yield gate

    def close(self) -> None:
        """Hold all that comes from now on."""
        statement = "SELECT pg_advisory_lock(%s::int, n) FROM generate_series(%s::int, %s) n"
        self._next = self._taken() + 1
        self._connection.execute(statement, [_GATE, self._next, self._next + _TICKETS])

    def open(self) -> None:
        self._connection.execute("SELECT pg_advisory_unlock_all()")

    def lets(self, count: int) -> None:
        """Let so many through, those that stand before it first, and go on holding all others."""
        self._next = max(self._next, self._taken() + 1)
        tickets = [*sorted(self._waiting()), *range(self._next, self._next + count)][:count]
        self._connection.execute(
            "SELECT pg_advisory_unlock(%s::int, n) FROM unnest(%s::int[]) n", [_GATE, tickets]
        )
        self._next = max(self._next, tickets[-1] + 1)

    def _taken(self) -> int:
        """The last ticket that was taken, 0 before the first."""
        last = "SELECT (last_value - 1 + is_called::int)::int FROM public.gate_tickets"
        return int(self._database.value(last))

    def _waiting(self) -> dict[int, int]:
        """Tickets of those that stand before the gate, with their backends."""
        return dict(
            self._database.execute(
                "SELECT objid::int, pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted "
                "AND classid = %s "
                "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
                [_GATE],
            )
        )

    def held(self) -> set[int]:
        """The backends that stand before the gate."""
        return set(self._waiting().values())

    def holds(self, count: int) -> set[int]:
        """Wait until so many backends stand before the gate."""
        wait_until(lambda: len(self.held()) == count, f"{count} chunks before the gate")
        return self.held()


def minutes(path: Path, rows: int, *tables: str) -> Path:
    """A DuckDB file with tables `id, at, note`: a row a minute, 1,440 a day."""
    rows_of = (
        "SELECT range AS id, TIMESTAMP '2024-01-01' + to_minutes(range) AS at, "
        f"'row ' || range || repeat('.', (range % 7)::INT) AS note FROM range({rows})"
    )
    return duckdb_file(path, *(f'CREATE TABLE "{table}" AS {rows_of}' for table in tables))


def by_day(source: str) -> dict[str, object]:
    """The config of such a table in chunks of a day."""
    return {"source": source, "chunking_columns": ["at"], "batch_size": 1_440}


def create_target(database: Database, table: str, *, primary_key: bool = False) -> None:
    """The target of such a table, with the columns a migration would give it."""
    key = sql.SQL(" PRIMARY KEY" if primary_key else "")
    with database.connect() as connection:
        connection.execute(
            sql.SQL('CREATE TABLE {} (id bigint{}, "at" timestamp, note text)').format(
                sql.Identifier(table), key
            )
        )


def chunk_states(database: Database) -> dict[str, int]:
    """How many chunks the ledger has in each state."""
    return dict(
        database.execute(
            "SELECT status, count(*) FROM migration_status.migration_chunk_status GROUP BY status"
        )
    )


def end_leases(database: Database) -> None:
    """Those of killed workers, as if a minute had passed."""
    database.execute(
        "UPDATE migration_status.worker SET heartbeat_at = heartbeat_at - interval '1 min'"
    )


def completed(database: Database) -> int:
    return chunk_states(database).get("completed", 0)


def run_state(database: Database) -> Sequence[object]:
    """(run_id, ending) of the only run there is."""
    ((run_id, ending),) = database.execute("SELECT run_id, ending FROM migration_status.run")
    return str(run_id), ending
