"""How the keys of a config come to a mode: every combination of all levels, and what contradicts itself."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from snowmelt.choices import Mode
from snowmelt.config import Config, load_config
from snowmelt.errors import ConfigError
from snowmelt.model import TableJob

MODES = (None, "append", "insert_only", "upsert", "truncate")
SAID = (None, True, False)
LEVELS = ("table", "source", "top")
Keys = Mapping[str, Any]


def config(folder: Path, **levels: Keys) -> Config:
    """One table, with keys for `table`, `source` and `top`."""
    table = {"source": "T", **levels.get("table", {})}
    source = {"source_name": "s", "connection": "duckdb:///s.duckdb", "tables": [table]}
    document = {
        "postgres": {"database": "d"},
        "sources": [{**source, **levels.get("source", {})}],
        **levels.get("top", {}),
    }
    path = folder / "c.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return load_config(path, environ={"YES": "true"})


def job(folder: Path, **levels: Keys) -> TableJob:
    (only,) = config(folder, **levels).jobs()
    return only


def problems(folder: Path, **levels: Keys) -> list[tuple[str, str]]:
    """Where, and what is told, in the order of the places; each with a remedy."""
    with pytest.raises(ConfigError) as told:
        config(folder, **levels)
    assert all(problem.remedy for problem in told.value.problems)
    return sorted((problem.place, problem.what) for problem in told.value.problems)


# The truth table

DISAGREE = {("append", True), ("upsert", True), ("truncate", True), ("insert_only", False)}
TRUTHS: list[dict[str, Any]] = [
    {"mode": mode, "insert_only_mode": insert_only, "truncate_onstart": truncates}
    for mode, insert_only, truncates in itertools.product(MODES, SAID, SAID)
]


def contradicted(keys: Keys) -> set[str]:
    """The keys that `mode` beside them contradicts."""
    disagrees = (keys["mode"], keys["insert_only_mode"]) in DISAGREE
    stays = (keys["mode"], keys.get("truncate_onstart")) == ("truncate", False)
    others = (("insert_only_mode", disagrees), ("truncate_onstart", stays))
    return {other for other, holds in others if holds}


def without_truncation(keys: Keys) -> dict[str, Any]:
    return {name: value for name, value in keys.items() if name != "truncate_onstart"}


GOOD = [keys for keys in TRUTHS if not contradicted(keys)]
TOPS = [without_truncation(keys) for keys in GOOD if keys["truncate_onstart"] is None]


def comes_to(far_to_near: Sequence[Keys], *, unique: bool) -> tuple[Mode, bool]:
    """The rule said another way: each level in turn takes back what the farther ones said."""
    without_a_word = Mode.UPSERT if unique else Mode.APPEND
    writes, emptied_by_mode, emptied_by_key = without_a_word, False, False
    for keys in far_to_near:
        if keys["mode"] is not None:
            emptied_by_mode = keys["mode"] == "truncate"
            writes = Mode.APPEND if emptied_by_mode else Mode(keys["mode"])
        elif keys["insert_only_mode"] is not None:
            emptied_by_mode = False
            writes = Mode.INSERT_ONLY if keys["insert_only_mode"] else without_a_word
        if keys.get("truncate_onstart") is not None:
            emptied_by_key = keys["truncate_onstart"]
            emptied_by_mode = emptied_by_mode and emptied_by_key
    return writes, emptied_by_mode or emptied_by_key


@pytest.mark.parametrize("top", TOPS, ids=str)
def test_every_combination_of_all_levels(top: Keys) -> None:
    tables = [
        {"source": "T", **keys, **unique, **watermark}
        for keys in GOOD
        for unique in ({}, {"uniqueness_columns": ["id"]})
        for watermark in ({}, {"source_watermark": "at"})
    ]
    sources = [
        {"source_name": "s", "connection": "duckdb:///s.duckdb", "tables": tables, **keys}
        for keys in GOOD
    ]
    jobs = Config.model_validate({"postgres": {"database": "d"}, "sources": sources, **top}).jobs()
    said = [(source, table) for source in sources for table in tables]
    for (source, table), found in zip(said, jobs, strict=True):
        unique = "uniqueness_columns" in table
        writes, emptied = comes_to((top, source, table), unique=unique)
        incremental = "source_watermark" in table and not emptied
        assert (found.mode, found.truncate_onstart, found.incremental) == (
            writes,
            emptied,
            incremental,
        ), (top, source, table)


@pytest.mark.parametrize("level", LEVELS)
def test_every_contradiction_names_both_keys_and_all_else_loads(tmp_path: Path, level: str) -> None:
    for keys in TRUTHS if level != "top" else map(without_truncation, TRUTHS):
        levels: dict[str, dict[str, Any]] = {"table": {"uniqueness_columns": ["id"]}}
        levels[level] = {**levels.get(level, {}), **keys}
        others = contradicted(keys)
        if not others:
            found = job(tmp_path, **levels)
            assert (found.mode, found.truncate_onstart) == comes_to((keys,), unique=True), keys
            continue
        told = problems(tmp_path, **levels)
        assert {place.rpartition(".")[2] for place, _ in told} == {"mode"}
        assert sorted(what.rpartition(" is ")[0] for _, what in told) == sorted(
            f"is {keys['mode']}, and {other} beside it" for other in others
        ), keys


@pytest.mark.parametrize(
    ("source", "table", "mode", "emptied"),
    [
        ({"mode": "truncate"}, {"mode": "upsert"}, Mode.UPSERT, False),
        ({"insert_only_mode": True}, {"mode": "append"}, Mode.APPEND, False),
        ({"mode": "upsert"}, {"insert_only_mode": True}, Mode.INSERT_ONLY, False),
        ({"mode": "append"}, {"insert_only_mode": False}, Mode.UPSERT, False),
        ({"truncate_onstart": True}, {"mode": "upsert"}, Mode.UPSERT, True),
        ({"truncate_onstart": True}, {"truncate_onstart": False}, Mode.UPSERT, False),
        ({"mode": "truncate"}, {"truncate_onstart": False}, Mode.APPEND, False),
        ({"truncate_onstart": False}, {"mode": "truncate"}, Mode.APPEND, True),
        ({"mode": "truncate"}, {"insert_only_mode": True}, Mode.INSERT_ONLY, False),
    ],
)
def test_the_nearer_level_wins(
    tmp_path: Path, source: Keys, table: Keys, mode: Mode, emptied: bool
) -> None:
    found = job(tmp_path, source=source, table={"uniqueness_columns": ["id"], **table})
    assert (found.mode, found.truncate_onstart) == (mode, emptied)


# Keys that lack another


@pytest.mark.parametrize("level", LEVELS)
def test_an_upsert_without_a_key_is_told_at_the_table(tmp_path: Path, level: str) -> None:
    told = problems(tmp_path, **{level: {"mode": "upsert"}})
    place = "sources[0].tables[0].uniqueness_columns"
    assert told == [(place, "is missing, and mode upsert finds rows by it")]


def test_the_watermark_of_the_target_is_that_of_the_source_unless_named(tmp_path: Path) -> None:
    assert job(tmp_path, table={"source_watermark": "at"}).target_watermark == "at"
    both = {"source_watermark": "at", "target_watermark": "loaded"}
    assert job(tmp_path, table=both).target_watermark == "loaded"
    told = problems(tmp_path, table={"target_watermark": "at"})
    place = "sources[0].tables[0].target_watermark"
    assert told == [(place, "stands without source_watermark")]


def test_contradictions_of_all_levels_are_told_at_once(tmp_path: Path) -> None:
    told = problems(
        tmp_path,
        # From a variable, which is text until it is read.
        top={"mode": "append", "insert_only_mode": "${YES}"},
        source={"mode": "insert_only", "insert_only_mode": False},
        table={"mode": "truncate", "truncate_onstart": False, "target_watermark": "at"},
    )
    assert told == [
        ("mode", "is append, and insert_only_mode beside it is true"),
        ("sources[0].mode", "is insert_only, and insert_only_mode beside it is false"),
        ("sources[0].tables[0].mode", "is truncate, and truncate_onstart beside it is false"),
        ("sources[0].tables[0].target_watermark", "stands without source_watermark"),
    ]


@pytest.mark.parametrize(
    ("table", "place"),
    [
        ({"mode": "upsrt"}, "mode"),
        ({"insert_only_mode": "perhaps"}, "insert_only_mode"),
        ({"uniqueness_columns": "id"}, "uniqueness_columns"),
        ({"uniqueness_columns": [7]}, "uniqueness_columns[0]"),
        (
            {"uniqueness_columns": ["id"], "source_watermark": 7, "target_watermark": "at"},
            "source_watermark",
        ),
    ],
)
def test_nothing_follows_from_a_key_that_is_wrong_itself(
    tmp_path: Path, table: Keys, place: str
) -> None:
    told = problems(tmp_path, top={"mode": "upsert"}, table=table)
    assert [where for where, _ in told] == [f"sources[0].tables[0].{place}"]


def test_tables_that_do_not_run_are_not_looked_at(tmp_path: Path) -> None:
    asleep = {"enabled": False, "mode": "append", "insert_only_mode": True}
    assert config(tmp_path, top={"mode": "upsert"}, table=asleep).jobs() == ()


NEW = {"source_watermark": "at"}
EMPTIED = {"source_watermark": "at", "truncate_onstart": True}


@pytest.mark.parametrize(
    ("levels", "warned"),
    [
        ({"table": {"overlap_seconds": 9}}, ["sources[0].tables[0]."]),
        ({"table": {"overlap_seconds": 9, **EMPTIED}}, ["sources[0].tables[0]."]),
        ({"table": {"overlap_seconds": 9, **NEW}}, []),
        ({"source": {"overlap_seconds": 9}}, ["sources[0]."]),
        ({"source": {"overlap_seconds": 9}, "table": NEW}, []),
        ({"top": {"overlap_seconds": 9}, "table": EMPTIED}, [""]),
        ({"top": {"overlap_seconds": 9, "mode": "truncate"}, "table": NEW}, [""]),
        ({"top": {"overlap_seconds": 9}, "table": NEW}, []),
        ({"top": {"overlap_seconds": 9}, "source": {"overlap_seconds": 9}}, ["sources[0]."]),
    ],
)
def test_an_overlap_that_no_incremental_load_takes_is_warned_of(
    tmp_path: Path, levels: dict[str, Keys], warned: list[str]
) -> None:
    found = config(tmp_path, **levels)
    places = [warning.partition(" ")[0] for warning in found.warnings]
    assert places == [f"{place}overlap_seconds" for place in warned]
    assert all("loaded incrementally; remove it" in warning for warning in found.warnings)


# The guide

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "modes.md"
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in GUIDE.read_text(encoding="utf-8").splitlines()
    if line.startswith("|")
]
TRUTH = [row for row in ROWS if row[0] in ("true", "false")]


def test_the_guide_has_every_combination_of_the_old_keys() -> None:
    told = [tuple(row[:4]) for row in TRUTH]
    words = (("true", "false"), ("yes", "no"), ("true", "false"), ("yes", "no"))
    assert sorted(told) == sorted(itertools.product(*words))


def test_the_guide_has_every_mode() -> None:
    assert {f"`{mode}`" for mode in MODES if mode} <= {row[0] for row in ROWS}


@pytest.mark.parametrize("row", TRUTH, ids=" ".join)
@pytest.mark.parametrize("level", ["table", "source"])
def test_the_guide_says_what_the_code_does(tmp_path: Path, level: str, row: list[str]) -> None:
    insert_only, unique, truncates, watermark, mode, emptied, incremental = row
    table: dict[str, Any] = {"uniqueness_columns": ["id"]} if unique == "yes" else {}
    table |= NEW if watermark == "yes" else {}
    keys = {"insert_only_mode": insert_only == "true", "truncate_onstart": truncates == "true"}
    # A key that is left out counts as false.
    for said in (keys, {name: value for name, value in keys.items() if value}):
        levels: dict[str, Keys] = {"table": {**table, **said}}
        if level == "source":
            levels = {"table": table, "source": said}
        found = job(tmp_path, **levels)
        assert found.mode == mode
        assert found.truncate_onstart is (emptied == "yes")
        assert found.incremental is (incremental == "yes")
