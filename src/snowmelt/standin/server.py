"""The handle on a stand-in server that runs as a process of its own."""

from __future__ import annotations

import atexit
import dataclasses
import http.client
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import snowflake.connector

from snowmelt.errors import FatalError
from snowmelt.standin.faults import Faults
from snowmelt.standin.logins import StandInUser
from snowmelt.standin.state import Settings
from snowmelt.standin.stats import Stats

__all__ = ["Faults", "StandIn", "StandInColumn", "StandInUser", "Stats"]

_START_SECONDS = 30.0
_STOP_SECONDS = 5.0
_REQUEST_SECONDS = 600.0
_LOG_LINES = 20
_DEFAULT_USERS = (StandInUser("snowmelt", password="melt"),)


@dataclass(frozen=True, slots=True)
class StandInColumn:
    """A column as Snowflake declares it, its type in Snowflake's spelling: `TIMESTAMP_TZ(9)`,
    `VARCHAR COLLATE 'en-ci'`."""

    name: str
    type: str
    nullable: bool = True
    masking_policy: str | None = None


class StandIn:
    """A running server. Each has its own port, data, users and faults; it ends with this process."""

    host = "127.0.0.1"
    account = "standin"

    def __init__(
        self, settings: Settings, home: Path, certificate: tuple[Path, Path] | None = None
    ) -> None:
        self._settings = settings
        self._certificate = certificate
        self.protocol = "https" if certificate else "http"
        self._home = home
        self._pid = os.getpid()
        self._process: subprocess.Popen[str] | None = None
        self.port = 0
        self.user = settings.users[0].name
        self.password = settings.users[0].password or ""

    @classmethod
    def start(
        cls,
        folder: Path | None = None,
        *,
        rows_per_chunk: int = 50_000,
        inline_rows: int = 1_000,
        users: Sequence[StandInUser] = _DEFAULT_USERS,
        compact: bool = False,
        history: bool = True,
        history_rows: int = 5_000_000,
        require_warehouse: bool = False,
        ping_pong_seconds: float = 5.0,
        certificate: tuple[Path, Path] | None = None,
    ) -> StandIn:
        """Start a server; FatalError if it does not come up.

        Databases are files in `folder`, or in memory. A result's first `inline_rows` come with the
        answer, the others in chunks. `compact` sends nanosecond timestamps as one integer where a
        chunk's values fit. `history=False` keeps no earlier contents, nor does a table of more
        than `history_rows` rows. A statement that runs longer than `ping_pong_seconds` is answered
        as in progress. With a `certificate` and its key, files in PEM, it speaks https.
        """
        settings = Settings(
            str(folder) if folder is not None else None,
            rows_per_chunk,
            inline_rows,
            tuple(users),
            compact,
            history,
            history_rows,
            require_warehouse,
            ping_pong_seconds,
        )
        server = cls(settings, Path(tempfile.mkdtemp(prefix="standin-")), certificate)
        try:
            server.restart()
        except BaseException:
            server.close()
            raise
        return server

    @property
    def log(self) -> Path:
        return self._home / "standin.log"

    @property
    def pid(self) -> int:
        """The process id; FatalError if the server does not run."""
        return self._running_process().pid

    def restart(self) -> None:
        """Stop the server if it runs, and start it again: same port, same files, same users."""
        self.kill()
        ready = self._home / "ready"
        ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", "snowmelt.standin", "--owned"]
        command += ["--port", str(self.port), "--ready", str(ready)]
        if self._certificate is not None:
            command += ["--certificate", str(self._certificate[0])]
            command += ["--key", str(self._certificate[1])]
        with self.log.open("a", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                text=True,
                # fakesnow makes a folder there, and a server that is killed leaves it.
                env={**os.environ, "TMPDIR": str(self._home)},
            )
        atexit.register(self._at_exit)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(dataclasses.asdict(self._settings)) + "\n")
        self._process.stdin.flush()
        deadline = time.monotonic() + _START_SECONDS
        while not ready.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                lines = self.log.read_text(encoding="utf-8").splitlines()[-_LOG_LINES:]
                raise FatalError(
                    "The stand-in for Snowflake did not start:\n" + "\n".join(lines),
                    remedy="Install snowmelt[demo].",
                )
            time.sleep(0.01)
        self.port = int(ready.read_text(encoding="utf-8"))
        self._post("ping")

    def kill(self) -> None:
        """End the server at once, as a crash would; `restart` brings it back."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait(_STOP_SECONDS)
        if process.stdin is not None:
            process.stdin.close()

    def close(self) -> None:
        """End the server; its log goes with it."""
        self.kill()
        atexit.unregister(self._at_exit)
        shutil.rmtree(self._home, ignore_errors=True)

    def _at_exit(self) -> None:
        if os.getpid() == self._pid:  # a forked child inherits the registration, not the server
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def login(self) -> dict[str, object]:
        """Arguments for `snowflake.connector.connect`."""
        return {
            "user": self.user,
            "password": self.password,
            "account": self.account,
            "host": self.host,
            "port": self.port,
            "protocol": self.protocol,
        }

    def create_table(
        self,
        database: str,
        schema: str,
        name: str,
        columns: Sequence[StandInColumn],
        rows: pa.Table | None = None,
        *,
        query: str | None = None,
        primary_key: Sequence[str] = (),
        retention_days: int = 1,
        transient: bool = False,
    ) -> None:
        """Make a table, its database and its schema; in place of the one that has the name.

        `rows` and the result of `query` have the columns in this order, whatever their names.
        Times come as Arrow's or DuckDB's own types, or as text in ISO form with up to nine digits
        and an offset; VARIANT, OBJECT and ARRAY as JSON text. `query` is DuckDB's SQL; statements
        may go before it, such as ATTACH. ValueError tells what does not fit.
        """
        document = {
            "name": [database, schema, name],
            "columns": [dataclasses.asdict(one) for one in columns],
            "primary_key": list(primary_key),
            "retention_days": retention_days,
            "transient": transient,
            "query": query,
        }
        body = json.dumps(document).encode() + b"\n"
        if rows is not None:
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, rows.schema) as writer:
                writer.write_table(rows)
            body += sink.getvalue().to_pybytes()
        self._post("table", body)

    def execute(
        self, sql: str, database: str | None = None, schema: str | None = None
    ) -> list[Any]:
        """Run a statement in a session of its own, as the first user; its rows as tuples."""
        place = {"database": database, "schema": schema}
        given = {key: f'"{name}"' for key, name in place.items() if name is not None}
        with (
            closing(snowflake.connector.connect(**self.login(), **given)) as connection,
            closing(connection.cursor()) as cursor,
        ):
            cursor.execute(sql)
            return list(cursor.fetchall())

    def faults(self, faults: Faults | None = None) -> None:
        """Faults from the next request on; none without an argument."""
        self._act("faults", **dataclasses.asdict(faults or Faults()))

    def stats(self) -> Stats:
        document = self._act("stats")
        lists = {key: tuple(document[key]) for key in ("statements", "tags")}
        return Stats(**{**document, **lists})

    def reset_stats(self) -> None:
        self._act("reset_stats")

    def forget_history(self, database: str, schema: str, name: str) -> None:
        """From now on there is no Time Travel to before now for this table."""
        self._act("forget_history", name=[database, schema, name])

    def set_policies(
        self,
        database: str,
        schema: str,
        name: str,
        policies: Sequence[Sequence[str | None]],
    ) -> None:
        """Policies of a table: kind, name, and the column if it is on one."""
        self._act("set_policies", name=[database, schema, name], policies=list(policies))

    def forget_results(self) -> None:
        """The results of all finished queries are gone, as after 24 hours."""
        self._act("forget_results")

    def expire_urls(self) -> None:
        """Every chunk's address given out so far answers 403."""
        self._act("expire_urls")

    def expire_sessions(self, master: bool = False) -> None:
        """Every session's token has expired; with `master` it can't be renewed either."""
        self._act("expire_sessions", master=master)

    def running(self) -> tuple[str, ...]:
        """Ids of the queries that run now."""
        return tuple(self._act("running"))

    def _act(self, action: str, **document: object) -> Any:
        return self._post(action, json.dumps(document).encode())

    def _post(self, action: str, body: bytes = b"") -> Any:
        self._running_process()
        with closing(self._connection()) as connection:
            connection.request("POST", f"/standin/{action}", body)
            response = connection.getresponse()
            document = json.loads(response.read())
        if response.status != 200:
            raise ValueError(document.get("error", document))
        return document

    def _connection(self) -> http.client.HTTPConnection:
        if self._certificate is None:
            return http.client.HTTPConnection(self.host, self.port, timeout=_REQUEST_SECONDS)
        # It is this process's own server, whatever its certificate says.
        unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
        return http.client.HTTPSConnection(
            self.host, self.port, timeout=_REQUEST_SECONDS, context=unverified
        )

    def _running_process(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            raise FatalError("The stand-in for Snowflake does not run.", remedy=f"Log: {self.log}")
        return self._process
