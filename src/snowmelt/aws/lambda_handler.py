"""The Lambda function: `snowmelt.aws.lambda_handler.handler`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import nullcontext

from snowmelt.app import Mover
from snowmelt.aws import answers
from snowmelt.aws.answers import Answer
from snowmelt.aws.config_file import read_config
from snowmelt.aws.errors import translated
from snowmelt.aws.event import Action, Event
from snowmelt.aws.json_line import Facts
from snowmelt.aws.logs import logged
from snowmelt.aws.metrics import Metrics
from snowmelt.aws.reporter import reporting
from snowmelt.aws.running import choice_of, run_slice, time_left
from snowmelt.aws.watch import Watch
from snowmelt.config import Config
from snowmelt.deadline import Deadline
from snowmelt.errors import FatalError, RetriableError, SnowmeltError, UnknownName, UsageError
from snowmelt.status import RunStatus

_log = logging.getLogger(__name__)

MOST_NAMES = 3
"""Of sources in a line."""
LATEST = (1, 10, 100)
"""Of the newest runs so many are looked at for one of a source, in turn."""


def handler(event: object, context: object = None) -> Answer:
    """Do what the event asks; nothing stays in the process for the next one.

    Raises `aws.errors`' ConfigError, RetryableError or FatalError for what keeps it from that.
    """
    invocation = _Invocation(event, context)
    with logged(invocation.facts) as write:
        metrics = Metrics(write, invocation.facts, invocation.watch, time.monotonic())
        try:
            return answers.response(invocation.answer(metrics))
        except Exception as error:  # noqa: BLE001
            if not isinstance(error, SnowmeltError):
                _log.error("not foreseen", exc_info=True, extra={"action": "unforeseen"})
            invocation.watch.ended_in_failure = True
            failure = translated(error)
        finally:
            metrics.flush(time.monotonic())
    # Not within the block above: what it was made from would go along. The runtime logs it.
    raise failure from None


class _Invocation:
    """One event, and what is known of it so far."""

    def __init__(self, event: object, context: object) -> None:
        self._event = event
        self._context = context
        self.facts = Facts(request_id=getattr(context, "aws_request_id", None))
        self.watch = Watch()

    def answer(self, metrics: Metrics) -> Answer:
        asked = Event.of(self._event)
        self.facts.source_name = asked.source_name
        config = asked.overridden(self._config(asked))
        self.facts.source_name = _named([source.source_name for source in config.sources])
        for warning in config.warnings:
            _log.warning("%s", warning, extra={"action": "config_warning"})
        if asked.action is Action.VALIDATE_CONFIG:
            return answers.validated(config)
        deadline = time_left(self._context, config)
        if deadline is not None:
            config = config.within(deadline.working_seconds)
        acts: dict[Action, Callable[[Mover, Event, Deadline | None], Answer]] = {
            Action.MIGRATE: self._migrate,
            Action.PLAN: self._plan,
            Action.TEST_CONNECTIONS: self._test,
            Action.STATUS: self._status,
        }
        moves = asked.action is Action.MIGRATE
        telling = reporting(self.watch.gauges, metrics) if moves else nullcontext()
        with Mover(config) as mover, telling:
            return acts[asked.action](mover, asked, deadline)

    def _config(self, asked: Event) -> Config:
        try:
            return read_config(asked.config, asked.source_name)
        except UnknownName:
            self.facts.source_name = None  # no dimension of a metric for each name that is sent
            raise

    def _migrate(self, mover: Mover, asked: Event, deadline: Deadline | None) -> Answer:
        report = run_slice(mover, asked, deadline, self.watch, self.facts)
        body = answers.migrated(report)
        if report.errors:
            self.watch.ended_in_failure = True
        _log.info(
            "%s: %s rows in %s chunks were moved in %.1f s, %s of %s tables are completed%s",
            body["status"],
            f"{self.watch.tally.rows:,}",
            f"{self.watch.tally.chunks:,}",
            report.seconds,
            body["completed_tables"],
            body["total_tables"],
            f"; {report.slice.reason}" if report.slice and report.slice.reason else "",
            extra={"action": "ended", "seconds": round(report.seconds, 3)},
        )
        if report.memory is not None and report.memory.fed:
            _log.info("%s", report.memory, extra={"action": "memory"})
        return body

    def _plan(self, mover: Mover, asked: Event, deadline: Deadline | None) -> Answer:
        return answers.planned(mover.plan(choice_of(asked, deadline)))

    def _test(self, mover: Mover, asked: Event, deadline: Deadline | None) -> Answer:
        tried = list(mover.check())
        wrong = [error for _, error in tried if error is not None]
        if wrong:
            raise _together(wrong)
        return answers.tested([what for what, _ in tried])

    def _status(self, mover: Mover, asked: Event, deadline: Deadline | None) -> Answer:
        named = asked.run_id
        found = mover.status(named) if named else _latest(mover, asked.source_name)
        if not found:
            raise UnknownName(
                "there is no run yet" + (f" of {asked.source_name}" if asked.source_name else ""),
                remedy="begin one: send the action migrate",
            )
        return answers.statuses(found)


def _named(sources: list[str]) -> str:
    """The sources of an invocation as one text, which each of its lines has.

    >>> _named(["a", "b"]), _named(["a", "b", "c", "d", "e"])
    ('a,b', 'a,b,c,+2')
    """
    more = len(sources) - MOST_NAMES
    return ",".join([*sources[:MOST_NAMES], *([f"+{more}"] if more > 0 else [])])


def _latest(mover: Mover, source_name: str | None) -> tuple[RunStatus, ...]:
    """The newest run, of the source if one is named: once for each database that it is in."""
    for limit in LATEST:
        runs = mover.status(limit=limit)
        mine = [run for run in runs if source_name is None or source_name in run.source_names]
        if mine:
            return tuple(run for run in mine if run.run_id == mine[0].run_id)
    return ()


def _together(errors: list[SnowmeltError]) -> SnowmeltError:
    """All of them as one, which trying again may help only where it may help each."""
    if len(errors) == 1:
        return errors[0]
    kinds = (UsageError, FatalError, RetriableError)
    kind = next((kind for kind in kinds if any(isinstance(e, kind) for e in errors)), FatalError)
    return kind("\n".join(map(str, errors)))
