"""The commands. Each loads a config, asks the Mover, and shows what it answers."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated
from uuid import UUID

import typer

from snowmelt.app import Mover
from snowmelt.cli import plans, show
from snowmelt.cli.console import configure_logging, document, err, messages, out
from snowmelt.cli.options import (
    AllowTruncate,
    BatchSize,
    ConfigPath,
    Debug,
    Details,
    Join,
    Json,
    NoResume,
    NoValues,
    Quiet,
    Restart,
    ResumeAge,
    ResumeRun,
    RunId,
    Sources,
    StopAfter,
    Tables,
    Threads,
    Verbose,
    app,
    load,
    window,
)
from snowmelt.cli.progress import shown
from snowmelt.config import json_schema
from snowmelt.gauges import Gauges
from snowmelt.plan import Plan, Refusal
from snowmelt.plan_document import plan_json
from snowmelt.report import report_json, status_json
from snowmelt.status import PARTIAL
from snowmelt.stop import Stop
from snowmelt.survey import Choice


@app.command()
def check(
    config: ConfigPath = None,
    sources: Sources = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the config's JSON Schema instead.")
    ] = False,
    no_values: NoValues = False,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Validate the config, try each connection, and look at each table and whether its values fit."""
    configure_logging(verbose, quiet, debug)
    if schema:
        document(json_schema())
        return
    with messages(), Mover(load(config, sources)) as mover:
        tried = [(what, None if error is None else str(error)) for what, error in mover.check()]
        wrong = [(what, error) for what, error in tried if error]
        refusals = [] if wrong else _refusals(mover.plan(Choice(values=not no_values)))
        if json:
            document(
                {
                    "ok": not wrong and not refusals,
                    "warnings": list(mover.config.warnings),
                    "connections": [{"what": what, "error": error} for what, error in tried],
                    "refusals": [
                        {"table": table, "what": refusal.what, "remedy": refusal.remedy}
                        for table, refusal in refusals
                    ],
                }
            )
        else:
            show.checked(out, mover.config.warnings, tried, refusals)
        if wrong or refusals:
            raise typer.Exit(1)


