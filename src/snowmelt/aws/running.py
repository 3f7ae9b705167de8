"""One invocation's share of a run: as much of it as the time of the invocation allows."""

from __future__ import annotations

import logging

from snowmelt.app import Mover
from snowmelt.aws.event import Event
from snowmelt.aws.json_line import Facts
from snowmelt.aws.watch import Watch
from snowmelt.config import Config
from snowmelt.deadline import Deadline
from snowmelt.errors import Refused
from snowmelt.plan import Plan
from snowmelt.status import Report, State
from snowmelt.survey import Choice

_log = logging.getLogger(__name__)

ATTEMPTS = 3
"""At a beginning that another process was faster with."""
LATEST = 5
"""Runs among which that process's is looked for."""


def time_left(context: object, config: Config) -> Deadline | None:
    """By the context that Lambda gives; None where nothing ends the process."""
    remaining = getattr(context, "get_remaining_time_in_millis", None)
    if remaining is None:
        return None
    return Deadline(max(remaining() / 1_000, 1.0), config.lambda_timeout_buffer_seconds)


def choice_of(asked: Event, deadline: Deadline | None) -> Choice:
    """How the run is found or begun, with chunks that fit the time."""
    return asked.choice(None if deadline is None else deadline.working_seconds)


def run_slice(
    mover: Mover, asked: Event, deadline: Deadline | None, watch: Watch, facts: Facts
) -> Report:
    """Go on with the run, or begin it, until it is done, fails, or the time is up.

    A process that was invoked twice joins the run that its twin has begun. Raises what keeps it from working.
    """
    choice = choice_of(asked, deadline)
    plan = mover.plan(choice)
    for attempt in range(1, ATTEMPTS + 1):
        if not plan.refused:
            facts.run_id = str(plan.run_id)
            word = "resuming" if plan.resumed else "starting"
            _log.info("%s run %s", word, plan.run_id, extra={"action": "begins"})
        try:
            return mover.run(plan, choice=choice, observer=watch, deadline=deadline)
        except Refused:
            facts.run_id = None
            if attempt == ATTEMPTS or not (choice.resume and _has_twin(mover, plan)):
                raise
            plan = mover.plan(choice)
    raise AssertionError("the last attempt returns or raises")


def _has_twin(mover: Mover, plan: Plan) -> bool:
    """Whether a run of the same sources is under way that the plan knew nothing of."""
    return any(
        run.run_id != plan.run_id
        and run.state in (State.RUNNING, State.PARTIAL)
        and run.source_names == plan.identity.source_names
        for run in mover.status(limit=LATEST)
    )
