"""How long to wait before an attempt is made again."""

from __future__ import annotations

from random import Random

BASE_SECONDS = 0.25
CEILING_SECONDS = 30.0


def backoff_seconds(attempt: int, random: Random) -> float:
    """Doubling with the attempt (from 1) up to a ceiling, of which a random half to whole is waited, so that
    workers that failed together don't come back together."""
    whole = min(CEILING_SECONDS, BASE_SECONDS * 2.0 ** min(attempt - 1, 16))
    return whole * (0.5 + 0.5 * random.random())
