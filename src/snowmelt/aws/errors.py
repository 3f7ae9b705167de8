"""What the function raises: three names by which Retry and Catch of a state machine tell errors apart.

The name of an exception's class is its error name in Step Functions, so these names are an interface.
"""

from __future__ import annotations

from snowmelt.aws.wording import told
from snowmelt.errors import (
    Blocked,
    ClaimLost,
    RetriableError,
    SnowmeltError,
    UsageError,
    unforeseen,
)


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
        return _kind(error)(told(str(error)))
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