@app.command()
def plan(
    sources: Sources = None,
    config: ConfigPath = None,
    table: Tables = None,
    threads: Threads = None,
    batch_size: BatchSize = None,
    no_resume: NoResume = False,
    resume_run_id: ResumeRun = None,
    resume_max_age: ResumeAge = None,
    restart_table: Restart = None,
    allow_truncate: AllowTruncate = False,
    no_values: NoValues = False,
    json: Json = False,
    verbose: Details = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """A dry run: what would happen to each table, how long it would take, and what there must be room for.

    Nothing is changed anywhere. Exits with 1 if something is refused.
    """
    configure_logging(verbose, quiet, debug)
    choice = _choice(no_resume, resume_run_id, restart_table, allow_truncate)
    choice = dataclasses.replace(choice, values=not no_values)
    with (
        messages(),
        Mover(load(config, sources, table, threads, batch_size, resume_max_age)) as mover,
    ):
        planned = mover.plan(choice)
        if json:
            document(plan_json(planned))
        else:
            plans.planned(out, planned, chosen=bool(table), details=verbose)
        if planned.refused:
            raise typer.Exit(1)


@app.command()
def migrate(
    sources: Sources = None,
    config: ConfigPath = None,
    table: Tables = None,
    threads: Threads = None,
    batch_size: BatchSize = None,
    no_resume: NoResume = False,
    resume_run_id: ResumeRun = None,
    resume_max_age: ResumeAge = None,
    restart_table: Restart = None,
    allow_truncate: AllowTruncate = False,
    join: Join = False,
    stop_after: StopAfter = None,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run, or resume the run that was interrupted.

    Exits with 0 when done, 1 when a table failed, 3 when stopped: run again to resume.
    """
    configure_logging(verbose, quiet, debug)
    choice = _choice(no_resume, resume_run_id, restart_table, allow_truncate, join)
    with messages():
        settings = load(config, sources, table, threads, batch_size, resume_max_age)
        deadline = window(stop_after)
        if deadline is not None:
            choice = dataclasses.replace(choice, deadline_seconds=deadline.working_seconds)
            settings = settings.within(deadline.working_seconds)
        for warning in settings.warnings:
            err.print(f"warning: {warning}", markup=False)
        stop, gauges = Stop(), Gauges()
        with Mover(settings) as mover, _stopping(stop, mover):
            planned = mover.plan(choice)
            if not (quiet or planned.refused):
                word = "resuming" if planned.resumed else "starting"
                err.print(f"{word} run {planned.run_id}", markup=False)
            with shown(gauges, err, quiet=quiet or json):
                report = mover.run(
                    planned, choice=choice, observer=gauges, stop=stop, deadline=deadline
                )
        if json:
            document(report_json(report))
        else:
            show.reported(out, report)
        raise typer.Exit(report.exit_code)


@app.command()
def status(
    run_id: Annotated[UUID | None, typer.Argument(help="The run; the latest if left out.")] = None,
    config: ConfigPath = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """One run, table by table."""
    configure_logging(False, False, debug)
    with messages(), Mover(load(config)) as mover:
        found = mover.status(run_id, limit=1) if run_id is None else mover.status(run_id)
        if json:
            document([status_json(run) for run in found])
        else:
            show.statuses(out, found)


@app.command()
def runs(
    config: ConfigPath = None,
    limit: Annotated[int, typer.Option(help="How many, newest first.", min=1)] = 20,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """The latest runs."""
    configure_logging(False, False, debug)
    with messages(), Mover(load(config)) as mover:
        found = mover.status(limit=limit)
        if json:
            document([status_json(run) for run in found])
        else:
            show.listed(out, found)


@app.command()
def abort(
    run_id: RunId, config: ConfigPath = None, json: Json = False, debug: Debug = False
) -> None:
    """End a run for good: its workers stop, and it is never resumed. Rows that were committed stay."""
    configure_logging(False, False, debug)
    with messages(), Mover(load(config)) as mover:
        aborted = mover.abort(run_id)
        if json:
            document({"run_id": str(run_id), "aborted": aborted})
        else:
            out.print(f"run {run_id} {'is aborted' if aborted else 'had ended already'}")


@app.command()
def demo(
    rows: Annotated[int, typer.Option(help="Rows of the generated table.", min=1_000)] = 3_000_000,
    folder: Annotated[
        Path | None, typer.Option(help="Keep the files here; else they are removed at the end.")
    ] = None,
    debug: Debug = False,
) -> None:
    """A real PostgreSQL, a generated table, a kill -9 in the middle, a resume, and a proof."""
    configure_logging(False, False, debug)
    try:
        from snowmelt.demo.show import run_demo
    except ImportError as error:
        raise typer.BadParameter(
            f"{error.name} is not installed; run: pip install 'snowmelt[demo]'"
        ) from error
    with messages():
        raise typer.Exit(run_demo(out, rows, folder))


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point. Exit codes: 0 done, 1 failed, 2 usage or config error, 3 partial."""
    app(args=list(arguments) if arguments is not None else None)


def _refusals(plan: Plan) -> list[tuple[str | None, Refusal]]:
    """All that keeps a run from being started; None stands for all tables."""
    single = [(str(table.job), refusal) for table, refusal in plan.refusals]
    return [*((None, refusal) for refusal in plan.run_refusals), *single]


def _choice(
    no_resume: bool,
    run_id: UUID | None,
    restart: list[str] | None,
    allow_truncate: bool,
    join: bool = False,
) -> Choice:
    if no_resume and run_id:
        raise typer.BadParameter("--no-resume and --resume-run-id exclude each other")
    if join and (no_resume or restart):
        raise typer.BadParameter(
            "--join takes part in a run as it is: leave --no-resume and --restart-table out"
        )
    return Choice(
        not no_resume, run_id, tuple(restart or ()), allow_truncate=allow_truncate, join=join
    )


@contextmanager
def _stopping(stop: Stop, mover: Mover) -> Iterator[None]:
    """SIGINT and SIGTERM: the first stops after the chunks in flight, the second at once."""

    def heard(number: int, _frame: FrameType | None) -> None:
        if stop.event.is_set():
            mover.let_go()
            os._exit(PARTIAL)
        stop(signal.Signals(number).name)
        err.print("stopping after the chunks in flight; once more stops at once")

    before = {number: signal.signal(number, heard) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
