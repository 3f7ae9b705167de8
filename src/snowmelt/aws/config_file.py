"""Which config an invocation goes by: one baked into the function, or an object of S3."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from snowmelt.aws.wording import shortened
from snowmelt.cloud import Aws
from snowmelt.config import Config, load_config, parse_config
from snowmelt.config.files import CONFIGS, found_config
from snowmelt.errors import UsageError

VARIABLE = "SNOWMELT_CONFIG"
_LONGEST = 200
"""Characters of a path in a message."""


def read_config(
    named: str | None, source_name: str | None, environment: Mapping[str, str] = os.environ
) -> Config:
    """The config that the event names, else SNOWMELT_CONFIG, else the first of the usual names in the function.

    It is read anew each time. A path that is not absolute is below the function's folder.

    Raises what `load_config` raises.
    """
    sources = [source_name] if source_name else None
    where = named or environment.get(VARIABLE)
    if where and "://" in where:
        bucket, key = _s3(where)
        content = Aws().s3_object(bucket, key)
        return parse_config(where, content, sources=sources, environ=environment)
    folder = Path(environment.get("LAMBDA_TASK_ROOT", ""))
    path = folder / where if where else found_config(folder)
    if path is None:
        raise UsageError(
            f"there is no config in the function: looked for {', '.join(CONFIGS)}",
            remedy=f"set {VARIABLE} to its path or to s3://BUCKET/KEY, or put one of these files in",
        )
    if not _is_there(path):
        raise UsageError(
            f"there is no config file {shortened(str(path), _LONGEST)}",
            remedy=f"correct the event's config or {VARIABLE}: a path in the function, or s3://BUCKET/KEY",
        )
    return load_config(path, sources=sources, environ=environment)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # longer than a name may be
        return False


def _s3(url: str) -> tuple[str, str]:
    match = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(.*[^/])", url)
    if match is None:
        # Without its text: a URL may be signed.
        raise UsageError(
            "the config is named by a URL that is none of an object of S3",
            remedy="write s3://BUCKET/KEY, the bucket in small letters, digits, dots and hyphens",
        )
    return match[1], match[2]
