"""No row lost or doubled, no worker blocked for ever: the protocol of a chunk under a stateful model.

The server loses its asynchronous tail when it is stopped at once; workers stall, die, wake and lose answers.
Faults planted in the protocol show that the model would see them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.errors import Flaky
from hypothesis.stateful import run_state_machine_as_test

from snowmelt.demo.postgres import LocalPostgres
from snowmelt.postgres import claims, load
from snowmelt.postgres.connect import Session
from snowmelt.postgres.migrations import migrate_ledger
from tests.integration import protocol_faults as faults
from tests.integration import protocol_stories as stories
from tests.integration.protocol import World
from tests.integration.protocol_faults import FAULTS, Fault, Plant
from tests.integration.protocol_line import Limit, Violation
from tests.integration.protocol_machine import DATABASE, Protocol
from tests.integration.protocol_stories import Story
from tests.integration.protocol_storm import Storm
from tests.support import memory

# With these an asynchronous commit stays in the server's memory until a synchronous one follows it.
SETTINGS = {
    "fsync": "off",
    "autovacuum": "off",
    "wal_writer_delay": "10s",
    "wal_writer_flush_after": "1GB",
    "checkpoint_timeout": "1h",
    "max_connections": "100",
}
STEPS = 20
SEED = 4
"""Of a few tried the one with which planted faults are found soonest; each finds them all."""


@pytest.fixture(scope="module")
def server() -> Iterator[LocalPostgres]:
    """A server that the tests of this module crash, with a ledger in it."""
    with LocalPostgres.temporary(settings=SETTINGS, within=memory()) as server:
        server.create_database(DATABASE)
        session = Session(World.server_of(server, DATABASE))
        migrate_ledger(session)
        session.close()
        yield server


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The protocol's own waits, short."""
    monkeypatch.setattr(claims, "LOCK_TIMEOUT_MS", 100)
    monkeypatch.setattr(claims, "PAUSE_LIMIT_MS", 400)
    monkeypatch.setattr(load, "LOCK_PATIENCE_SECONDS", 3.0)


def told(story: Story, server: LocalPostgres, *, unique: bool = False) -> Storm:
    """Tell a story, and what comes after it until everything is calm."""
    storm = Storm(server, DATABASE, unique, (3, 0, 2))
    try:
        story(storm)
        storm.calm()
    finally:
        storm.close()
    return storm


def test_the_protocol_keeps_its_promises(
    server: LocalPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Protocol, "postgres", server, raising=False)
    examples = settings().max_examples * 4 // 10
    run_state_machine_as_test(
        Protocol, settings=settings(max_examples=examples, stateful_step_count=STEPS)
    )


def test_an_immediate_stop_loses_asynchronous_commits(server: LocalPostgres) -> None:
    """Acknowledged chunks vanish, rows and records together, and are moved again."""

    def story(storm: Storm) -> None:
        worker = storm.workers[0]
        for _ in range(20):
            storm.advance(worker)
        assert storm.acknowledged == {0, 1, 2}
        assert storm.restart("immediate") == 1, (
            "only the last move had no synchronous commit after it"
        )
        (gone,) = {0, 1, 2} - storm.completed()
        assert storm.rows()[gone].ids == []
        storm.check()

    assert told(story, server).finished


STORIES = {fault.story: fault.unique for fault in FAULTS}
STORIES |= {
    stories.told_of_a_finish_after_the_abort: True,
    stories.claimed_when_the_abort_came: False,
}


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_a_story_ends_well(story: Story, server: LocalPostgres) -> None:
    told(story, server, unique=STORIES[story])


@pytest.mark.parametrize(
    "fault", FAULTS, ids=lambda fault: f"{fault.plant.__name__}-{fault.story.__name__}"
)
def test_a_planted_fault_is_seen(
    fault: Fault, server: LocalPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Limit, "seconds", 2.0)
    monkeypatch.setattr(load, "LOCK_PATIENCE_SECONDS", 0.5)
    fault.plant(monkeypatch)
    with pytest.raises(Violation):
        told(fault.story, server, unique=fault.unique)


@pytest.mark.slow
@pytest.mark.parametrize(
    "plant",
    [
        faults.no_fence,
        faults.no_termination,
        faults.no_advisory_lock,
        faults.no_ownership_before_eviction,
        faults.claim_within_the_move,
        faults.claim_asynchronous,
        faults.retry_that_copies_again_on_belief,
    ],
    ids=lambda plant: plant.__name__,
)
def test_random_search_finds_a_planted_fault(
    plant: Plant, server: LocalPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Limit, "seconds", 2.0)
    monkeypatch.setattr(load, "LOCK_PATIENCE_SECONDS", 0.5)
    plant(monkeypatch)

    @seed(SEED)
    class Faulty(Protocol):
        postgres = server

    quick = settings(
        max_examples=300,
        stateful_step_count=STEPS,
        phases=[Phase.generate],
        database=None,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    # Flaky: the search repeats what failed, and a race may end otherwise. Without a failure there is no repeating.
    with pytest.raises((Violation, Flaky)):
        run_state_machine_as_test(Faulty, settings=quick)
