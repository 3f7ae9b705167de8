"""What moving rows takes in memory, by kind of source: the constants of the adapters, gathered."""

from __future__ import annotations

from snowmelt.config.models import Source
from snowmelt.estimates.memory import Cache, Flow
from snowmelt.postgres.encode import PIECE_BYTES, TRAIL_BYTES
from snowmelt.worker import PIECES_AHEAD

_MB = 1 << 20
FILES_BASE, SNOWFLAKE_BASE = 165 * _MB, 185 * _MB
"""The most that `snowmelt migrate` of 1,000 rows had resident (VmHWM) with 1 worker and with 8: 161 to 181 MB from
files, 180 from Snowflake, on Linux with Python 3.11. After the imports alone it is 116 and 160."""
_GROWN = 2
"""A piece as COPY takes it may weigh twice what it does in Arrow: each value has 4 bytes more. What is converted
on the way is within that."""
ENCODED = (PIECES_AHEAD + 2) * PIECE_BYTES * _GROWN
"""Pieces that wait, one that is being made, and one that is being sent."""
RESULT_BYTES = 56 * _MB
"""Of a batch of Snowflake's results, as it was sent: the session's CLIENT_RESULT_CHUNK_SIZE of 48 MB, and what its
buffer grows ahead of it."""
DECODING = 16 * _MB
"""Of a batch that is decoded part by part: `DECODING_BYTES` of its source."""
BATCHES = 3
"""Of a result: one that is being decoded and encoded, and where there is room one that waits and one that is being
fetched."""
DUCKDB_ENGINE = 64 * _MB
"""For each worker, beside the files in its cache: measured, as DuckDB bounds only all of its memory."""
DUCKDB_ROWS = 2_048
"""The least that a batch of DuckDB has: one of its vectors."""

DESK = (PIECES_AHEAD + 2) * PIECE_BYTES
"""What a chunk under way has in memory beside the batches of its source: pieces, and keys of rows sent last."""


def flow_of(source: Source) -> Flow:
    """The bounds for rows of a source of the config."""
    if source.connection is None:
        return Flow(
            base=SNOWFLAKE_BASE,
            batch=RESULT_BYTES,
            batches=BATCHES,
            encoded=ENCODED + DECODING,
            trail=TRAIL_BYTES,
        )
    from snowmelt.sources.duckdb import BATCH_BYTES  # with its library: see origin

    return Flow(
        base=FILES_BASE,
        batch=BATCH_BYTES,
        batches=2,
        encoded=ENCODED,
        trail=TRAIL_BYTES,
        engine=DUCKDB_ENGINE,
        batch_rows=DUCKDB_ROWS,
        # One database file is opened once for all workers; of other files each has its own view.
        cache=Cache.PROCESS if source.connection.scheme == "duckdb" else Cache.WORKER,
    )
