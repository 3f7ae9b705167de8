"""Messages as whoever sends an event reads them: of a bounded length, and in the event's own words."""

from __future__ import annotations

import re

LONGEST = 8_000
"""Characters of a message. Step Functions takes 32,768 of a cause, with names and quotes around it:
https://docs.aws.amazon.com/step-functions/latest/apireference/API_HistoryEvent.html"""
_WORDS = {
    "--allow-truncate": "allow_truncate",
    "--no-resume": "no_resume",
    "--restart-table": "restart_tables",
    "--resume-run-id": "resume_run_id",
    "--debug": "AWS_LAMBDA_LOG_LEVEL=DEBUG",
}
"""What an option of the command line is for a function. Others it has nothing for."""
_OPTION = re.compile(rf"(?<![\w-])(?<!--join )(?:{'|'.join(_WORDS)})(?![\w-])")


def told(text: str, longest: int = LONGEST) -> str:
    """The text with fields of the event for options of the command line, as far as it fits.

    >>> told("run once with --allow-truncate")
    'run once with allow_truncate'
    """
    return shortened(_OPTION.sub(lambda found: _WORDS[found.group()], text), longest)


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
