"""What is known of a target's server and database, and what of it stands in the way of a run."""

from __future__ import annotations

from dataclasses import dataclass, replace

from snowmelt.formats import size
from snowmelt.preflight.surroundings import Grant, Problems, lacks
from snowmelt.refusal import Refusal

_AS_SENT = frozenset({"UTF8", "SQL_ASCII"})
"""Encodings in which the bytes of a text in UTF-8 stay what they are."""


@dataclass(frozen=True, slots=True)
class ServerSurroundings:
    """What is known of the server and the database; None means: could not be found out, see `unknown`."""

    version: str
    encoding: str
    role: str
    database: str
    read_only: bool
    max_connections: int
    """What the role may open at most, by the tightest limit: the server's without what it reserves, the database's
    or the role's."""
    connections: int | None
    """Open now under that limit, this one included."""
    database_bytes: int | None
    free_bytes: int | None
    """On the disk where the database's tables lie."""
    ledger_lacks: tuple[Grant, ...] = ()
    ledger_owned: bool = True
    """Whether the role may change what an older or foreign ledger needs changed; True where none is needed."""
    unknown: tuple[str, ...] = ()


def server_problems(server: ServerSurroundings, connections: int | None = None) -> Problems:
    """Of the server, for all tables at once; `connections` is what the run would open at most."""
    refusals = [
        replace(lack, what=f"{lack.what}, which the ledger in the schema migration_status needs")
        for lack in (lacks(server.role, grant) for grant in server.ledger_lacks)
    ]
    if not server.ledger_owned:
        refusals.append(
            Refusal(
                "the ledger in the schema migration_status has to be made or upgraded, and role "
                f"{server.role} does not own it",
                f"make {server.role} the owner of the schema migration_status and of all that is in it",
            )
        )
    if server.read_only:
        refusals.append(
            Refusal(
                "the server takes no writes: it is a standby, or default_transaction_read_only is on",
                "connect to the primary, or set default_transaction_read_only to off for the role",
            )
        )
    notes = [f"PostgreSQL {server.version}"]
    if server.encoding not in _AS_SENT:
        notes.append(
            f"the database's encoding is {server.encoding}: a character that it lacks ends its chunk"
        )
    if server.connections is not None:
        free = max(server.max_connections - server.connections, 0)
        told = f"{server.connections:,} of {server.max_connections:,} connections are in use"
        if connections is not None:
            told += f", and the run opens up to {connections:,}"
            # The connection that counted is one of the run's.
            told += (
                ": lower parallel_threads, or raise max_connections"
                if connections > free + 1
                else ""
            )
        notes.append(told)
    if server.database_bytes is not None:
        notes.append(f"the database {server.database} takes {size(server.database_bytes)}")
    if server.free_bytes is not None:
        notes.append(f"{size(server.free_bytes)} are free on the server's disk")
    notes += [f"not known: {one}" for one in server.unknown]
    return Problems(tuple(refusals), tuple(notes))
