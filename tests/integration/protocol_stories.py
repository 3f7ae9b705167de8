"""What once went wrong, or would without some part of the protocol: short stories for a `Storm`.

What comes after a story until everything is calm belongs to it: a promise may be seen broken only there.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.integration.protocol_line import Call, Fate
from tests.integration.protocol_parts import Stage, Worker
from tests.integration.protocol_storm import Storm

Story = Callable[[Storm], None]


def steps(storm: Storm, worker: Worker, count: int) -> None:
    while count and storm.advance(worker):
        storm.check()
        count -= 1


def taken_over_and_goes_on(storm: Storm) -> None:
    stale, _, other = storm.workers
    storm.advance_to(stale, Stage.LOADING)
    storm.overtake(stale, other)
    storm.check()
    steps(storm, stale, 5)


def dies_in_copy(storm: Storm) -> None:
    storm.advance_to(storm.workers[0], Stage.LOADING)
    steps(storm, storm.workers[0], 1)
    storm.die(storm.workers[0].process)
    storm.check()


def taken_over_in_copy(storm: Storm) -> None:
    stale, _, other = storm.workers
    storm.advance_to(stale, Stage.LOADING)
    steps(storm, stale, 1)
    storm.overtake(stale, other)
    storm.check()
    steps(storm, other, 5)


def taken_over_before_commit(storm: Storm) -> None:
    stale, _, other = storm.workers
    storm.advance_to(stale, Stage.RECORDED)
    storm.overtake(stale, other)
    storm.check()
    steps(storm, other, 5)


def wakes_with_a_lost_claim(storm: Storm) -> None:
    stale, _, other = storm.workers
    storm.advance_to(stale, Stage.CLAIMED)
    storm.overtake(stale, other)
    storm.check()
    storm.advance_to(other, Stage.LOADING)
    steps(storm, stale, 1)
    steps(storm, other, 5)


def claims_side_by_side(storm: Storm) -> None:
    first, _, second = storm.workers
    storm.freeze(first)
    claim = Call(lambda: storm.claim(second))
    claim.wait(
        0.1
    )  # without the lock on the row it waits for the first one's commit, and claims the same
    storm.thaw(first.process)
    claim.result()
    storm.check()


def take_overs_side_by_side(storm: Storm) -> None:
    stale, _, first = storm.workers
    while len(storm.completed()) < 2:
        steps(storm, first, 1)
    storm.processes.append(storm.start_process())
    second = storm.start_worker(storm.processes[-1])
    storm.workers.append(second)
    storm.claim(stale)
    storm.expire(stale, known_to=first)
    storm.claim_at_once([first, second])
    storm.check()


def crash_after_claim(storm: Storm) -> None:
    worker = storm.workers[0]
    steps(storm, worker, 1)
    storm.restart("immediate")
    steps(storm, storm.workers[2], 5)


def crash_after_finish(storm: Storm) -> None:
    steps(storm, storm.workers[0], 20)
    storm.finish(storm.workers[0])
    storm.restart("immediate")


def crash_before_finish(storm: Storm) -> None:
    steps(storm, storm.workers[0], 20)
    storm.restart("immediate")
    storm.finish(storm.workers[0])
    storm.check()


def answer_to_commit_is_lost(storm: Storm) -> None:
    worker = storm.workers[0]
    storm.advance_to(worker, Stage.RECORDED)
    storm.advance(worker, Fate.UNANSWERED)
    storm.check()
    steps(storm, worker, 8)


def commit_arrives_late(storm: Storm) -> None:
    worker = storm.workers[0]
    storm.advance_to(worker, Stage.RECORDED)
    storm.advance(worker, Fate.STUCK)
    storm.give_up(worker)
    storm.deliver()
    storm.check()


def resized_after_a_take_over(storm: Storm) -> None:
    stale, _, other = storm.workers
    storm.advance_to(stale, Stage.LOADING)
    steps(storm, stale, 1)
    storm.overtake(stale, other)
    storm.resize(other)
    storm.check()
    steps(storm, other, 10)
    steps(storm, stale, 5)


def resizes_what_it_has_lost(storm: Storm) -> None:
    stale, _, other = storm.workers
    storm.advance_to(stale, Stage.CLAIMED)
    storm.overtake(stale, other)
    storm.resize(stale)
    storm.check()
    steps(storm, other, 5)


def crash_after_resizing(storm: Storm) -> None:
    storm.advance_to(storm.workers[0], Stage.CLAIMED)
    storm.resize(storm.workers[0])
    storm.restart("immediate")
    steps(storm, storm.workers[2], 10)


def answer_to_resizing_is_lost(storm: Storm) -> None:
    worker = storm.workers[0]
    for fate in (Fate.UNANSWERED, Fate.UNSENT, Fate.STUCK):
        storm.advance_to(worker, Stage.LOADING)
        storm.resize(worker, fate)
        storm.check()
        steps(storm, worker, 2)
    storm.deliver()
    storm.check()


def answer_to_failure_is_lost(storm: Storm) -> None:
    worker = storm.workers[0]
    steps(storm, worker, 2)
    storm.give_up(worker, fails=True, fate=Fate.UNANSWERED)
    storm.check()


def freezes_while_claiming(storm: Storm) -> None:
    storm.freeze(storm.workers[0])
    storm.check()


def freezes_while_finishing(storm: Storm) -> None:
    steps(storm, storm.workers[0], 20)
    storm.freeze(storm.workers[0], finishing=True)
    storm.check()


def aborted_before_commit(storm: Storm) -> None:
    worker = storm.workers[0]
    storm.advance_to(worker, Stage.RECORDED)
    storm.abort()
    steps(storm, worker, 1)


def aborted_twice(storm: Storm) -> None:
    worker = storm.workers[0]
    storm.advance_to(worker, Stage.RECORDED)
    storm.abort(Fate.UNANSWERED)
    steps(storm, worker, 1)


def aborted_before_finish(storm: Storm) -> None:
    steps(storm, storm.workers[0], 20)
    storm.abort()
    storm.finish(storm.workers[0])


def aborted_while_finishing(storm: Storm) -> None:
    steps(storm, storm.workers[0], 20)
    storm.freeze(storm.workers[0], finishing=True)
    storm.abort()
    storm.thaw(storm.workers[0].process)


def told_of_a_finish_after_the_abort(storm: Storm) -> None:
    """It was finished before: that an abort changes nothing about it is no broken promise."""
    steps(storm, storm.workers[0], 20)
    storm.finish(storm.workers[0])
    storm.freeze(storm.workers[2], finishing=True)
    storm.abort()
    storm.check()
    storm.thaw(storm.workers[2].process)


def claimed_when_the_abort_came(storm: Storm) -> None:
    """The claims were on their way: that a worker finds its own lost is no broken promise."""
    first, _, second = storm.workers
    storm.freeze(first)
    storm.freeze(second)
    storm.abort()
    for worker in (first, second):
        storm.thaw(worker.process)
        steps(storm, worker, 2)
