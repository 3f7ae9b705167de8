"""`make bench`: ways into PostgreSQL side by side, same rows, same connections, alternating.

`parquet` sets snowmelt from Parquet beside raw COPY and DuckDB, `wire` sets snowmelt from Snowflake, played by a
stand-in for its server, beside the bare connector, dlt and Sling; `planning` shows what it takes to cut a table
into many chunks; `modes` sets upserts and insert-only loads beside plain COPY; `house` loads a table
with its indexes kept, and dropped and built at the end; `memory` shows the peaks of processes under memory
limits.
"""

from __future__ import annotations

import argparse

from benchmarks import house, memory, modes, parquet, planning, wire
from snowmelt.demo.place import roomy_temp
from snowmelt.demo.postgres import LocalPostgres

PARTS = ("parquet", "wire", "planning", "modes", "house", "memory")
# A server that was sized for loading: no checkpoint falls into a round.
SERVER = {"max_wal_size": "8GB", "shared_buffers": "512MB"}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", choices=PARTS, help="this part alone")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lineitem-rows", type=int, default=2_000_000)
    parser.add_argument("--wide-rows", type=int, default=200_000)
    parser.add_argument("--wire-rows", type=int, default=1_000_000)
    parser.add_argument("--mode-rows", type=int, default=1_000_000)
    parser.add_argument("--house-rows", type=int, default=5_000_000)
    parser.add_argument("--no-peers", action="store_true", help="wire: leave dlt and Sling out")
    options = parser.parse_args()
    parts = (options.only,) if options.only else PARTS
    folder = roomy_temp() / "snowmelt-bench"
    folder.mkdir(exist_ok=True)
    with LocalPostgres.temporary(settings=SERVER) as server:
        if "parquet" in parts:
            rows = options.lineitem_rows, options.wide_rows
            parquet.run(folder, server.dsn(), options.rounds, *rows)
        if "wire" in parts:
            peers = not options.no_peers
            wire.run(folder, server.dsn(), options.rounds, options.wire_rows, peers=peers)
        if "planning" in parts:
            planning.run(folder, server.dsn(), options.rounds)
        if "modes" in parts:
            modes.run(folder, server.dsn(), options.rounds, options.mode_rows)
        if "house" in parts:
            house.run(folder, server.dsn(), options.rounds, options.house_rows)
        if "memory" in parts:
            memory.run(folder, server.dsn())


if __name__ == "__main__":
    main()
