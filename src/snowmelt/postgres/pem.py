"""Certificates and keys as files, which is the only form that libpq takes them in."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import ssl
import tempfile
import threading
from pathlib import Path

from snowmelt.errors import UsageError

_BEGIN = "-----BEGIN"
_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_KEYS = ("sslrootcert", "sslcert", "sslkey")
_first = threading.Lock()
"""A folder that another thread makes at the same moment would be forgotten, and go with its files."""


def with_files(parameters: dict[str, str]) -> dict[str, str]:
    """libpq's parameters, with a file in place of each PEM text and of `sslrootcert=system`.

    The files are this user's alone and go with the process. Raises UsageError where none can be made.
    """
    found = {**parameters}
    for key in _KEYS:
        if _BEGIN in found.get(key, ""):
            try:
                found[key] = _file_of(_mended(found[key]))
            except OSError as error:
                raise UsageError(
                    f"the text of {key} can't be put into a file: {error.strerror}",
                    remedy="have TMPDIR name a folder that can be written, or give the path of a file",
                ) from error
    if found.get("sslrootcert") == "system":
        # psycopg's wheel looks for the CAs of its own OpenSSL, in a folder that no machine has.
        system = ssl.get_default_verify_paths().cafile
        found.setdefault("sslmode", "verify-full")
        if system is not None and found["sslmode"] == "verify-full":
            found["sslrootcert"] = system
    return found


def _mended(text: str) -> str:
    """The PEM with the line ends that it lost on its way through a variable or a secret."""
    text = text.replace("\\r", "").replace("\\n", "\n")
    if "\n" in text.strip():
        return text
    return "".join(_lines(label, body) for label, body in _BLOCK.findall(text))


def _lines(label: str, body: str) -> str:
    packed = "".join(body.split())
    lines = [packed[at : at + 64] for at in range(0, len(packed), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])


def _file_of(text: str) -> str:
    content = text.encode()
    with _first:
        folder = _folder()
    path = Path(folder.name) / f"{hashlib.sha256(content).hexdigest()[:16]}.pem"
    if not path.exists():
        # libpq refuses a key that others may read. Renamed when whole: other threads look for it.
        handle, part = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(part).replace(path)
    return str(path)


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="snowmelt-pem-")
