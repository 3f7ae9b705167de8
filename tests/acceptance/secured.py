"""A PostgreSQL that is reached by TLS alone: the distribution's, since the wheel's has none."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import make_conninfo

from snowmelt.demo.place import roomy_temp
from snowmelt.demo.postgres import Installed, LocalPostgres
from tests.acceptance.certificates import Authority, Pair
from tests.conftest import SETTINGS
from tests.support import memory

HOST = "localhost"
ACCESS = """\
local   all all                    trust
hostssl all by_certificate 127.0.0.1/32 cert
hostssl all all            127.0.0.1/32 scram-sha-256
"""
"""Who may come in, as pg_hba.conf has it: nobody over TCP without TLS."""


def installed() -> Installed | None:
    """The newest PostgreSQL that Debian's packages have put here."""
    found = (
        Installed(int(folder.parent.name), folder)
        for folder in Path("/usr/lib/postgresql").glob("*/bin")
        if folder.parent.name.isdigit() and (folder / "initdb").exists()
    )
    return max(found, key=lambda one: one.version, default=None)


@dataclass(frozen=True, slots=True)
class Secured:
    """A server that speaks TLS, and the CA of its certificate."""

    server: LocalPostgres
    authority: Authority
    _pair: Pair

    @classmethod
    @contextmanager
    def started(cls) -> Iterator[Secured]:
        program = installed()
        assert program is not None
        folder = Path(tempfile.mkdtemp(prefix="snowmelt-tls-", dir=memory() or roomy_temp()))
        folder.chmod(0o755)
        try:
            authority = Authority.new(folder)
            pair = authority.issue("server", HOST, "127.0.0.1")
            access = folder / "pg_hba.conf"
            access.write_text(ACCESS)
            settings = {
                **SETTINGS,
                "ssl": "on",
                "ssl_cert_file": str(pair.certificate),
                "ssl_key_file": str(pair.key),
                "ssl_ca_file": str(authority.certificate),
                "hba_file": str(access),
            }
            _give(pair.key)
            with LocalPostgres.temporary(
                settings=settings, within=memory(), installed=program
            ) as server:
                yield cls(server, authority, pair)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def dsn(self, database: str, **parameters: str) -> str:
        """The way to a database; verified as far as it goes unless `parameters` of libpq's say otherwise."""
        verified = {
            "host": HOST,
            "sslmode": "verify-full",
            "sslrootcert": str(self.authority.certificate),
        }
        return make_conninfo(self.server.dsn(database), **{**verified, **parameters})

    @contextmanager
    def showing(self, pair: Pair) -> Iterator[None]:
        """Another certificate for the time of the block, to those who come from now on."""
        kept = self._pair.certificate.read_bytes(), self._pair.key.read_bytes()
        self._show(pair.certificate.read_bytes(), pair.key.read_bytes())
        try:
            yield
        finally:
            self._show(*kept)

    def _show(self, certificate: bytes, key: bytes) -> None:
        self._pair.certificate.write_bytes(certificate)
        self._pair.key.write_bytes(key)
        self.server.reload()


def _give(key: Path) -> None:
    if os.geteuid() == 0:
        shutil.chown(key, "nobody")
