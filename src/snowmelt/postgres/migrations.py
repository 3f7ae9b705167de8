"""Brings the ledger of a database to this release's version, in place and under a lock."""

from __future__ import annotations

from typing import LiteralString, cast

from snowmelt.errors import RunError
from snowmelt.postgres.connect import Session
from snowmelt.postgres.queries import migrations, query

# Any two processes that migrate the same database must name the same lock.
_LOCK: LiteralString = "SELECT pg_advisory_xact_lock(hashtextextended('snowmelt ledger', 0))"
_VERSIONS: LiteralString = """
    CREATE TABLE IF NOT EXISTS migration_status.ledger_version (
        version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())
"""
_EXISTS: LiteralString = "SELECT to_regclass('migration_status.ledger_version') IS NOT NULL"
_SCHEMA: LiteralString = "SELECT to_regnamespace('migration_status') IS NOT NULL"


def ledger_version(session: Session) -> int:
    """The version of the ledger in this database; 0 where there is none."""
    with session.transaction() as connection:
        found = connection.execute(_EXISTS).fetchone()
        if not (found and found[0]):
            return 0
        row = connection.execute(query("ledger_version")).fetchone()
        return int(row[0] or 0) if row else 0


def migrate_ledger(session: Session) -> int:
    """Apply the numbered migrations that are missing, all in one transaction; returns the version.

    A ledger of the running system is upgraded by the first of them. Raises RunError when the ledger was made
    by a newer release, TableError when the role may not create it.
    """
    newest = migrations()[-1][0]
    version = ledger_version(session)
    if version < newest:
        with session.transaction(durable=True) as connection:
            connection.execute(_LOCK)
            if not (row := connection.execute(_SCHEMA).fetchone()) or not row[0]:
                connection.execute("CREATE SCHEMA migration_status")
            connection.execute(_VERSIONS)
            row = connection.execute(query("ledger_version")).fetchone()
            version = int(row[0] or 0) if row else 0
            for number, script in migrations():
                if number > version:
                    connection.execute(cast(LiteralString, script))
                    connection.execute(query("record_version"), {"version": number})
                    version = number
    if version > newest:
        raise RunError(
            f"the ledger in {session.server.address} has version {version}, this release knows {newest}",
            remedy="run the release of snowmelt that made it, or a newer one",
        )
    return version
