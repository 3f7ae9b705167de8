"""How much memory a process may take, by the files that tell it and by who else does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from snowmelt.config.models import Source
from snowmelt.estimates.footprint import (
    BATCHES,
    DECODING,
    DUCKDB_ENGINE,
    RESULT_BYTES,
    flow_of,
)
from snowmelt.estimates.memory import Cache
from snowmelt.estimates.memory_limit import container_limit, machine_memory, memory_limit
from snowmelt.sources import duckdb
from snowmelt.sources.snowflake import bodies, login, results

GB = 1 << 30
NO_LIMIT = "9223372036854771712"


def _cgroups(folder: Path, membership: str, files: Mapping[str, str]) -> tuple[Path, Path]:
    for name, text in files.items():
        path = folder / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    own = folder / "self"
    own.write_text(membership)
    return folder / "cgroup", own


@pytest.mark.parametrize(
    ("membership", "files", "limit"),
    [
        # version 2, within a container's own namespace
        ("0::/\n", {"memory.max": str(GB)}, GB),
        ("0::/\n", {"memory.max": "max"}, None),
        # version 2 on a host: the tightest of the group and those around it
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": str(GB)}, GB),
        ("0::/a/b\n", {"a/b/memory.max": str(GB), "a/memory.max": str(2 * GB)}, GB),
        # the path is the host's, and only the mount's top is there
        ("0::/docker/77\n", {"memory.max": str(GB)}, GB),
        ("0::/../77\n", {"memory.max": str(GB)}, GB),
        # version 1
        ("4:memory:/a\n1:cpu:/x\n", {"memory/a/memory.limit_in_bytes": str(GB)}, GB),
        ("4:cpu,memory:/\n", {"memory/memory.limit_in_bytes": str(GB)}, GB),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": NO_LIMIT}, None),
        # both are mounted, and version 1 has the memory
        ("4:memory:/a\n0::/\n", {"memory/a/memory.limit_in_bytes": str(GB)}, GB),
        # a controller that only sounds like it, and nothing at all
        ("4:memory_x:/\n", {"memory/memory.limit_in_bytes": str(GB)}, None),
        ("", {}, None),
        ("0::/\n", {"memory.max": "a lot"}, None),
    ],
)
def test_the_limit_of_a_container(
    tmp_path: Path, membership: str, files: dict[str, str], limit: int | None
) -> None:
    assert container_limit(*_cgroups(tmp_path, membership, files)) == limit


def test_without_cgroups_there_is_no_container(tmp_path: Path) -> None:
    assert container_limit(tmp_path / "no", tmp_path / "nothing") is None


def _limit(
    lambda_memory: int | None, environment: Mapping[str, str], place: tuple[Path, Path]
) -> tuple[int, str]:
    found = memory_limit(lambda_memory, environment, cgroups=place[0], membership=place[1])
    assert found is not None
    return found.bytes, found.what


def test_who_says_what_there_is(tmp_path: Path) -> None:
    place = _cgroups(tmp_path, "0::/\n", {"memory.max": str(GB)})
    function = {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "2048"}

    assert _limit(None, {}, place) == (GB, "the container's limit")
    assert _limit(10_240, {}, place) == (10 * GB, "lambda_memory, 10,240 MB")
    assert _limit(None, function, place) == (2 * GB, "the Lambda function's memory, 2,048 MB")
    # The function may be smaller than the config says, or larger.
    assert _limit(10_240, function, place)[0] == 2 * GB
    assert _limit(1_024, function, place)[0] == GB


def test_a_limit_beyond_the_machine_is_none(tmp_path: Path) -> None:
    machine = machine_memory()
    assert machine is not None
    place = _cgroups(tmp_path, "0::/\n", {"memory.max": str(2 * machine)})
    assert _limit(None, {}, place) == (machine, "the machine's memory")


def test_the_constants_are_those_of_the_adapters() -> None:
    """They stand twice where the adapter's module can't be imported without its client."""
    assert bodies._GROWN * (login._RESULT_CHUNK_SIZE << 20) <= RESULT_BYTES
    assert bodies.DECODING_BYTES == DECODING
    assert duckdb.ENGINE_BYTES == DUCKDB_ENGINE
    assert results.BATCHES_AHEAD + 2 == BATCHES


@pytest.mark.parametrize(
    ("connection", "cache"),
    [
        (None, Cache.NONE),
        ("duckdb:///visits.duckdb", Cache.PROCESS),
        ("files:///exports", Cache.WORKER),
    ],
)
def test_what_is_cached_of_a_source(connection: str | None, cache: Cache) -> None:
    source = Source.model_validate({"source_name": "s", "connection": connection, "tables": []})
    assert flow_of(source).cache is cache
