"""Which table is meant: of a config, of a ledger, on a command line."""

from __future__ import annotations

from collections.abc import Sequence

from snowmelt.model import StoredLoad, TableJob


def place_of(source_name: str, of: StoredLoad | TableJob) -> tuple[str, ...]:
    """What tells two tables of a run apart."""
    return (source_name, of.source.database, of.source.schema, of.source.name, str(of.target))


def is_same(load: StoredLoad, job: TableJob) -> bool:
    return place_of(load.source_name, load) == place_of(job.source_name, job)


def names_of(job: TableJob) -> set[str]:
    """What the command line may call a table."""
    return {job.source.name, job.target.name, str(job.target)}


def is_named(job: TableJob, names: Sequence[str]) -> bool:
    return bool(names_of(job) & set(names))
