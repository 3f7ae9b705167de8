"""Where the command line writes: documents to stdout, everything said on the way to stderr."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.logging import RichHandler

from snowmelt.client_logs import hand_over
from snowmelt.errors import Interrupted, SnowmeltError, UsageError, unforeseen
from snowmelt.status import FAILED, PARTIAL

# Into a file or pipe nothing is cut to a terminal's width.
WIDE = None if sys.stdout.isatty() else 200

# Without emoji: `:secret:` in an ARN is none.
out = Console(highlight=False, emoji=False, soft_wrap=True, width=WIDE)
err = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)

USAGE = 2


class Verbosity:
    """`--debug`, for the one place where errors become messages."""

    debug = False


def configure_logging(verbose: bool, quiet: bool, debug: bool) -> None:
    """Events to stderr: warnings, all with -v, errors alone with -q."""
    Verbosity.debug = debug
    level = logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING
    handler = RichHandler(console=err, show_path=False, rich_tracebacks=False)
    logger = logging.getLogger("snowmelt")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(logging.ERROR if quiet else level)
    hand_over(handler if debug else None)


def document(value: object) -> None:
    """One JSON document, the whole of stdout."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def messages() -> Iterator[None]:
    """Errors as messages: 2 for a command or config that can't be carried out, 3 where the time was up, 1 for all
    else.

    With --debug the traceback is shown instead; the exit code is the same.
    """
    try:
        yield
    except SnowmeltError as error:
        _tell(str(error))
        raise typer.Exit(_code(error)) from error
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except Exception as error:
        _tell(f"{unforeseen(error)}\n  → run again with --debug to see it whole, and report it")
        raise typer.Exit(FAILED) from error


def _tell(text: str) -> None:
    if Verbosity.debug:
        traceback.print_exc()
    else:
        err.print(f"[bold red]error:[/] {_escaped(text)}")


def _code(error: SnowmeltError) -> int:
    if isinstance(error, Interrupted):
        return PARTIAL  # the time was up: run again to resume
    return USAGE if isinstance(error, UsageError) else FAILED


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")
