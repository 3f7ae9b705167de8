"""snowmelt from the stand-in into PostgreSQL, and what is told of a run besides its seconds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import snowmelt
from benchmarks.warehouse import DATABASE, FIELDS, KEY, NAME, SCHEMA, Warehouse
from benchmarks.ways import TABLE, moving_seconds

_ROWS_QUERY = f'SELECT "{FIELDS[0].name}"'


@dataclass(slots=True)
class Transfer:
    """One way of snowmelt: connections, and one query or one for each chunk."""

    warehouse: Warehouse
    folder: Path
    dsn: str
    extraction: str
    connections: int
    statements: tuple[str, ...] = ()
    """What the last run's workers asked of the server."""
    logins: int = 0
    """The last run's, planning included."""

    def move(self) -> float:
        """The whole of it. Returns the seconds from the first claim to the last commit, by the ledger."""
        path = self.folder / "wire.json"
        path.write_text(json.dumps(self._config()))
        standin = self.warehouse.standin
        standin.reset_stats()
        with snowmelt.open(snowmelt.load_config(path)) as mover:
            plan = mover.plan()
            planning = standin.stats().queries
            mover.run(plan).raise_for_failures()
        stats = standin.stats()
        self.statements, self.logins = stats.statements[planning:], stats.logins
        return moving_seconds(self.dsn)

    @property
    def queries(self) -> Sequence[str]:
        """The last run's queries of rows."""
        return [one for one in self.statements if one.startswith(_ROWS_QUERY)]

    @property
    def others(self) -> Sequence[str]:
        """What else the last run's workers asked."""
        return [one for one in self.statements if not one.startswith(_ROWS_QUERY)]

    def _config(self) -> dict[str, object]:
        table: dict[str, object] = {"source": NAME, "target": TABLE.name}
        if self.extraction == "query_per_chunk":
            table["chunking_columns"] = [KEY]
        return {
            "postgres": {"dsn": self.dsn},
            "snowflake": self.warehouse.standin.login(),
            "parallel_threads": self.connections,
            "batch_size": self.warehouse.rows // 4,
            "extraction": self.extraction,
            "sources": [
                {
                    "source_name": "bench",
                    "source_sf_database": DATABASE,
                    "source_sf_schema": SCHEMA,
                    "tables": [table],
                }
            ],
        }
