"""The stand-in for AWS that tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.aws.ministack import Ministack, ministack


@pytest.fixture(scope="session")
def cloud() -> Iterator[Ministack]:
    """A server for all tests; each makes functions and state machines of its own."""
    with ministack() as server:
        yield server
