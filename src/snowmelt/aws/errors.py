"""What the function raises: three names by which Retry and Catch of a state machine tell errors apart.

The name of an exception's class is its error name in Step Functions, so these names are an interface.
"""

from __future__ import annotations

from snowmelt.errors import (
    Blocked,
    ClaimLost,
    RetriableError,
    SnowmeltError,
    UsageError,
    unforeseen,
)

LONGEST = 8_000
"""Characters of a message. Step Functions takes 32,768 of a cause, with names and quotes around it:
https://docs.aws.amazon.com/step-functions/latest/apireference/API_HistoryEvent.html"""


class HandlerError(Exception):
    """The root; never raised itself."""


class ConfigError(HandlerError):
    """The event, the config or a name in them is wrong: somebody has to change it first."""


class RetryableError(HandlerError):
    """Passes with time: a server that can't be reached, a lock, a throttled request."""


class FatalError(HandlerError):
    """Would end the same way, or was refused: somebody has to look first."""


def translated(error: Exception) -> HandlerError:
    """The error by the name that the caller goes by, with the message that a person reads.

    Raise it `from None`: what it was made from may hold secrets that its own message does not.
    """
    if isinstance(error, SnowmeltError):
        return _kind(error)(shortened(str(error)))
    if isinstance(error, MemoryError):
        return FatalError(
            "there is not enough memory\n  → give the function more, or fewer parallel_threads"
        )
    return FatalError(f"{unforeseen(error)}\n  → report it, with the action of the event")


def _kind(error: SnowmeltError) -> type[HandlerError]:
    if isinstance(error, UsageError):
        return ConfigError
    # Also where nothing was begun because of a lock that somebody holds: only a person is told not to wait.
    if isinstance(error, RetriableError | ClaimLost) or isinstance(error.__cause__, Blocked):
        return RetryableError
    return FatalError


def shortened(text: str, longest: int = LONGEST) -> str:
    """The text as UTF-8 holds it, or the whole lines of it that fit, with how many are left out.

    >>> shortened("first\\nsecond\\nthird", 14)
    'first\\nsecond\\nand 1 more line'
    """
    # Half a surrogate pair, which a JSON event may have, the runtime can't send.
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if len(text) <= longest:
        return text
    lines = text.split("\n")
    kept: list[str] = []
    for line in lines:
        if sum(map(len, kept)) + len(kept) + len(line) > longest:
            break
        kept.append(line)
    if not kept:
        return text[:longest] + "…"
    left = len(lines) - len(kept)
    return "\n".join([*kept, f"and {left:,} more line{'' if left == 1 else 's'}"])
