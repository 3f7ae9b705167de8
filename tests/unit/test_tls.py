"""TLS in the postgres block, and PEM texts as files."""

from __future__ import annotations

import functools
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from psycopg import OperationalError

from snowmelt.config import load_config
from snowmelt.database import server_of
from snowmelt.errors import ConfigError, RunError, UsageError
from snowmelt.postgres import pem
from snowmelt.postgres.pem import with_files
from snowmelt.postgres.tls import explained
from tests.support import write_config

BODY = "MIIB" + "A" * 100
PEM = f"-----BEGIN PRIVATE KEY-----\n{BODY[:64]}\n{BODY[64:]}\n-----END PRIVATE KEY-----\n"


def config(folder: Path, **postgres: object) -> Path:
    table = {"source_name": "s", "connection": "duckdb:///a", "tables": [{"source": "t"}]}
    return write_config(folder, {"postgres": {"database": "d", **postgres}, "sources": [table]})


def problems(folder: Path, **postgres: object) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        load_config(config(folder, **postgres), environ={})
    return [(problem.place, problem.what) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("block", "place", "what"),
    [
        ({"sslmode": "verify-full", "sslrootcert": "/no/ca.pem"}, "sslrootcert", "not there"),
        ({"sslrootcert": "CA"}, "sslrootcert", "sslmode prefer, which is the default"),
        ({"sslmode": "allow", "sslrootcert": "CA"}, "sslrootcert", "does nothing with"),
        ({"sslmode": "require", "sslrootcert": "system"}, "sslmode", "verify-full alone"),
        ({"sslcert": "CA"}, "sslcert", "is given without sslkey"),
        ({"sslkey": "CA"}, "sslkey", "is given without sslcert"),
        ({"sslcert": "CA", "sslkey": "/no/key"}, "sslkey", "names the file /no/key"),
        ({"sslcert": "/no/pem", "sslkey": PEM}, "sslcert", "names the file /no/pem"),
        ({"sslcert": "CA", "sslkey": "k" * 300}, "sslkey", "names a file"),
        ({"dsn": "host=h dbname=d sslkey=/no/key"}, "dsn", "has as sslkey the file /no/key"),
        ({"dsn": "postgresql://h/d?sslrootcert=%2Fno%2Fca"}, "dsn", "the file /no/ca, which"),
        ({"dsn": "host=h", "sslcert": "CA", "sslkey": "CA"}, "dsn", "beside database, sslcert"),
    ],
)
def test_what_is_wrong_is_a_problem_of_the_config(
    tmp_path: Path, block: dict[str, Any], place: str, what: str
) -> None:
    ca = tmp_path / "ca.pem"
    ca.touch()
    given = {key: str(ca) if value == "CA" else value for key, value in block.items()}
    if set(given) == {"dsn"}:
        given["database"] = None
    ((where, told),) = problems(tmp_path, **given)
    assert where == f"postgres.{place}"
    assert what in told
    assert "kkk" not in told


@pytest.mark.parametrize("key", [PEM, PEM.replace("\n", "\\n"), PEM.replace("\n", " ")])
def test_a_text_becomes_a_file_of_this_user_alone(tmp_path: Path, key: str) -> None:
    certificate = PEM.replace("MIIB", "CERT")
    block = {"sslcert": certificate, "sslkey": key, "sslrootcert": "system"}
    loaded = load_config(config(tmp_path, **block), environ={})
    assert BODY[:20] not in repr(loaded)
    conninfo = server_of(loaded, "d").conninfo
    assert "BEGIN" not in conninfo
    path = Path(with_files({"sslkey": key})["sslkey"])
    assert str(path) in conninfo
    assert path.read_text() == PEM
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_threads_that_come_first_at_once_have_one_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pem, "_folder", functools.cache(pem._folder.__wrapped__))
    barrier = threading.Barrier(8)
    with ThreadPoolExecutor(8) as pool:

        def file(number: int) -> Path:
            barrier.wait()
            return Path(with_files({"sslkey": f"{PEM}\n{number}"})["sslkey"])

        files = list(pool.map(file, range(8)))
    assert len({path.parent for path in files}) == 1
    assert all(path.exists() for path in files)
    pem._folder().cleanup()


def test_no_folder_for_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("snowmelt.postgres.pem.tempfile.mkstemp", full)
    with pytest.raises(UsageError, match="the text of sslkey can't be put into a file: No space"):
        with_files({"sslkey": PEM.replace("MIIB", "FULL")})


def test_the_systems_cas_are_verified_in_full(tmp_path: Path) -> None:
    loaded = load_config(config(tmp_path, sslrootcert="system"), environ={})
    assert "sslmode=verify-full" in server_of(loaded, "d").conninfo


AT = 'connection failed: connection to server at "10.0.0.1", port 5432 failed: '


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (f"{AT}server does not support SSL, but SSL was required", "server does not support SSL"),
        (
            f'{AT}FATAL:  no pg_hba.conf entry for host "h", SSL off',
            'no pg_hba.conf entry for host "h"',
        ),
        (f"{AT}SSL error: sslv3 alert certificate expired", "SSL error: sslv3 alert"),
        (f"{AT}SSL error: tlsv13 alert certificate required", "SSL error: tlsv13 alert"),
        # With TLS a wrong password, without it nobody is let in: the password it is.
        (f"{AT}FATAL:  wrong password\n{AT}FATAL:  no pg_hba.conf entry, no encryption", None),
        # One of several servers may come back.
        (f"{AT}Connection refused\n{AT}server does not support SSL, but SSL was required", None),
        (f"{AT}SSL SYSCALL error: EOF detected", None),
        (f"{AT}SSL error: unexpected eof while reading", None),
        (f"{AT}server closed the connection unexpectedly", None),
        (f"{AT}FATAL:  the database system is starting up", None),
    ],
)
def test_only_what_stays_so_ends_a_run(text: str, what: str | None) -> None:
    told = explained(OperationalError(text), "")
    if what is None:
        assert told is None
    else:
        assert isinstance(told, RunError)
        assert told.what.startswith(what)
        assert told.remedy


def test_a_server_among_several_may_have_no_port_of_its_own() -> None:
    error = OperationalError("SSL error: certificate verify failed")
    told = explained(error, "host=127.0.0.1,127.0.0.2 port=,1 sslrootcert=/no/ca.pem")
    assert isinstance(told, RunError)
    assert "not of a CA in /no/ca.pem" in told.what
