"""Commands where what they are told can't be used: a message, an exit code, no traceback."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest
from typer.testing import CliRunner

from snowmelt.cli import commands
from snowmelt.cli.console import USAGE
from snowmelt.cli.house import indexes
from snowmelt.cli.options import app
from snowmelt.errors import Interrupted
from snowmelt.status import FAILED, PARTIAL

NEEDS = {
    "adopt": ("--table", "T"),
    "abort": (str(UUID(int=0)),),
    "monitoring": ("progress",),
    "forget": ("T",),
}
WITHOUT_CONFIG = {"demo"}


def named() -> list[tuple[str, ...]]:
    """Each command that goes by a config, with what it has to be given."""
    single = [
        (one.name or one.callback.__name__,) for one in app.registered_commands if one.callback
    ]
    below = [
        ("indexes", one.name or one.callback.__name__)
        for one in indexes.registered_commands
        if one.callback
    ]
    return [
        (*words, *NEEDS.get(words[-1], ()))
        for words in (*single, *below)
        if words[-1] not in WITHOUT_CONFIG
    ]


@pytest.mark.parametrize("words", named(), ids=" ".join)
def test_without_a_config_each_command_says_so(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = CliRunner().invoke(app, list(words))
    assert answer.exit_code == USAGE, answer.exception
    assert "no config file here" in answer.stderr
    assert "name one with -c FILE" in answer.stderr


@pytest.mark.parametrize("command", ["plan", "migrate"])
@pytest.mark.parametrize("hours", ["0", "-1", "12h", "0.5"])
def test_a_window_of_no_hours_is_not_taken_for_the_config_s(
    command: str, hours: str, tmp_path: Path
) -> None:
    config = tmp_path / "snowmelt.json"
    config.write_text('{"postgres": {"database": "d"}, "sources": []}')
    answer = CliRunner().invoke(app, [command, "-c", str(config), "--resume-max-age", hours])
    assert answer.exit_code == USAGE, answer.exception
    assert "give 1 or more" in answer.stderr or "--resume-max-age" in answer.stderr


@pytest.mark.parametrize("text", ["soon", "0s", "-5m", "12", "1d"])
def test_what_is_no_time_is_refused(text: str, tmp_path: Path) -> None:
    config = tmp_path / "snowmelt.json"
    config.write_text('{"postgres": {"database": "d"}, "sources": []}')
    answer = CliRunner().invoke(app, ["migrate", "-c", str(config), f"--stop-after={text}"])
    assert answer.exit_code == USAGE, answer.exception
    assert "write it as 90s, 45m or 8h" in " ".join(answer.stderr.split())


def test_a_message_has_the_names_as_they_are(tmp_path: Path) -> None:
    """`:secret:`, as ARNs have it, is no emoji, and what is in brackets no style."""
    config = tmp_path / "snowmelt.json"
    config.write_text('{"postgres": {"database": "d"}, "sources": []}')
    answer = CliRunner().invoke(app, ["check", "a:secret:[red]b", "-c", str(config)])
    assert answer.exit_code == USAGE, answer.exception
    assert "there is no source a:secret:[red]b" in answer.stderr


def test_an_error_that_nobody_foresaw_is_a_message(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def breaks(*_: object) -> None:
        raise KeyError("s3cret")

    monkeypatch.setattr(commands, "load", breaks)
    ended = CliRunner().invoke(app, ["runs", "-c", str(tmp_path)])
    assert ended.exit_code == FAILED
    assert "KeyError in test_command_line.py, line" in ended.stderr
    assert "run again with --debug" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "s3cret" not in ended.stderr


def test_a_process_whose_time_was_up_has_a_code_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def late(*_: object) -> None:
        raise Interrupted("the time was up")

    monkeypatch.setattr(commands, "load", late)
    assert CliRunner().invoke(app, ["runs", "-c", str(tmp_path)]).exit_code == PARTIAL
