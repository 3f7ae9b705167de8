"""The protocol of a chunk as a state machine: what may happen in any order, and what holds all the while."""

from __future__ import annotations

import sys
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from snowmelt.demo.postgres import LocalPostgres, StopMode
from tests.integration.protocol import PROCESSES
from tests.integration.protocol_line import Fate
from tests.integration.protocol_storm import Storm

DATABASE = "protocol"
ALL = 40
"""Steps that are enough for one worker to move every chunk."""
STOPS: tuple[StopMode | None, ...] = (None, "immediate", "fast", "immediate", None, None)
"""Not each time: a restart takes as long as a hundred other steps."""

fates = st.sampled_from(Fate)
lost = st.sampled_from([fate for fate in Fate if fate is not Fate.ANSWERED])
workers = st.integers(0, len(PROCESSES) - 1)
pairs = st.permutations(range(len(PROCESSES))).map(lambda order: order[:2])
processes = st.integers(0, max(PROCESSES))


class Protocol(RuleBasedStateMachine):
    """Any of it, in any order. No rule has a precondition: what is possible may depend on a race."""

    postgres: ClassVar[LocalPostgres]
    storm: Storm

    @initialize(
        unique=st.booleans(),
        sizes=st.lists(st.integers(0, 3), min_size=1, max_size=6),
        abortable=st.sampled_from([False, False, True]),
    )
    def begin(self, unique: bool, sizes: list[int], abortable: bool) -> None:
        self.storm = Storm(self.postgres, DATABASE, unique, sizes)
        self.abortable = abortable

    @rule(worker=workers, steps=st.integers(1, 6))
    def advance(self, worker: int, steps: int) -> None:
        for _ in range(steps):
            if not self.storm.advance(self.storm.workers[worker]):
                return

    @rule(worker=workers, fate=lost, settles=st.booleans(), late=st.booleans())
    def lose_the_commit(self, worker: int, fate: Fate, settles: bool, late: bool) -> None:
        loser = self.storm.workers[worker]
        self.storm.advance_to_commit(loser)
        self.storm.advance(loser, fate)
        if settles:
            self.storm.give_up(loser)
        if late:
            self.storm.deliver()

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

    @rule(pair=pairs, steps=st.integers(0, 4), more=st.integers(0, 4))
    def overtake(self, pair: list[int], steps: int, more: int) -> None:
        stale, other = (self.storm.workers[number] for number in pair)
        self.advance(pair[0], steps)
        self.storm.overtake(stale, other)
        self.advance(pair[1], more)
        self.advance(pair[0], 5 - more)

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

    @rule(worker=workers, stop=st.sampled_from(STOPS))
    def restart(self, worker: int, stop: StopMode | None) -> None:
        self.stall_before_commit(worker)
        self.storm.advance(self.storm.workers[worker])
        if stop is not None:
            self.storm.restart(stop)

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
