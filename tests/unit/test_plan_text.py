"""What a plan says in words: every fact is there, and what is not known is called so."""

from __future__ import annotations

import doctest
import re
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from snowmelt import formats, plan_text
from snowmelt.choices import Snapshot
from snowmelt.cli import plans
from snowmelt.estimates import chunk_sizes
from snowmelt.estimates.disk import DiskNeed
from snowmelt.estimates.estimate import Circumstances, SourceKind, estimate
from snowmelt.estimates.memory import Memory, MemoryLimit
from snowmelt.estimates.snapshots import snapshot_facts
from snowmelt.model import Identity, TargetState
from snowmelt.plan import Plan, Refusal, TablePlan
from snowmelt.plan_text import Tone, disk_fact, memory_fact, run_facts, table_facts
from snowmelt.preflight.surroundings import ForeignKey, TargetSurroundings, Trigger
from snowmelt.sources.snowflake.snapshot import ReadAs, TableSnapshot
from tests.unit.planned import FLOW, one_query, resumed, table_plan

MOMENT = datetime(2024, 5, 1, 12, 30, tzinfo=UTC)
READ_AS = ReadAs("LOADER", "", "TABLE", (), ())
FIRES = TargetSurroundings(
    "public.t",
    "loader",
    exists=True,
    triggers=(Trigger("audit", "public.t", "BEFORE", True, "origin", True),),
    foreign_keys=(ForeignKey("t_ref", "public.t", "public.other", True),),
)
SNOWFLAKE = Circumstances(sources={"s": SourceKind(FLOW, on_warehouse=True)})


def _plan(*tables: TablePlan, **more: object) -> Plan:
    who = Identity("config", "execution", ("s",))
    return Plan(UUID(int=7), who, False, tables, **more)  # type: ignore[arg-type]


def _facts(table: TablePlan, around: Circumstances = SNOWFLAKE) -> dict[str, str]:
    """By label; several of one label, a line each."""
    found: dict[str, str] = {}
    for fact in table_facts(table, estimate([table], around).tables[0]):
        found[fact.label] = (
            f"{found[fact.label]}\n{fact.text}" if fact.label in found else fact.text
        )
    return found


@pytest.mark.parametrize("module", [formats, chunk_sizes, plan_text], ids=lambda m: m.__name__)
def test_the_examples_in_the_docstrings(module: object) -> None:
    assert doctest.testmod(module).attempted  # type: ignore[arg-type]
    assert not doctest.testmod(module).failed  # type: ignore[arg-type]


@given(st.floats(0, 1e9), st.floats(0, 1e9))
def test_a_range_tells_both_its_ends(one: float, other: float) -> None:
    low, high = sorted((one, other))
    text = formats.span(low, high)
    assert text.endswith(formats.duration(high))
    assert text.startswith(formats.duration(low).split()[0])
    assert (" to " in text) == (formats.duration(low) != formats.duration(high))


