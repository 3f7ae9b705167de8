"""What a server has left for a role: connections, and disk where it can be seen from here."""

from __future__ import annotations

import os
import shutil
from ipaddress import ip_address
from typing import LiteralString

import psycopg

from snowmelt.postgres.asked import Asked

# Everybody sees each backend's database and role; of what kind it is, only who may read statistics. What is
# reserved for superusers does not hold them back, nor do limits of roles and databases.
_BACKENDS: LiteralString = """
    WITH backend AS (
        SELECT datid, usesysid FROM pg_stat_activity
        WHERE datid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend'),
    limits AS (
        SELECT current_setting('max_connections')::int
               - CASE WHEN r.rolsuper THEN 0
                 ELSE current_setting('superuser_reserved_connections')::int
                      + coalesce(current_setting('reserved_connections', true)::int, 0) END AS most,
               (SELECT count(*) FROM backend) AS open
        FROM pg_roles r WHERE r.rolname = current_user
        UNION ALL
        SELECT d.datconnlimit, (SELECT count(*) FROM backend WHERE datid = d.oid)
        FROM pg_database d JOIN pg_roles r ON r.rolname = current_user
        WHERE d.datname = current_database() AND d.datconnlimit >= 0 AND NOT r.rolsuper
"""
_OF_THE_ROLE: LiteralString = """
        UNION ALL
        SELECT r.rolconnlimit, (SELECT count(*) FROM backend WHERE usesysid = r.oid)
        FROM pg_roles r WHERE r.rolname = current_user AND r.rolconnlimit >= 0 AND NOT r.rolsuper
"""
_TIGHTEST: LiteralString = """) SELECT most, open FROM limits ORDER BY most - open LIMIT 1"""
CONNECTIONS = _BACKENDS + _OF_THE_ROLE + _TIGHTEST
"""The tightest limit of the role: connections at most, and how many are open under it."""
SHARED_CONNECTIONS = _BACKENDS + _TIGHTEST
"""The same without the role's own limit, which turns nobody else away."""
# The view leaves a setting out that the role may not read; current_setting would raise.
_FOLDER: LiteralString = """
    SELECT host(inet_server_addr()), pg_backend_pid(),
           coalesce(nullif(pg_tablespace_location(d.dattablespace), ''),
                    (SELECT setting FROM pg_settings WHERE name = 'data_directory'))
    FROM pg_database d WHERE d.datname = current_database()
"""
_WAL_FOLDER: LiteralString = """
    SELECT host(inet_server_addr()), pg_backend_pid(),
           (SELECT setting FROM pg_settings WHERE name = 'data_directory')
"""


def free_disk(asked: Asked) -> int | str:
    """Bytes that are free in the folder where the server keeps the database, or why they are not known."""
    what = "how much disk is free on the server"
    address, pid, folder = asked.one(_FOLDER)
    if not _is_this_machine(asked.connection, address, pid):
        return f"{what} (it is on another machine)"
    if folder is None:
        return (
            f"{what} (the role may not read data_directory; a member of pg_read_all_settings may)"
        )
    free = _free(folder)
    return f"{what} ({folder} can't be seen from here)" if free is None else free


def free_for_wal(asked: Asked) -> int | None:
    """Bytes that are free where the server writes WAL, else in its data directory; None where neither is seen."""
    address, pid, folder = asked.one(_WAL_FOLDER)
    if folder is None or not _is_this_machine(asked.connection, address, pid):
        return None
    free = _free(os.path.join(folder, "pg_wal"))
    return _free(folder) if free is None else free


def _free(folder: str) -> int | None:
    try:
        return shutil.disk_usage(folder).free if os.path.isdir(folder) else None
    except OSError:
        return None


def _is_this_machine(connection: psycopg.Connection, address: str | None, pid: int) -> bool:
    return _is_here(connection) and _loops_back(address) and _runs_here(pid)


def _is_here(connection: psycopg.Connection) -> bool:
    """Whether this end of the connection leads to this machine. The other end has its say as well: a tunnel, a
    pooler or a container begins here too."""
    return connection.info.host.startswith(("/", "@")) or _loops_back(connection.info.hostaddr)


def _loops_back(address: str | None) -> bool:
    """None is a Unix socket."""
    try:
        return address is None or ip_address(address).is_loopback
    except ValueError:
        return False


def _runs_here(pid: int) -> bool:
    """Through a tunnel that ends at the server, all but this looks as if it were here."""
    return not os.path.exists("/proc/self") or os.path.exists(f"/proc/{pid}")
