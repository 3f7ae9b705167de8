"""A Snowflake account, a PostgreSQL database, and the migrator and its state machine between them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snowmelt.standin.server import Faults, StandIn
from tests.acceptance.snowflake import (
    expected_minutes,
    minutes,
    snowflake_config,
    target_minutes,
)
from tests.aws.executions import Ended, Machine, created
from tests.aws.functions import deployed
from tests.aws.ministack import Ministack
from tests.support import Database

HANDLER = "snowmelt.aws.lambda_handler.handler"
DAY = 1_440  # rows
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Site:
    """What is deployed, and what it moves: the table T, of a row a minute, a day a chunk. Each execution is given
    the config, so that functions may serve several sites."""

    database: Database
    standin: StandIn
    config: Path
    machine: Machine
    rows: int

    def run(self, **given: Any) -> Ended:
        """An execution for the site's source, unless another is given, to its end."""
        return self.machine.end(self.start(**given))

    def start(self, name: str | None = None, /, **given: Any) -> str:
        return self.machine.start(name, **{"source_name": "s", "config": str(self.config), **given})

    def chain(self, name: str, **given: Any) -> list[Ended]:
        """An execution of this name, and those that went on for it."""
        return self.machine.chain(self.start(name, **given))

    def loaded(self, table: str = "T") -> bool:
        """Whether the target has exactly the rows of the source."""
        return target_minutes(self.database, table) == expected_minutes(self.rows)

    def runs(self) -> list[tuple[str, str]]:
        """Each run and how it stands, the first first."""
        statement = (
            "SELECT run_id::text, status FROM migration_status.migration_runs ORDER BY started_at"
        )
        return self.database.execute(statement)


@contextmanager
def migrator(cloud: Ministack, timeout: int = 60, **environment: str) -> Iterator[Machine]:
    """A function and a machine for as long as the block lasts. `timeout` is the function's, in seconds."""
    name = f"site-{next(_numbers)}"
    with (
        deployed(cloud, name, HANDLER, environment, timeout=timeout) as function,
        created(cloud, function) as machine,
    ):
        yield machine


def site(
    machine: Machine, folder: Path, database: Database, standin: StandIn, days: int = 30
) -> Site:
    """Write the source's rows and the config."""
    minutes(standin, "T", days * DAY)
    table = {"source": "T", "chunking_columns": ["at"], "batch_size": DAY}
    settings: dict[str, Any] = {"parallel_threads": 2, "lambda_timeout_buffer_seconds": 2}
    config = snowflake_config(folder, database, standin, table, **settings)
    return Site(database, standin, config, machine, days * DAY)


@contextmanager
def slow(standin: StandIn, seconds: float) -> Iterator[None]:
    """Each chunk's query takes so long."""
    standin.faults(Faults(query_latency_seconds=seconds, slow_match=r'^SELECT "id", "at"'))
    try:
        yield
    finally:
        standin.faults()
