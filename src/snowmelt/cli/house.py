"""Commands for what surrounds the rows of targets: replaced tables, dropped indexes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console

from snowmelt.app import Mover
from snowmelt.cli.console import configure_logging, document, messages, out
from snowmelt.cli.options import ConfigPath, Debug, Json, Tables, Threads, app, load
from snowmelt.formats import utc
from snowmelt.postgres.restoring import Missing, Restored
from snowmelt.postgres.rollback import Kept
from snowmelt.restoration import all_back

indexes = typer.Typer(no_args_is_help=True, help="Indexes that loads drop and build again.")
app.add_typer(indexes, name="indexes")


@app.command()
def rollback(
    table: Annotated[
        str | None,
        typer.Argument(help="The table, by source or target; without it what is kept is listed."),
    ] = None,
    config: ConfigPath = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Put the table that mode replace has replaced last back in its place.

    What it held since is kept in the other's stead until its time is over.
    """
    configure_logging(False, False, debug)
    with messages(), Mover(load(config)) as mover:
        if table is None:
            kept = mover.upkeep.kept()
            document([_kept_json(one) for one in kept]) if json else _listed(out, kept)
            return
        done = mover.upkeep.rollback(table)
        if json:
            document(_kept_json(done))
        else:
            held = f"; what it held since is in {done.previous} until {utc(done.keep_until)}"
            out.print(
                f"{done.target} is the table again that was replaced {utc(done.replaced_at)}"
                f"{'' if done.is_alone else held}",
                markup=False,
            )


@indexes.command()
def missing(config: ConfigPath = None, json: Json = False, debug: Debug = False) -> None:
    """List the indexes that loads have dropped and that are not back."""
    configure_logging(False, False, debug)
    with messages(), Mover(load(config)) as mover:
        found = mover.upkeep.missing()
        if json:
            document([_missing_json(one) for one in found])
            return
        if not found:
            out.print("no index is missing")
        for one in found:
            used = ", which a live worker loads" if one.in_use else ""
            out.print(f"{one.target}{used}: {', '.join(one.names)}", markup=False)


@indexes.command()
def restore(
    table: Tables = None,
    threads: Threads = None,
    config: ConfigPath = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Build the indexes again that loads have dropped, as many side by side as there are threads.

    Exits with 1 if one could not be built; the others are.
    """
    configure_logging(False, False, debug)
    with messages(), Mover(load(config)) as mover:
        done = mover.upkeep.restore(table or (), threads or mover.config.parallel_threads)
        if json:
            document([_restored_json(one) for one in done])
        else:
            _restored(out, done)
        if not all_back(done):
            raise typer.Exit(1)


@indexes.command()
def forget(
    table: Annotated[str, typer.Argument(help="The table, by source or target.")],
    index: Annotated[
        list[str] | None, typer.Option("--index", help="Only this index; may be repeated.")
    ] = None,
    config: ConfigPath = None,
    debug: Debug = False,
) -> None:
    """Forget indexes that loads have dropped and that are not to come back. They are told a last time."""
    configure_logging(False, False, debug)
    with messages(), Mover(load(config)) as mover:
        gone = mover.upkeep.give_up(table, index or ())
        if not gone:
            out.print("no index is missing")
        for one in gone:
            what = one.whole_constraint or f"{'UNIQUE ' if one.is_unique else ''}USING {one.using}"
            out.print(f"forgotten: {one.name} {what}", markup=False)


def _listed(console: Console, kept: Sequence[Kept]) -> None:
    if not kept:
        console.print("no replaced table is kept")
    for one in kept:
        rolled = f", rolled back {utc(one.rolled_back_at)}" if one.rolled_back_at else ""
        console.print(
            f"{one.target}: replaced {utc(one.replaced_at)}{rolled}, kept as {one.previous} "
            f"until {utc(one.keep_until)}",
            markup=False,
        )


def _restored(console: Console, done: Sequence[Restored]) -> None:
    if not done:
        console.print("no index is missing")
    for one in done:
        for name in one.back:
            console.print(f"{one.target}: {name} is built", markup=False)
        for name, why in one.failed:
            console.print(f"{one.target}: {name} is not built: {why}", style="red", markup=False)
        for name in one.left:
            console.print(f"{one.target}: {name} is left", style="red", markup=False)


def _kept_json(one: Kept) -> dict[str, object]:
    return {
        "target": str(one.target),
        "database": one.target.database,
        "kept_as": str(one.previous),
        "replaced_at": one.replaced_at.isoformat(),
        "keep_until": one.keep_until.isoformat(),
        "rolled_back_at": one.rolled_back_at.isoformat() if one.rolled_back_at else None,
    }


def _missing_json(one: Missing) -> dict[str, object]:
    return {
        "target": str(one.target),
        "database": one.target.database,
        "indexes": list(one.names),
        "in_use": one.in_use,
    }


def _restored_json(one: Restored) -> dict[str, object]:
    told = dataclasses.asdict(one)
    return {
        "target": str(one.target),
        "database": one.target.database,
        "back": told["back"],
        "failed": dict(one.failed),
        "left": told["left"],
    }
