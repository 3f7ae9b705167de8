"""A source that changes between runs of one table, and what is in its target."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import duckdb

import snowmelt
from snowmelt.config import load_config
from snowmelt.errors import SnowmeltError
from snowmelt.report import report_json
from snowmelt.survey import Choice
from tests import support
from tests.support import Database, config_for, write_config

NOON = "TIMESTAMP '2024-05-01 12:00:00'"


class Nights:
    """The table `T (id, seen, note)` in a DuckDB file, moved by `table`'s settings into a table of that name."""

    def __init__(self, database: Database, folder: Path, **table: Any) -> None:
        self.database, self.folder = database, folder
        self.source = folder / "s.duckdb"
        self.table = {"source": "T", "chunking_columns": ["id"], "batch_size": 20, **table}
        self.run("CREATE TABLE T (id BIGINT, seen TIMESTAMP, note VARCHAR)")

    def run(self, *statements: str) -> None:
        """Change the source."""
        with duckdb.connect(self.source) as connection:
            for statement in statements:
                connection.execute(statement)

    def rows(self, statement: str = "SELECT id, seen, note FROM T ORDER BY ALL") -> list[Any]:
        """What the source has."""
        with duckdb.connect(self.source, read_only=True) as connection:
            return connection.execute(statement).fetchall()

    def config(self, **changes: Any) -> Path:
        document = config_for(self.database, self.source, {**self.table, **changes})
        return write_config(self.folder, document)

    def migrate(
        self, *, code: int = 0, choice: Choice | None = None, **changes: Any
    ) -> dict[str, Any]:
        """The report of a run in this process, or what was refused, under `error`."""
        choice = choice or Choice()
        try:
            with snowmelt.open(load_config(self.config(**changes), environ={})) as mover:
                report = mover.run(mover.plan(choice), choice=choice)
        except SnowmeltError as error:
            told: dict[str, Any] = {"error": str(error)}
            ended = 1
        else:
            told, ended = report_json(report), report.exit_code
        assert ended == code, told
        return told

    def command(self, *arguments: str, **changes: Any) -> subprocess.CompletedProcess[str]:
        """Run snowmelt as a process and wait for it."""
        return support.snowmelt(self.config(**changes), *arguments)

    def loaded(self) -> list[Any]:
        """What the target has."""
        return self.database.execute('SELECT id, seen, note FROM "T" ORDER BY id, seen, note')

    def mark(self) -> Any:
        return self.database.value("SELECT value ->> 1 FROM migration_status.high_water_mark")

    def decision(self) -> dict[str, Any]:
        """What the newest load recorded of the truncation."""
        found: dict[str, Any] = self.database.value(
            "SELECT truncation FROM migration_status.load ORDER BY table_id DESC LIMIT 1"
        )
        return found
