"""Commands for what is done to ledgers between runs."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from snowmelt.app import Mover
from snowmelt.cli import monitoring as ledger
from snowmelt.cli import show
from snowmelt.cli.console import configure_logging, document, messages, out
from snowmelt.cli.options import ConfigPath, Debug, Json, app, load
from snowmelt.postgres.monitoring import question, questions
from snowmelt.refusal import Refusal
from snowmelt.report import adopted_json


@app.command()
def adopt(
    table: Annotated[
        list[str], typer.Option("--table", help="This table; may be given repeatedly.")
    ],
    config: ConfigPath = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Set the first mark of a table that was loaded by other means: its incremental loads begin at the newest row
    that the target has.

    Exits with 1 if a table is not adopted; what it had stays.
    """
    configure_logging(False, False, debug)
    with messages(), Mover(load(config, tables=table)) as mover:
        done = mover.upkeep.adopt()
        if json:
            document(adopted_json(done))
        else:
            show.adopted(out, done)
        if any(isinstance(outcome, Refusal) for _, outcome in done):
            raise typer.Exit(1)


@app.command()
def cleanup(
    older_than: Annotated[
        int | None,
        typer.Option(
            help="Days after their end that runs stay in the ledger; over retention_days.", min=0
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell, and remove nothing.")] = False,
    config: ConfigPath = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Remove what ended runs have left: staging tables, clones, workers that are gone, old runs.

    The newest load of each table stays, and so does what may still be resumed. Exits with 1 if something could not
    be removed.
    """
    configure_logging(False, False, debug)
    with messages(), Mover(load(config)) as mover:
        done = mover.upkeep.cleanup(older_than, dry_run=dry_run)
        if json:
            document([dataclasses.asdict(one) for one in done])
        else:
            show.cleaned(out, done, dry_run=dry_run)
        if any(one.left for one in done):
            raise typer.Exit(1)


@app.command()
def monitoring(
    name: Annotated[
        str | None, typer.Argument(help="The question; all are listed if it is left out.")
    ] = None,
    config: ConfigPath = None,
    sql: Annotated[bool, typer.Option("--sql", help="Print the statement instead.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Ask the ledger: progress, stuck and failed chunks, throughput, comparison of runs, marks."""
    configure_logging(False, False, debug)
    with messages():
        if name is None:
            ledger.listed(out, questions().values())
        elif sql:
            out.print(question(name).statement, markup=False, highlight=False, soft_wrap=True)
        else:
            question(name)
            with Mover(load(config)) as mover:
                answers = mover.upkeep.ask(name)
            if json:
                document(ledger.answers_json(answers))
            else:
                ledger.answered(out, answers)
