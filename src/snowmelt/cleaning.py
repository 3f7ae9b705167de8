"""Cleaning one database: staging tables, workers, clones at the sources, old runs, in that order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

from snowmelt.errors import SnowmeltError
from snowmelt.estimates.snapshots import snapshot_facts
from snowmelt.origin import Origins
from snowmelt.ports import QuerySource, Source
from snowmelt.postgres.upkeep import Cleaning, Left, OldRun, Unreleased


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What was removed from one database, or would be, by name."""

    database: str
    staging: tuple[str, ...]
    ended: tuple[str, ...]
    """Processes that were marked as ended."""
    workers: tuple[str, ...]
    """Processes that are forgotten."""
    replaced: tuple[str, ...]
    """Tables that were replaced and whose time is over."""
    shadows: tuple[str, ...]
    """Tables that were loaded in a target's stead, by loads that do not go on."""
    clones: tuple[str, ...]
    elsewhere: tuple[str, ...]
    """Clones that stay, with their loads: the config does not have their source, whose own config drops them."""
    loads: tuple[str, ...]
    runs: tuple[str, ...]
    left: tuple[Left, ...]
    """What should have been removed, and could not be."""


def cleaned(database: str, found: Cleaning, origins: Origins, *, dry_run: bool) -> Cleaned:
    """Remove what can be removed now, or tell what it would be."""
    staging = found.staging()
    replaced, shadows = found.replaced(), found.shadows()
    silent, gone = found.workers()
    due = [table_id for run in found.runs() for table_id in run.table_ids]
    clones = _Clones(found.unreleased(due), origins)
    left: list[Left] = []
    if not dry_run:
        staging, held = found.drop(staging)
        left += held
        left += found.drop_replaced(replaced)
        left += found.drop_shadows(shadows)
        if blocked := found.end_workers(silent, gone):
            silent, gone = {}, {}
            left += blocked
        clones.release(found)
    left += clones.left
    runs = found.runs(clones.kept)
    if not dry_run:
        runs = _removed(found, runs, clones.kept, left)
    return Cleaned(
        database=database,
        staging=staging,
        ended=tuple(silent.values()),
        workers=tuple(gone.values()),
        replaced=tuple(str(one.previous) for one in replaced),
        shadows=tuple(map(str, shadows)),
        clones=tuple(name for _, name in clones.mine),
        elsewhere=tuple(name for _, name in clones.elsewhere),
        loads=tuple(f"{target} of run {run.run_id}" for run in runs for target in run.targets),
        runs=tuple(str(run.run_id) for run in runs if run.whole),
        left=tuple(left),
    )


def _removed(
    found: Cleaning, runs: Sequence[OldRun], kept: Sequence[int], left: list[Left]
) -> tuple[OldRun, ...]:
    removed = []
    for run in runs:
        done, held = found.remove(run, kept)
        left += held
        if done is not None:
            removed.append(done)
    return tuple(removed)


class _Clones:
    """Clones that nobody reads any more: `mine` are those that this config's sources can drop."""

    def __init__(self, loads: Sequence[Unreleased], origins: Origins) -> None:
        named = [(load, snapshot_facts(load.snapshot).clone) for load in loads]
        found = [(load, name) for load, name in named if name is not None]
        self._origins = origins
        self.mine = [one for one in found if self._is_mine(one[0])]
        self.elsewhere = [one for one in found if not self._is_mine(one[0])]
        self.left: list[Left] = []
        self.kept = [load.table_id for load, _ in self.elsewhere]
        """Loads that stay, or nobody would know of their clones."""

    def _is_mine(self, load: Unreleased) -> bool:
        return self._origins.reads(load.source_name, load.connection)

    def release(self, ledger: Cleaning) -> None:
        """Drop them; one that can't be dropped stops no other."""
        released = []
        for load, name, error in self._released():
            if error is not None:
                self.left.append(Left(f"clone {name}", error.what))
                self.kept.append(load.table_id)
                continue
            released.append((load, name))
            if load.settled:
                ledger.note_released(load.table_id)
        self.mine = released

    def _released(self) -> Iterator[tuple[Unreleased, str, SnowmeltError | None]]:
        opened: dict[str, Source] = {}
        failed: dict[str, SnowmeltError] = {}
        with ExitStack() as stack:
            for load, name in self.mine:
                error = failed.get(load.source_name)
                try:
                    if error is None and load.source_name not in opened:
                        source = self._origins.open(load.source_name)()
                        opened[load.source_name] = stack.enter_context(closing(source))
                except SnowmeltError as refused:  # asked once: logins that fail may lock an account
                    failed[load.source_name] = error = refused
                if error is None:
                    error = _error_of_release(opened[load.source_name], load)
                yield load, name, error


def _error_of_release(source: Source, load: Unreleased) -> SnowmeltError | None:
    if not isinstance(source, QuerySource):
        return None
    try:
        source.release(load.source, load.snapshot)
    except SnowmeltError as error:
        return error
    return None
