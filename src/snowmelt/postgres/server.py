"""What is known of a server and a database before a run: its limits, its disk, and who may keep a ledger there."""

from __future__ import annotations

from typing import LiteralString

from snowmelt.postgres.asked import Asked
from snowmelt.postgres.capacity import CONNECTIONS, free_disk
from snowmelt.postgres.connect import Session
from snowmelt.postgres.queries import migrations, query
from snowmelt.preflight.server import ServerSurroundings
from snowmelt.preflight.surroundings import Grant

_SERVER: LiteralString = """
    SELECT split_part(current_setting('server_version'), ' ', 1), current_setting('server_encoding'),
           quote_ident(current_user), quote_ident(current_database()),
           current_setting('transaction_read_only') = 'on'
"""
_MOST: LiteralString = "SELECT current_setting('max_connections')::int"
_SIZE: LiteralString = "SELECT pg_database_size(current_database())"
# The rights that the statements of ledger.sql need.
_LEDGER_RIGHTS: LiteralString = """
    SELECT r.privilege, 'migration_status.' || c.relname
    FROM (VALUES ('ledger_version', '{SELECT}'::text[]), ('run', '{SELECT,INSERT,UPDATE}'),
                 ('load', '{SELECT,INSERT,UPDATE,DELETE}'), ('chunk', '{SELECT,INSERT,UPDATE,DELETE}'),
                 ('worker', '{SELECT,INSERT,UPDATE}'), ('migration_table_status', '{SELECT}'),
                 ('high_water_mark', '{SELECT,INSERT,UPDATE,DELETE}'), ('post_data', '{SELECT}')) t(name, rights)
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
        most, connections = asked.told("how many connections are open", CONNECTIONS) or (
            *asked.one(_MOST),
            None,
        )
        size = asked.told(f"the size of the database {database}", _SIZE)
        lacking, owned = _ledger(asked, database)
        free = free_disk(asked)
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
