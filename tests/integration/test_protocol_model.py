"""No row lost or doubled, no worker blocked for ever: a stateful model of the protocol of a chunk."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from snowmelt.demo.postgres import LocalPostgres, StopMode
from snowmelt.postgres import claims, load
from snowmelt.postgres.connect import Session
from snowmelt.postgres.migrations import migrate_ledger
from tests.integration.protocol import PROCESSES, World
from tests.integration.protocol_line import Fate
from tests.integration.protocol_storm import Storm

# With these an asynchronous commit stays in the server's memory until a synchronous one follows it.
SETTINGS = {
    "fsync": "off",
    "autovacuum": "off",
    "wal_writer_delay": "10s",
    "wal_writer_flush_after": "1GB",
    "checkpoint_timeout": "1h",
    "max_connections": "100",
}
DATABASE = "protocol"
ALL = 40
"""Steps that are enough for one worker to move every chunk."""

fates = st.sampled_from(Fate)
lost = st.sampled_from([fate for fate in Fate if fate is not Fate.ANSWERED])
workers = st.integers(0, len(PROCESSES) - 1)
pairs = st.permutations(range(len(PROCESSES))).map(lambda order: order[:2])
processes = st.integers(0, max(PROCESSES))


@pytest.fixture(scope="module")
def server() -> Iterator[LocalPostgres]:
    """A server that the tests of this module crash, with a ledger in it."""
    with LocalPostgres.temporary(settings=SETTINGS) as server:
        server.create_database(DATABASE)
        session = Session(World.server_of(server, DATABASE))
        migrate_ledger(session)
        session.close()
        yield server


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The protocol's own waits, short."""
    monkeypatch.setattr(claims, "LOCK_TIMEOUT_MS", 100)
    monkeypatch.setattr(load, "LOCK_PATIENCE_SECONDS", 3.0)
    if hasattr(claims, "PAUSE_LIMIT_MS"):
        monkeypatch.setattr(claims, "PAUSE_LIMIT_MS", 1_000)


class Protocol(RuleBasedStateMachine):
    """Any of it, in any order. No rule has a precondition: what is possible may depend on a race."""

    postgres: ClassVar[LocalPostgres]
    storm: Storm

    @initialize(
        unique=st.booleans(),
        sizes=st.lists(st.integers(0, 4), min_size=1, max_size=4),
        abortable=st.sampled_from([False, False, True]),
    )
    def begin(self, unique: bool, sizes: list[int], abortable: bool) -> None:
        self.storm = Storm(self.postgres, DATABASE, unique, sizes)
        self.abortable = abortable

    @rule(worker=workers, steps=st.integers(1, 6))
    def advance(self, worker: int, steps: int) -> None:
        for _ in range(steps):
            self.storm.advance(self.storm.workers[worker])

    @rule(worker=workers, fate=lost)
    def lose_the_commit(self, worker: int, fate: Fate) -> None:
        self.storm.advance_to_commit(self.storm.workers[worker])
        self.storm.advance(self.storm.workers[worker], fate)

    @rule(worker=workers)
    def stall_before_commit(self, worker: int) -> None:
        self.storm.advance_to_commit(self.storm.workers[worker])

    @rule(worker=workers, fate=lost)
    def lose_the_claim(self, worker: int, fate: Fate) -> None:
        self.storm.claim(self.storm.workers[worker], fate)

    @rule(worker=workers, fails=st.booleans(), fate=fates)
    def give_up(self, worker: int, fails: bool, fate: Fate) -> None:
        self.storm.give_up(self.storm.workers[worker], fails=fails, fate=fate)

    @rule(worker=workers)
    def fail_and_resume(self, worker: int) -> None:
        self.storm.give_up(self.storm.workers[worker], fails=True)
        self.storm.reopen()

    @rule(pair=pairs, steps=st.integers(1, 3))
    def together(self, pair: list[int], steps: int) -> None:
        for _ in range(steps):
            self.storm.together([self.storm.workers[number] for number in pair])

    @rule(process=processes, polite=st.booleans())
    def die(self, process: int, polite: bool) -> None:
        self.storm.die(self.storm.processes[process], polite=polite)

    @rule(beating=st.sets(processes))
    def time_passes(self, beating: set[int]) -> None:
        self.storm.time_passes([self.storm.processes[number] for number in beating])

    @rule(worker=workers)
    def hang(self, worker: int) -> None:
        self.storm.hang(self.storm.workers[worker])

    @rule(pair=pairs, steps=st.integers(0, 5), more=st.integers(0, 5))
    def overtake(self, pair: list[int], steps: int, more: int) -> None:
        stale, other = (self.storm.workers[number] for number in pair)
        for _ in range(steps):
            self.storm.advance(stale)
        self.storm.expire(stale, known_to=other)
        for _ in range(more):
            self.storm.advance(other)
        self.storm.advance(stale)

    @rule(worker=workers, finishing=st.booleans())
    def freeze(self, worker: int, finishing: bool) -> None:
        self.storm.freeze(self.storm.workers[worker], finishing=finishing)

    @rule(process=processes)
    def thaw(self, process: int) -> None:
        self.storm.deliver()
        self.storm.thaw(self.storm.processes[process])

    @rule(worker=workers, fate=fates)
    def finish(self, worker: int, fate: Fate) -> None:
        self.storm.finish(self.storm.workers[worker], fate)

    @rule(mode=st.sampled_from(["immediate", "immediate", "fast"]))
    def restart(self, mode: StopMode) -> None:
        self.storm.restart(mode)

    @rule(worker=workers, steps=st.sampled_from([0, 3, ALL]), stalls=st.booleans(), fate=fates)
    def abort(self, worker: int, steps: int, stalls: bool, fate: Fate) -> None:
        if self.abortable:
            self.advance(worker, steps)
            if stalls:
                self.stall_before_commit(worker)
            self.storm.abort(fate)

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        self.storm.check()

    def teardown(self) -> None:
        try:
            if sys.exception() is None:  # else a promise is broken already
                self.storm.calm()
        finally:
            self.storm.close()


def test_the_protocol_keeps_its_promises(
    server: LocalPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Protocol, "postgres", server, raising=False)
    run_state_machine_as_test(
        Protocol, settings=settings(stateful_step_count=20, max_examples=settings().max_examples)
    )