@given(st.integers(0, 10**15), st.integers(0, 10**15))
def test_sizes_read_in_their_order(one: int, other: int) -> None:
    powers = {"bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}

    def read(text: str) -> float:
        number, unit = text.split()
        return float(number.replace(",", "")) * powers[unit]

    low, high = sorted((one, other))
    assert read(formats.size(low)) <= read(formats.size(high))
    assert read(formats.size(high)) == pytest.approx(high, rel=0.051, abs=0.5)


def test_a_new_table_in_all_its_facts() -> None:
    snapshot = TableSnapshot(Snapshot.TIME_TRAVEL, MOMENT, None, READ_AS).to_json()
    table = table_plan([100, 200, 5_000], snapshot=snapshot, warehouse="WH")
    facts = _facts(replace(table, relation=replace(table.relation, retention_hours=24)))

    assert facts["strategy"] == "DateRangeStrategy: ranges of at"
    assert facts["rows"] == "5,300 rows, about 329 kB at 62 bytes a row"
    assert facts["chunks"].startswith("3 chunks: smallest 100, median 200, largest 5,000 rows  ")
    assert facts["chunks"].count("█") == 3
    assert "with 3 workers" in facts["time"]
    assert facts["warehouse"].startswith("WH works ")
    assert "X-Small 0.017, Small 0.033, Medium 0.067, Large 0.13" in facts["warehouse"]
    for part in ("of rows", "of indexes", "of WAL"):
        assert part in facts["disk"]
    assert facts["snapshot"] == "Time Travel of 2024-05-01 12:30 UTC"
    assert facts["retention"] == "24 hours, until 2024-05-02 12:30 UTC"
    assert facts["target"] == (
        'public.T in db is created with 3 columns, and with its primary key ("id") at the end'
    )
    assert facts["columns"] == '"id" bigint NOT NULL, "at" timestamp, "note" text'
    assert facts["mode"] == "append: nobody looks whether a row is there"
    assert facts["truncation"] == "keep (the target is empty: there is nothing to truncate)"


def test_what_fires_is_told() -> None:
    facts = _facts(replace(table_plan([1]), surroundings=FIRES, create=False))
    assert "1 trigger fires for each row: audit" in facts["target"]
    assert "foreign keys are checked for each row: t_ref to public.other" in facts["target"]
    quiet = TargetSurroundings("public.t", "loader", exists=True)
    facts = _facts(replace(table_plan([1]), surroundings=quiet, create=False))
    assert "no trigger fires, and no foreign key is checked" in facts["target"]
    # Where nobody looked, nothing is said of it.
    assert "trigger" not in _facts(table_plan([1]))["target"]


def test_a_resumed_table_tells_what_is_left() -> None:
    facts = _facts(resumed(1_000, 400, 10, 4))
    assert facts["rows"].startswith("600 rows left")
    assert facts["chunks"] == "6 chunks left of 10"
    assert _facts(resumed(1_000, 1_000, 10, 10))["time"] == "nothing to load"


def test_one_query_has_its_chunks_later() -> None:
    told = _facts(one_query(1_000, 100))["chunks"]
    assert told.startswith("the query runs once")
    assert told.endswith("about 10 chunks")


def test_a_source_s_own_words_on_its_snapshot_are_not_said_twice() -> None:
    snapshot = TableSnapshot(Snapshot.TIME_TRAVEL, MOMENT, None, READ_AS).to_json()
    table = replace(table_plan([1], snapshot=snapshot), notes=("snapshot: as of then", "a note"))
    facts = _facts(table)
    assert facts["snapshot"] == "as of then"
    assert facts["note"] == "a note"


def test_rows_that_nothing_holds_still_catch_the_eye() -> None:
    snapshot = TableSnapshot(Snapshot.NONE, MOMENT, None, READ_AS).to_json()
    table = table_plan([None], snapshot=snapshot)
    facts = table_facts(table, estimate([table], SNOWFLAKE).tables[0])
    (told,) = (fact for fact in facts if fact.label == "snapshot")
    assert told.tone is Tone.WARNING
    assert "NOT exact" in told.text
    assert _facts(table)["rows"] == "not counted"


def test_snapshots_are_read_as_they_are_written() -> None:
    for kind in Snapshot:
        told = TableSnapshot(kind, MOMENT, None, READ_AS, ("DB", "S", "C")).to_json()
        known = snapshot_facts(told)
        assert (known.kind, known.moment, known.clone) == (kind.value, MOMENT, "DB.S.C")
    assert snapshot_facts({"something": "else"}) == snapshot_facts({})


def test_little_memory_says_how_many_workers_there_is_room_for() -> None:
    memory = Memory(
        200_000_000, 100_000_000, 8, limit=MemoryLimit(600_000_000, "the container's limit")
    )
    told = memory_fact(memory)
    assert told.tone is Tone.WARNING
    assert "1.0 GB: 200 MB, and 8 workers x 100 MB" in told.text
    assert told.text.endswith(
        "more than 600 MB (the container's limit): about 4 workers at a time, the others wait for memory"
    )
    assert memory_fact(replace(memory, workers=4)).tone is Tone.PLAIN
    none = memory_fact(replace(memory, base=600_000_000))
    assert "about 1 worker at a time" in none.text
    assert "not known" in memory_fact(replace(memory, limit=None)).text


def test_a_disk_that_is_too_small_is_told() -> None:
    assert disk_fact(DiskNeed(100, 100, 200)).tone is Tone.PLAIN
    assert "recycles its WAL" in disk_fact(DiskNeed(100, 100, 199)).text
    assert "TOO MUCH" in disk_fact(DiskNeed(100, 100, 99)).text
    assert "not known" in disk_fact(DiskNeed(100, 100)).text


def test_the_run_tells_what_the_sum_leaves_out() -> None:
    tables = [table_plan([None]), table_plan([10, 10], threads=8)]
    around = replace(SNOWFLAKE, without_ledger=("db",))
    facts = {fact.label: fact.text for fact in run_facts(estimate(tables, around), around, ("so",))}
    assert facts["in all"].startswith("2 tables, 20 rows to load")
    assert facts["in all"].endswith("1 table is not counted and not in here")
    assert "3 workers, as there are no chunks for all 8" in facts["time"]
    assert facts["ledger"] == "the schema migration_status is created in db"
    assert facts["note"] == "so"


def test_a_plan_prints_all_tables_and_all_problems() -> None:
    refusal = Refusal("the target has rows", "TRUNCATE it")
    plan = _plan(
        table_plan([10], name="A"),
        replace(table_plan(name="B"), refusals=(refusal,)),
        warnings=("old key",),
        run_refusals=(Refusal("the server takes no writes", "connect to the primary"),),
    )
    text = str(plan)
    assert text.startswith(f"new run {plan.run_id}\nwarning: old key\ns: DB.S.A → public.A\n")
    assert "REFUSED     the target has rows\n      → TRUNCATE it" in text
    assert "REFUSED     the server takes no writes\n      → connect to the primary" in text
    assert plan.refused
    assert not _plan(table_plan([10])).refused


def _shown(plan: Plan, width: int, *, terminal: bool, **more: bool) -> str:
    console = Console(
        file=StringIO(),
        width=width,
        force_terminal=terminal,
        color_system=None,
        highlight=False,
        soft_wrap=True,
        legacy_windows=False,
    )
    plans.planned(console, plan, **more)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def _many(count: int) -> list[TablePlan]:
    note = ("the same for all",)
    tables = [replace(table_plan([10, 500], name=f"表_{n}"), notes=note) for n in range(count)]
    return [*tables, replace(table_plan(name="bad"), refusals=(Refusal("no", "do"),))]


@pytest.mark.parametrize("terminal", [True, False])
def test_many_tables_get_a_line_each(terminal: bool) -> None:
    plan = _plan(*_many(50), circumstances=SNOWFLAKE)
    shown = _shown(plan, 100, terminal=terminal)

    assert len([line for line in shown.splitlines() if line.startswith("public.表_")]) == 50
    assert shown.count("the same for all") == 1
    assert "50 tables: the same for all" in shown
    assert "strategy" not in shown
    assert shown.index("all tables") < shown.index("nothing would be started:")
    assert shown.rstrip().endswith("s: DB.S.bad → public.bad: no\n  → do")


@pytest.mark.parametrize("more", [{"chosen": True}, {"details": True}])
def test_tables_that_were_asked_for_are_told_whole(more: dict[str, bool]) -> None:
    shown = _shown(_plan(*_many(5), circumstances=SNOWFLAKE), 100, terminal=False, **more)
    assert shown.count("strategy") == 6
    assert ('"at" timestamp' in shown) == ("details" in more)
    assert bool(re.search(r" 10 to \d+ rows: 1 chunk$", shown, re.MULTILINE)) == ("details" in more)


def test_a_terminal_gets_lines_that_it_is_wide_enough_for() -> None:
    plan = _plan(replace(table_plan([10]), reason="long " * 60), circumstances=SNOWFLAKE)
    folded = _shown(plan, 80, terminal=True)
    assert all(len(line) <= 80 for line in folded.splitlines())
    whole = _shown(plan, 80, terminal=False)
    assert ("long " * 60).strip() in whole


def test_nothing_but_text_where_there_is_no_terminal() -> None:
    for plan in (_plan(*_many(2)), _plan(*_many(9))):
        assert "\x1b" not in _shown(plan, 100, terminal=False)


def test_the_target_that_exists_is_not_said_to_be_created() -> None:
    there = replace(table_plan([1]), create=False, target=TargetState(True))
    assert "created" not in _facts(there)["target"]
