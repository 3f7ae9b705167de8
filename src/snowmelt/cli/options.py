"""The command line's app, the options that commands share, and the config that they name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID

import typer

from snowmelt.config import Config, load_config
from snowmelt.config.files import CONFIGS, found_config
from snowmelt.deadline import Deadline
from snowmelt.errors import UsageError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Moves tables into PostgreSQL: each row exactly once, resumable.",
)

GRACE_SECONDS = 60.0
"""After --stop-after, for giving back what was in flight."""
_TIME = re.compile(r"(\d+(?:\.\d+)?)([smh])")
_UNITS = {"s": 1, "m": 60, "h": 3600}
ConfigPath = Annotated[
    Path | None,
    typer.Option("-c", "--config", help=f"Config file; else the first of {', '.join(CONFIGS)}."),
]
Sources = Annotated[list[str] | None, typer.Argument(help="Source names; all if none is given.")]
Tables = Annotated[
    list[str] | None, typer.Option("--table", help="Only this table; may be given repeatedly.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Log each event.")]
Details = Annotated[
    bool, typer.Option("-v", "--verbose", help="Tell all of each table, and log each event.")
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Log errors only, show no progress.")]
Debug = Annotated[bool, typer.Option("--debug", help="Log everything, show tracebacks.")]
NoResume = Annotated[bool, typer.Option("--no-resume", help="Begin a new run.")]
ResumeRun = Annotated[UUID | None, typer.Option("--resume-run-id", help="Resume this run.")]
ResumeAge = Annotated[
    int | None,
    typer.Option(
        "--resume-max-age",
        help="Hours since a run's last activity that it is resumed; over the config's.",
    ),
]
Restart = Annotated[
    list[str] | None,
    typer.Option("--restart-table", help="Plan this table anew within the resumed run."),
]
AllowTruncate = Annotated[
    bool,
    typer.Option(
        "--allow-truncate",
        help="Where a table is to be emptied, remove rows of unknown origin as well.",
    ),
]
Join = Annotated[
    bool, typer.Option("--join", help="Take part in a run that is under way; begin none.")
]
StopAfter = Annotated[
    str | None,
    typer.Option(
        "--stop-after",
        metavar="TIME",
        help="Leave the run after so long, such as 90s, 45m or 8h; what is in flight then is given back.",
    ),
]
Threads = Annotated[int | None, typer.Option("--threads", help="Workers; over the config's.")]
BatchSize = Annotated[
    str | None,
    typer.Option("--batch-size", help="Rows of a chunk, about, or auto; over the config's."),
]
NoValues = Annotated[
    bool,
    typer.Option(
        "--no-values", help="Leave out the query per table that measures whether its values fit."
    ),
]
RunId = Annotated[UUID, typer.Argument(help="The run, as `snowmelt runs` lists it.")]


def load(
    path: Path | None,
    sources: Sequence[str] | None = None,
    tables: Sequence[str] | None = None,
    threads: int | None = None,
    batch_size: str | None = None,
    resume_max_age: int | None = None,
) -> Config:
    """The config of a command, with what it gives in place of the file's, and only what it names."""
    path = path or found_config(Path())
    if path is None:
        raise UsageError(
            f"no config file here: looked for {', '.join(CONFIGS)}", remedy="name one with -c FILE"
        )
    config = load_config(path, sources=sources or None)
    return config.with_overrides(
        threads=threads,
        tables=tables or (),
        batch_size=_rows(batch_size),
        resume_max_age=resume_max_age,
    )


def _rows(text: str | None) -> int | Literal["auto"] | None:
    if text is None or text == "auto":
        return "auto" if text else None
    if not text.isascii() or not text.isdigit():
        raise UsageError(
            f"--batch-size {text} is neither auto nor a number of rows",
            remedy="write auto, or a number such as 100000",
        )
    return int(text)


def window(text: str | None) -> Deadline | None:
    """The deadline of a process that is to leave after a time. Raises typer.BadParameter for what is none."""
    if text is None:
        return None
    found = _TIME.fullmatch(text.strip())
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0
    if seconds <= 0:
        raise typer.BadParameter(f"{text!r} is no time; write it as 90s, 45m or 8h")
    return Deadline.after(seconds, GRACE_SECONDS)
