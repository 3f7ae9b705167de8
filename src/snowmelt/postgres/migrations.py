"""Brings the ledger of a database to this release's version, in place and under a lock."""

from __future__ import annotations

from typing import LiteralString

import psycopg
from psycopg import errors as pg

from snowmelt.errors import Refused, RunError, TableError
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
    """The version of the ledger in this database; 0 where there is none.

    Raises RunError when a newer release made it: what this one would read of it can't be vouched for.
    """
    version = _version(session)
    newest = migrations()[-1][0]
    if version > newest:
        raise RunError(
            f"the ledger in {session.server.address} has version {version}, this release knows {newest}",
            remedy="run the release of snowmelt that made it, or a newer one",
        )
    return version


def _version(session: Session) -> int:
    with session.transaction() as connection:
        found = connection.execute(_EXISTS).fetchone()
        if not (found and found[0]):
            return 0
        row = connection.execute(query("ledger_version")).fetchone()
        return int(row[0] or 0) if row else 0


def migrate_ledger(session: Session) -> int:
    """Apply the numbered migrations that are missing, all in one transaction; returns the version.

    A ledger of the running system is upgraded by the first of them. Raises RunError when the ledger was made
    by a newer release, Refused when this role or this ledger does not allow it.
    """
    newest = migrations()[-1][0]
    version = ledger_version(session)
    if version < newest:
        try:
            version = _apply(session)
        except TableError as error:
            raise _refusal(session, error) from error
    return version


def _apply(session: Session) -> int:
    with session.transaction(durable=True) as connection:
        connection.execute(_LOCK)
        if not (row := connection.execute(_SCHEMA).fetchone()) or not row[0]:
            connection.execute("CREATE SCHEMA migration_status")
        connection.execute(_VERSIONS)
        row = connection.execute(query("ledger_version")).fetchone()
        version = int(row[0] or 0) if row else 0
        for number, script in migrations():
            if number > version:
                connection.execute(script)
                connection.execute(query("record_version"), {"version": number})
                version = number
    return version


def _refusal(session: Session, error: TableError) -> Refused:
    """What stood in the way of the ledger, with the hint of the migration that met it."""
    remedy = error.remedy
    if isinstance(error.__cause__, pg.InsufficientPrivilege):
        remedy = (
            f"give the role CREATE on the database {session.server.database}, and if the schema "
            "migration_status is there, make it the owner of the schema and of all that is in it"
        )
    elif isinstance(error.__cause__, psycopg.Error):
        remedy = error.__cause__.diag.message_hint or remedy
    return Refused(
        f"the ledger in {session.server.address} can't be made: {error.what}",
        remedy=remedy,
        sqlstate=error.sqlstate,
    )
