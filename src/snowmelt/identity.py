"""Who a run is, and what a table's load is: the hashes that a resume goes by.

Only what decides which rows come from where and go where is hashed. Secrets and tuning are in no
hash, so rotating a password or changing a batch size never orphans a run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from snowmelt.choices import ColumnNames, Mode, NewColumns, NulCharacters, Snapshot
from snowmelt.config import Config
from snowmelt.model import Identity, TableJob

_TABLE_VERSION = "v1"
"""Raised when the same table is hashed in another way; older hashes then count as another table."""


def identity(config: Config) -> Identity:
    """The identity of a run over all sources of a config.

    `execution_hash` is MD5 of `{config_hash, source_names}`, as in the running system;
    `config_hash` knows only the sources that run, so that a change of another one is none of this
    run's business.
    """
    names = tuple(sorted(source.source_name for source in config.sources))
    config_hash = _md5(sorted(_ways(config), key=_canonical))
    execution_hash = _md5({"config_hash": config_hash, "source_names": names})
    return Identity(config_hash, execution_hash, names)


def table_facts(job: TableJob, connection: str, columns: Sequence[str] = ()) -> dict[str, object]:
    """What decides a table's rows, ready for JSON; `connection` is `Config.origin` of its source.

    Whatever is empty, false or None is left out: an option that a later release adds, with such a
    default, leaves the facts and hashes of older ledgers as they are.
    """
    facts = {
        "connection": connection,
        "source": {
            "database": job.source.database,
            "schema": job.source.schema,
            "name": job.source.name,
            "filter": job.source.filter,
        },
        "target": {
            "database": job.target.database,
            "schema": job.target.schema,
            "name": job.target.name,
        },
        "columns": list(columns),
        "snapshot": None
        if job.source.snapshot is Snapshot.TIME_TRAVEL
        else job.source.snapshot.value,
        "keys": [{"column": key.column, "type": key.type and key.type.value} for key in job.keys],
        "uniqueness_columns": list(job.uniqueness_columns),
        "source_watermark": job.source_watermark,
        "target_watermark": job.target_watermark,
        "truncate_onstart": job.truncate_onstart,
        "replace": job.replace,
        "mode": None if job.mode is Mode.APPEND else job.mode.value,
        "nul_characters": None
        if job.nul_characters is NulCharacters.FAIL
        else job.nul_characters.value,
        "column_names": None if job.column_names is ColumnNames.EXACT else job.column_names.value,
        "new_columns": None if job.new_columns is NewColumns.AUTO else job.new_columns.value,
    }
    return {name: _without_defaults(fact) for name, fact in facts.items() if fact}


def table_hash(facts: Mapping[str, object]) -> str:
    """`v1:` and the MD5 of a table's facts."""
    return f"{_TABLE_VERSION}:{_md5(facts)}"


def _ways(config: Config) -> list[dict[str, str | None]]:
    """From where to where each source goes."""
    return [
        {
            "source_name": source.source_name,
            "connection": config.origin(source),
            "source_database": config.source_database(source),
            "source_schema": config.source_schema(source),
            "target_database": config.target_database(source),
            "target_schema": source.target_pg_schema,
        }
        for source in config.sources
    ]


def _without_defaults(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_defaults(item) for key, item in value.items() if item}
    if isinstance(value, list):
        return [_without_defaults(item) for item in value]
    return value


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _md5(value: object) -> str:
    return hashlib.md5(_canonical(value).encode(), usedforsecurity=False).hexdigest()
