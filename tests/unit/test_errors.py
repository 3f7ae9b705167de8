"""Errors say what, where and what to do, and cross process borders whole."""

from __future__ import annotations

import copy
import inspect
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from snowmelt import errors
from snowmelt.errors import (
    ConfigError,
    Problem,
    SnowmeltError,
    TableError,
    ValueDoesNotFit,
)

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, SnowmeltError)
]
PLAIN = [kind for kind in KINDS if kind is not ConfigError]
FIELDS = {
    "remedy": "widen the column",
    "table": "public.visits",
    "chunk": 0,
    "column": '"Cost"',
    "key": '"Visit Id" = 7',
    "sqlstate": "22003",
}
PROBLEMS = (
    Problem("sources[0].tables[1].source", "is empty", "name the table", line=12),
    Problem("postgres", "is missing", "add it"),
)


def whole(kind: type[SnowmeltError]) -> SnowmeltError:
    return kind("999999 does not fit smallint", **FIELDS)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_pickles_whole(kind: type[SnowmeltError], protocol: int) -> None:
    error = whole(kind)
    back = pickle.loads(pickle.dumps(error, protocol))
    assert type(back) is kind
    assert vars(back) == vars(error)
    assert vars(back) == {"what": "999999 does not fit smallint", **FIELDS}
    assert str(back) == str(error)
    assert back.args == error.args


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_config_error_pickles_with_its_problems(protocol: int) -> None:
    error = ConfigError("snowmelt.yaml", PROBLEMS)
    back = pickle.loads(pickle.dumps(error, protocol))
    assert type(back) is ConfigError
    assert (back.path, back.problems) == ("snowmelt.yaml", PROBLEMS)
    assert str(back) == str(error)


@pytest.mark.parametrize("kind", PLAIN)
def test_every_error_can_be_copied_and_located_later(kind: type[SnowmeltError]) -> None:
    error = kind("gone")
    assert error.where == ""
    located = copy.copy(error).located(table="public.visits", chunk=0)
    assert isinstance(located, kind)
    assert located.where == "table public.visits, chunk 0"
    assert error.table is None, "the copy has fields of its own"


def test_a_place_that_is_known_stays() -> None:
    error = TableError("gone", table="public.visits", chunk=0).located(table="other", chunk=5)
    assert (error.table, error.chunk) == ("public.visits", 0)


def test_notes_and_a_later_wording_are_kept() -> None:
    error = TableError("gone")
    error.what = "the table is gone"
    error.add_note("seen twice")
    back = pickle.loads(pickle.dumps(error))
    assert str(back) == "the table is gone"
    assert back.__notes__ == ["seen twice"]


def raise_it(error: SnowmeltError) -> None:
    raise error


def test_an_error_comes_whole_out_of_a_worker_process() -> None:
    with (
        ProcessPoolExecutor(1, get_context("spawn")) as pool,
        pytest.raises(ValueDoesNotFit) as caught,
    ):
        pool.submit(raise_it, whole(ValueDoesNotFit)).result(timeout=60)
    assert caught.value.column == '"Cost"'


@pytest.mark.parametrize("kind", PLAIN)
def test_the_text_has_place_and_remedy(kind: type[SnowmeltError]) -> None:
    assert str(whole(kind)) == (
        'table public.visits, chunk 0, column "Cost", key "Visit Id" = 7: 999999 does not fit smallint\n'
        "  → widen the column"
    )
    assert str(kind("just this")) == "just this"
    assert str(kind("with a remedy", remedy="do that")) == "with a remedy\n  → do that"


def test_the_text_of_a_config_error_has_every_problem() -> None:
    assert str(ConfigError("snowmelt.yaml", PROBLEMS)) == (
        "snowmelt.yaml: 2 problems\n"
        "  sources[0].tables[1].source (line 12): is empty\n"
        "    → name the table\n"
        "  postgres: is missing\n"
        "    → add it"
    )
    assert str(ConfigError("c.json", PROBLEMS[1:])).startswith("c.json: 1 problem\n")


def test_the_tree_at_the_top_of_the_module_is_the_tree() -> None:
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        before, _, rest = line.partition("── ")
        name = (rest or line).split("  ")[0 if rest else -1].strip()
        if not rest and name != "SnowmeltError":
            continue
        depth = (len(before) - 1) // 4 if rest else 0
        path[depth:] = [name]
        if depth:
            drawn[name] = path[depth - 1]
    real = {kind.__name__: kind.__bases__[0].__name__ for kind in KINDS}
    assert drawn == {name: base for name, base in real.items() if name != "SnowmeltError"}


def test_every_error_says_what_it_is_for() -> None:
    assert all(kind.__doc__ for kind in KINDS)
