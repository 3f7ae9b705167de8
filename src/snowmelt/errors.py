"""What can go wrong, grouped by what the caller does next.

    SnowmeltError
    ├── UsageError                 stop before anything starts; exit code 2
    │   ├── ConfigError            the file is wrong: every problem of it at once
    │   └── UnknownName            a source, table or run that nobody knows
    ├── Refused                    snowmelt will not do this; nothing was changed
    ├── RetriableError             try again, through a new claim
    │   ├── Blocked                as often as it takes: it is no failed attempt
    │   ├── ConnectionLost         and open a new connection first
    │   ├── Interrupted            in another process: this one's time was up
    │   ├── ResultGone             once the table's query has run again
    │   ├── NeedsStaging           through a staging table
    │   └── TooHeavy               in smaller chunks, if the chunk can be split
    ├── ClaimLost                  somebody else owns the chunk now: forget it
    └── FatalError                 trying again would end the same way
        ├── TableError             this table stops, other tables go on
        │   ├── ValueDoesNotFit    one value of one row; names column and key
        │   ├── SourceChanged      the source is not what was planned
        │   └── CountMismatch      rows read are not rows planned
        └── RunError               nothing else can work either: the run stops

Each error says what happened, where (`table`, `chunk`, `column`, `key`) and what to do (`remedy`).
They pickle, so that they cross process borders whole.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import PurePath


class SnowmeltError(Exception):
    """The root; `str()` gives the message a user reads."""

    def __init__(
        self,
        what: str,
        *,
        remedy: str | None = None,
        table: str | None = None,
        chunk: int | None = None,
        column: str | None = None,
        key: str | None = None,
        sqlstate: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy
        self.table = table
        self.chunk = chunk
        self.column = column
        self.key = key
        self.sqlstate = sqlstate

    def located(self, *, table: str | None = None, chunk: int | None = None) -> SnowmeltError:
        """Fill in where it happened, for an error raised where that was not known."""
        self.table = self.table or table
        self.chunk = self.chunk if self.chunk is not None else chunk
        return self

    @property
    def where(self) -> str:
        places = (
            ("table", self.table),
            ("chunk", self.chunk),
            ("column", self.column),
            ("key", self.key),
        )
        return ", ".join(f"{name} {value}" for name, value in places if value is not None)

    @property
    def message(self) -> str:
        """Where and what, without the remedy."""
        return f"{self.where}: {self.what}" if self.where else self.what

    def __str__(self) -> str:
        return f"{self.message}\n  → {self.remedy}" if self.remedy else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.__dict__.copy(), self.args))


def _rebuild(
    kind: type[SnowmeltError], state: dict[str, object], args: tuple[object, ...]
) -> SnowmeltError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    error.args = args
    return error


def unforeseen(error: BaseException) -> str:
    """What is told of an error that nobody foresaw: its kind and place. What it says may be a secret."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {PurePath(frames[-1].filename).name}, line {frames[-1].lineno}," if frames else ""
    return f"{type(error).__name__}{where} was not foreseen"


class UsageError(SnowmeltError):
    """The command can't be carried out as given."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a config file."""

    place: str
    what: str
    remedy: str
    line: int | None = None

    def __str__(self) -> str:
        line = f" (line {self.line})" if self.line else ""
        return f"{self.place}{line}: {self.what}\n    → {self.remedy}"


class ConfigError(UsageError):
    """A config file that can't be used, with every problem in it."""

    def __init__(self, path: str, problems: tuple[Problem, ...]) -> None:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = "\n".join(f"  {problem}" for problem in problems)
        super().__init__(f"{path}: {count}\n{lines}")
        self.path = path
        self.problems = problems


class UnknownName(UsageError):
    """A name on the command line that nothing carries."""


class Refused(SnowmeltError):
    """Not done, because the outcome could not be vouched for. Nothing was changed."""


class RetriableError(SnowmeltError):
    """Passes with time: a deadlock, a full connection table, a server that restarts."""


class Blocked(RetriableError):
    """Somebody else holds what the chunk needs: to wait is right, and is no failed attempt."""


class ConnectionLost(RetriableError):
    """The connection is gone; what it was doing may or may not have happened."""


class Interrupted(RetriableError):
    """This process was told to end what it was about; what it was about is as it was before."""


class ResultGone(RetriableError):
    """The source no longer keeps the result that the chunks are parts of; `query_id` names it."""

    query_id: str = ""


class TooHeavy(RetriableError):
    """A chunk asked for more time or memory than there is: smaller chunks ask for less."""


class NeedsStaging(RetriableError):
    """Rows of the chunk are there already: only through a staging table can they be skipped."""


class ClaimLost(SnowmeltError):
    """The chunk has another owner, or is done; nothing of this attempt was kept."""


class FatalError(SnowmeltError):
    """Would fail again."""


class TableError(FatalError):
    """Ends one table; the others go on."""


class ValueDoesNotFit(TableError):
    """A value the target column can't hold; names table, column and key."""


class SourceChanged(TableError):
    """The source is no longer what the plan was made from."""


class CountMismatch(TableError):
    """What was read, or stands in the ledger, is not what was planned."""


class RunError(FatalError):
    """Ends the run: the disk is full, the role may not write, the password is wrong."""
