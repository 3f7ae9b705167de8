"""What is known of a server and a database before a run: its limits, its disk, and who may keep a ledger there."""

from __future__ import annotations

import os
import shutil
from ipaddress import ip_address
from typing import LiteralString

import psycopg

from snowmelt.postgres.asked import Asked
from snowmelt.postgres.connect import Session
from snowmelt.postgres.queries import migrations, query
from snowmelt.preflight.server import ServerSurroundings
from snowmelt.preflight.surroundings import Grant

_SERVER: LiteralString = """
    SELECT split_part(current_setting('server_version'), ' ', 1), current_setting('server_encoding'),
           quote_ident(current_user), quote_ident(current_database()),
           current_setting('transaction_read_only') = 'on'
"""
# Everybody sees each backend's database and role; of what kind it is, only who may read statistics. What is
# reserved for superusers does not hold them back, nor do limits of roles and databases.
_CONNECTIONS: LiteralString = """
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
        SELECT r.rolconnlimit, (SELECT count(*) FROM backend WHERE usesysid = r.oid)
        FROM pg_roles r WHERE r.rolname = current_user AND r.rolconnlimit >= 0 AND NOT r.rolsuper
        UNION ALL
        SELECT d.datconnlimit, (SELECT count(*) FROM backend WHERE datid = d.oid)
        FROM pg_database d JOIN pg_roles r ON r.rolname = current_user
        WHERE d.datname = current_database() AND d.datconnlimit >= 0 AND NOT r.rolsuper)
    SELECT most, open FROM limits ORDER BY most - open LIMIT 1
"""
_MOST: LiteralString = "SELECT current_setting('max_connections')::int"
_SIZE: LiteralString = "SELECT pg_database_size(current_database())"
# The view leaves a setting out that the role may not read; current_setting would raise.
_FOLDER: LiteralString = """
    SELECT host(inet_server_addr()), pg_backend_pid(),
           coalesce(nullif(pg_tablespace_location(d.dattablespace), ''),
                    (SELECT setting FROM pg_settings WHERE name = 'data_directory'))
    FROM pg_database d WHERE d.datname = current_database()
"""
# The rights that the statements of ledger.sql need.
_LEDGER_RIGHTS: LiteralString = """
    SELECT r.privilege, 'migration_status.' || c.relname
    FROM (VALUES ('ledger_version', '{SELECT}'::text[]), ('run', '{SELECT,INSERT,UPDATE}'),
                 ('load', '{SELECT,INSERT,UPDATE,DELETE}'), ('chunk', '{SELECT,INSERT,UPDATE,DELETE}'),
                 ('worker', '{SELECT,INSERT,UPDATE}'), ('migration_table_status', '{SELECT}')) t(name, rights)
    CROSS JOIN LATERAL unnest(t.rights) WITH ORDINALITY r(privilege, place)
    JOIN pg_class c ON c.relname = t.name AND c.relnamespace = to_regnamespace('migration_status')
    WHERE NOT has_table_privilege(c.oid, r.privilege)
    ORDER BY t.name, r.place
"""
_LEDGER: LiteralString = """
    SELECT n.oid, has_database_privilege(current_database(), 'CREATE'),
           has_schema_privilege(n.oid, 'USAGE'), has_schema_privilege(n.oid, 'CREATE'),
           EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname = 'ledger_version'),
           coalesce((SELECT bool_and(pg_has_role(c.relowner, 'USAGE')) FROM pg_class c
                     WHERE c.relnamespace = n.oid), true)
    FROM (SELECT) one LEFT JOIN pg_namespace n ON n.nspname = 'migration_status'
"""


def look_at_server(session: Session) -> ServerSurroundings:
    """Version, limits, sizes and the rights on the ledger, in one transaction. Changes nothing."""
    with session.transaction() as connection:
        asked = Asked(connection)
        version, encoding, role, database, read_only = asked.one(_SERVER)
        most, connections = asked.told("how many connections are open", _CONNECTIONS) or (
            *asked.one(_MOST),
            None,
        )
        size = asked.told(f"the size of the database {database}", _SIZE)
        lacking, owned = _ledger(asked, database)
        free = _free(asked)
    return ServerSurroundings(
        version=version,
        encoding=encoding,
        role=role,
        database=database,
        read_only=read_only,
        max_connections=most,
        connections=connections,
        database_bytes=size[0] if size else None,
        free_bytes=free if isinstance(free, int) else None,
        ledger_lacks=lacking,
        ledger_owned=owned,
        unknown=(*asked.unknown, *([free] if isinstance(free, str) else [])),
    )


def _ledger(asked: Asked, database: str) -> tuple[tuple[Grant, ...], bool]:
    """What the role lacks to keep the ledger, and whether it may change what has to be changed of it."""
    schema, makes, uses, creates, versioned, owns = asked.one(_LEDGER)
    if schema is None:
        return (() if makes else (Grant("CREATE", "DATABASE", database),)), True
    lacking = [] if uses else [Grant("USAGE", "SCHEMA", "migration_status")]
    found = asked.told("the version of the ledger", query("ledger_version")) if versioned else (0,)
    if found is None or (found[0] or 0) >= migrations()[-1][0]:
        rights = asked.rows(_LEDGER_RIGHTS)
        return (*lacking, *(Grant(right, "TABLE", name) for right, name in rights)), True
    if not creates:
        lacking.append(Grant("CREATE", "SCHEMA", "migration_status"))
    return tuple(lacking), owns


def _free(asked: Asked) -> int | str:
    """Bytes that are free in the folder where the server keeps the database, or why they are not known."""
    what = "how much disk is free on the server"
    address, pid, folder = asked.one(_FOLDER)
    if not (_is_here(asked.connection) and _loops_back(address) and _runs_here(pid)):
        return f"{what} (it is on another machine)"
    if folder is None:
        return (
            f"{what} (the role may not read data_directory; a member of pg_read_all_settings may)"
        )
    try:
        if os.path.isdir(folder):
            return shutil.disk_usage(folder).free
    except OSError:
        pass
    return f"{what} ({folder} can't be seen from here)"


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
