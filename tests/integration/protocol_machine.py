"""The protocol of a chunk as a state machine: what may happen in any order, and what holds all the while."""

from __future__ import annotations

import sys
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from snowmelt.demo.postgres import LocalPostgres, StopMode
from tests.integration.protocol import PROCESSES
from tests.integration.protocol_line import Fate
from tests.integration.protocol_parts import Stage, Worker
from tests.integration.protocol_storm import Storm

DATABASE = "protocol"
STOPS: tuple[StopMode | None, ...] = (None, "immediate", "fast", "immediate", None, None)
"""Not each time: a restart takes as long as a hundred other steps."""

fates = st.sampled_from(Fate)
lost = st.sampled_from([fate for fate in Fate if fate is not Fate.ANSWERED])
HELD = (Stage.CLAIMED, Stage.LOADING, Stage.RECORDED)
workers = st.integers(0, len(PROCESSES) - 1)
pairs = st.permutations(range(len(PROCESSES))).map(lambda order: order[:2])
processes = st.integers(0, max(PROCESSES))


class Protocol(RuleBasedStateMachine):
    """Any of it, in any order. No rule has a precondition: what is possible may depend on a race."""

    postgres: ClassVar[LocalPostgres]
    storm: Storm

    @initialize(
        unique=st.booleans(),
        merges=st.booleans(),
        sizes=st.lists(st.integers(0, 3), min_size=3, max_size=10),
        abort_after=st.sampled_from([None, None, None, 3, 8]),
    )
    def begin(self, unique: bool, merges: bool, sizes: list[int], abort_after: int | None) -> None:
        self.storm = Storm(self.postgres, DATABASE, unique, sizes, merges=unique and merges)
        self.wait = abort_after

    def worker(self, number: int) -> Worker:
        return self.storm.workers[number]

    @rule(number=workers, steps=st.integers(1, 6))
    def advance(self, number: int, steps: int) -> None:
        for _ in range(steps):
            if not self.storm.advance(self.worker(number)):
                return

    @rule(number=workers, fate=fates, settles=st.booleans(), late=st.booleans())
    def commit(self, number: int, fate: Fate, settles: bool, late: bool) -> None:
        worker = self.worker(number)
        self.storm.advance_to(worker)
        self.storm.advance(worker, fate)
        if settles:
            self.storm.give_up(worker)
        if late:
            self.storm.deliver()

    @rule(pair=pairs, stage=st.sampled_from(HELD), more=st.sampled_from([0, 0, 1, 2, 4]))
    def overtake(self, pair: list[int], stage: Stage, more: int) -> None:
        stale, other = (self.worker(number) for number in pair)
        for worker in (stale, other):
            self.storm.thaw(worker.process)
        self.storm.advance_to(stale, stage)
        self.storm.overtake(stale, other)
        self.advance(pair[1], more)
        self.advance(pair[0], 5 - more)

    @rule(pair=pairs, steps=st.integers(1, 3))
    def together(self, pair: list[int], steps: int) -> None:
        for _ in range(steps):
            self.storm.together([self.worker(number) for number in pair])

    @rule(number=workers, fate=lost, freezes=st.booleans())
    def claim(self, number: int, fate: Fate, freezes: bool) -> None:
        if freezes:
            self.storm.freeze(self.worker(number))
        else:
            self.storm.claim(self.worker(number), fate)

    @rule(number=workers, fate=fates, freezes=st.booleans())
    def finish(self, number: int, fate: Fate, freezes: bool) -> None:
        if freezes:
            self.storm.freeze(self.worker(number), finishing=True)
        else:
            self.storm.finish(self.worker(number), fate)

    @rule(number=workers, fails=st.booleans(), fate=fates, resumes=st.booleans())
    def give_up(self, number: int, fails: bool, fate: Fate, resumes: bool) -> None:
        self.storm.give_up(self.worker(number), fails=fails, fate=fate)
        if resumes:
            self.storm.reopen()

    @rule(number=workers, stage=st.sampled_from(HELD), fate=fates, late=st.booleans())
    def resize(self, number: int, stage: Stage, fate: Fate, late: bool) -> None:
        worker = self.worker(number)
        self.storm.advance_to(worker, stage)
        self.storm.resize(worker, fate)
        if late:
            self.storm.deliver()

    @rule(number=processes, polite=st.booleans())
    def die(self, number: int, polite: bool) -> None:
        self.storm.die(self.storm.processes[number], polite=polite)

    @rule(beating=st.sets(processes), hanging=st.sets(workers))
    def time_passes(self, beating: set[int], hanging: set[int]) -> None:
        self.storm.time_passes([self.storm.processes[number] for number in beating])
        for number in hanging:
            self.storm.hang(self.worker(number))

    @rule(number=processes)
    def thaw(self, number: int) -> None:
        self.storm.deliver()
        self.storm.thaw(self.storm.processes[number])

    @rule(number=workers, stop=st.sampled_from(STOPS))
    def restart(self, number: int, stop: StopMode | None) -> None:
        self.storm.advance_to(self.worker(number))
        self.storm.advance(self.worker(number))
        if stop is not None:
            self.storm.restart(stop)

    @rule(number=workers, all=st.booleans(), stalls=st.booleans(), fate=fates)
    def abort(self, number: int, all: bool, stalls: bool, fate: Fate) -> None:
        """Ends what is interesting, so only in some runs, and there not at once."""
        if self.wait is None or self.wait > 0:
            return
        while all and self.storm.advance(self.worker(number)):
            pass
        if stalls:
            self.storm.advance_to(self.worker(number))
        self.storm.abort(fate)

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        self.storm.check()
        if self.wait is not None:
            self.wait -= 1

    def teardown(self) -> None:
        try:
            if sys.exception() is None:  # else a promise is broken already
                self.storm.calm()
        finally:
            self.storm.close()
