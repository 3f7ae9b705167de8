"""Each kind of source that there is, as a place to make tables in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from snowmelt.standin.server import StandIn
from tests.contracts.places import LIVE, LIVE_SECRETS, Files, Place, Snowflake

_UNSET = [name for name in LIVE if name not in os.environ]
_LIVE = pytest.param(
    "live",
    marks=pytest.mark.skipif(
        bool(_UNSET) or not any(name in os.environ for name in LIVE_SECRETS),
        reason=f"no live account: set {', '.join(LIVE)} and one of {', '.join(LIVE_SECRETS)}",
    ),
)


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with StandIn.start() as server:
        yield server


@pytest.fixture(params=["duckdb", "parquet", "standin", _LIVE])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Each kind of source that there is."""
    if request.param in ("standin", "live"):
        yield from _snowflake(request)
        return
    made = Files(tmp_path, parquet=request.param == "parquet")
    yield made
    made.close()


@pytest.fixture(params=["standin", _LIVE])
def query_place(request: pytest.FixtureRequest) -> Iterator[Snowflake]:
    """Each kind of source that keeps the results of its queries."""
    yield from _snowflake(request)


def _snowflake(request: pytest.FixtureRequest) -> Iterator[Snowflake]:
    live = request.param == "live"
    made = Snowflake.live() if live else Snowflake.stood_in(request.getfixturevalue("standin"))
    yield made
    made.close()
