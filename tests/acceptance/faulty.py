"""A small Snowflake table whose results have several batches, and both ways of reading it."""

from __future__ import annotations

from pathlib import Path

from snowmelt.standin.server import StandIn
from tests.acceptance.snowflake import snowflake_config
from tests.support import Database

ROWS = 4_000
TABLE = "VISITS"
BY_DAY: dict[str, object] = {"source": TABLE, "chunking_columns": ["at"]}
WAYS: dict[str, dict[str, object]] = {"query_per_chunk": BY_DAY, "one_query": {"source": TABLE}}


def config_of(
    tmp_path: Path, database: Database, standin: StandIn, way: str, retries: int = 5
) -> Path:
    return snowflake_config(
        tmp_path,
        database,
        standin,
        WAYS[way],
        batch_size=1_000,
        parallel_threads=2,
        extraction=way,
        max_retry_attempts=retries,
    )
