"""What a run has to work with: its process's memory, the target's disk, the kinds of its sources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from snowmelt.config import Config
from snowmelt.database import Database
from snowmelt.estimates.estimate import Circumstances, SourceKind
from snowmelt.estimates.footprint import DESK, flow_of
from snowmelt.estimates.memory_limit import memory_limit
from snowmelt.memory.budget import Budget
from snowmelt.memory.governor import Governor
from snowmelt.preflight.server import ServerSurroundings


def circumstances(
    config: Config,
    databases: Mapping[str, Database],
    servers: Iterable[ServerSurroundings] = (),
) -> Circumstances:
    """As far as this process can tell; `servers` are the target databases as they were looked at."""
    free = [server.free_bytes for server in servers if server.free_bytes is not None]
    return Circumstances(
        sources={
            source.source_name: SourceKind(flow_of(source), on_warehouse=source.connection is None)
            for source in config.sources
        },
        memory_limit=memory_limit(config.lambda_memory),
        free_bytes=min(free, default=None),  # the databases of a config share a server and its disk
        without_ledger=tuple(name for name, one in databases.items() if not one.has_ledger),
    )


def governor_of(config: Config) -> Governor:
    """Whom this process asks before it takes rows into memory."""
    return Governor(Budget.under(memory_limit(config.lambda_memory)), DESK)
