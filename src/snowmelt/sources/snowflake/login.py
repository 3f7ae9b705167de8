"""Who logs in to Snowflake, and how: a config's words -> the arguments of the connector.

The connector takes a private key as DER; a config has it in whatever form it survived its way
through files, environment variables and secret stores.
"""

from __future__ import annotations

import base64
import binascii
import random
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
)

from snowmelt.errors import UsageError

FORMS = "give the text of a PEM private key (PKCS8 or PKCS1), or the path of a file with one"

# What the connector would fetch ahead for a cursor that is iterated. Chunks are read one by one.
_PREFETCH_THREADS = 4
# In MB, the least that Snowflake takes: the smaller, the less memory for each chunk being decoded.
_RESULT_CHUNK_SIZE = 48

_PEM = re.compile(
    r"-----BEGIN ((?:[A-Z0-9]+ )*PRIVATE KEY)-----(.*?)-----END \1-----", re.DOTALL | re.ASCII
)
# The headers of an encrypted PKCS1 key (RFC 1421); after them stands the body.
_HEADERS = re.compile(r"\s*Proc-Type:\s*(\S+)\s+DEK-Info:\s*(\S+)\s", re.ASCII)
FORBIDDEN = frozenset({403, 290_403})
"""HTTP's 403 as the connector's errors have it, with and without its offset for HTTP."""
LOGIN_SECONDS = 60
_SUFFIXES = (".pem", ".p8", ".pk8", ".key", ".der", ".txt")


@dataclass(frozen=True, slots=True)
class Login:
    """The account, the user, and exactly one of `rsa_key`, `password` and `token`.

    `rsa_key` is PEM text (also with spaces or \\n in place of its newlines), the base64 inside of
    it, or the path of a PEM file. `token` is a programmatic access token, with the authenticator
    `oauth` an OAuth token.
    """

    account: str
    user: str
    warehouse: str | None = None
    role: str | None = None
    database: str | None = None
    schema: str | None = None
    rsa_key: str | None = field(default=None, repr=False)
    passphrase: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    authenticator: str | None = None
    host: str | None = None
    port: int | None = None
    protocol: str | None = None
    statement_timeout_seconds: int = 14_400

    def arguments(self) -> dict[str, object]:
        """Keyword arguments for `snowflake.connector.connect`.

        Raises UsageError when nothing is there to log in with, or the key can't be used.
        """
        places = {
            "warehouse": self.warehouse,
            "role": self.role,
            "database": self.database,
            "schema": self.schema,
            "host": self.host,
            "port": self.port,
            "protocol": self.protocol,
        }
        return {
            "account": self.account,
            "user": self.user,
            **self._proof(),
            **{name: value for name, value in places.items() if value is not None},
            "application": "snowmelt",
            # Else NUMBER(p, s) comes as a double.
            "arrow_number_to_decimal": True,
            "login_timeout": LOGIN_SECONDS,
            # The connector's default is to try a request for ever.
            "network_timeout": 120,
            # A thread for each session that nothing needs: a session that ends is opened anew.
            "client_session_keep_alive": False,
            # As the session parameter below, which the connector would overwrite with its default.
            "client_prefetch_threads": _PREFETCH_THREADS,
            "backoff_policy": backoff,
            "session_parameters": {
                "TIMEZONE": "UTC",
                "STATEMENT_TIMEOUT_IN_SECONDS": self.statement_timeout_seconds,
                "CLIENT_PREFETCH_THREADS": _PREFETCH_THREADS,
                "CLIENT_RESULT_CHUNK_SIZE": _RESULT_CHUNK_SIZE,
                "QUERY_TAG": "snowmelt",
            },
        }

    def _proof(self) -> dict[str, object]:
        """What proves who the user is."""
        if self.rsa_key:
            key = private_key(self.rsa_key, self.passphrase)
            return {"authenticator": "SNOWFLAKE_JWT", "private_key": key}
        if self.password:
            return {"authenticator": "SNOWFLAKE", "password": self.password}
        if self.token:
            is_oauth = (self.authenticator or "").strip().lower() == "oauth"
            kind = "OAUTH" if is_oauth else "PROGRAMMATIC_ACCESS_TOKEN"
            return {"authenticator": kind, "token": self.token}
        raise UsageError(
            "nothing is given to log in to Snowflake with", remedy="give rsa_key, password or token"
        )


def backoff() -> Iterator[float]:
    """Seconds to wait before each further try: 0.1, doubling up to 4, a quarter more or less.

    A chunk that answers 503 is most often there a moment later. The connector tries a chunk ten
    times, and with this gives up after 14 to 23 seconds; with its own policy, after up to 95.
    Other requests wait whole seconds, so that their first four retries come at once.

    Raises what is being handled if it is a 403, which the connector would try ten times too: the
    URL of a chunk has expired, and only another one helps.
    """
    pause = 0.1
    while True:
        _, error, _ = sys.exc_info()
        for cause in (error, *getattr(error, "args", ())):
            if isinstance(cause, Exception) and getattr(cause, "errno", None) in FORBIDDEN:
                raise cause
        yield pause * random.uniform(0.75, 1.25)
        pause = min(2 * pause, 4.0)


def private_key(text: str, passphrase: str | None = None) -> bytes:
    """The RSA key as unencrypted PKCS8 in DER. `text` takes the forms that Login names.

    Raises UsageError, with nothing of the key in it.
    """
    load = _loader(text) or _loader(_content(text))
    if load is None:
        raise UsageError("snowflake.rsa_key is no private key", remedy=FORMS)
    key = _opened(load, passphrase)
    if not isinstance(key, RSAPrivateKey):
        raise UsageError(
            "snowflake.rsa_key is a private key, but no RSA key",
            remedy="make one with openssl genrsa 2048, and register its public key with the user",
        )
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def _loader(text: str) -> Callable[[bytes | None], object] | None:
    """What turns a passphrase into the key, or None if the text is no key at all."""
    text = text.replace("\\r", "\n").replace("\\n", "\n")
    if pem := _PEM.search(text):
        data = _mended(pem[1], pem[2])
        return lambda passphrase: load_pem_private_key(data, passphrase)
    body = "".join(text.split())
    try:
        data = base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        return None
    # Both kinds of key are an ASN.1 SEQUENCE of more than 255 bytes; a path hardly ever is.
    if not data.startswith(b"\x30\x82"):
        return None
    return lambda passphrase: load_der_private_key(data, passphrase)


def _mended(label: str, inside: str) -> bytes:
    """The PEM with its lines where the parser wants them."""
    lines = [f"-----BEGIN {label}-----"]
    if headers := _HEADERS.match(inside):
        lines += [f"Proc-Type: {headers[1]}", f"DEK-Info: {headers[2]}", ""]
        inside = inside[headers.end() :]
    body = "".join(inside.split())
    lines += [body[at : at + 64] for at in range(0, len(body), 64)]
    lines += [f"-----END {label}-----", ""]
    return "\n".join(lines).encode()


def _content(text: str) -> str:
    """Of the file that the text names. A path is shown only where it can't be part of a key."""
    name = text.strip()
    is_path = len(name) < 256 and name.lower().endswith(_SUFFIXES) and "\n" not in name
    shown = f"the file {name} of snowflake.rsa_key" if is_path else "snowflake.rsa_key"
    try:
        return Path(name).expanduser().read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{shown} is no PEM text", remedy=FORMS) from None
    except FileNotFoundError:
        what = "is not there" if is_path else "is neither a private key nor the path of a file"
        raise UsageError(f"{shown} {what}", remedy=FORMS) from None
    except (OSError, ValueError, RuntimeError):
        # A name too long for a path, a NUL in it, a home of nobody, a file that may not be read.
        what = "can't be read" if is_path else "is neither a private key nor a file to be read"
        raise UsageError(f"{shown} {what}", remedy=FORMS) from None


def _opened(load: Callable[[bytes | None], object], passphrase: str | None) -> object:
    """The key; a passphrase that it does not need is left aside."""
    try:
        return load(None)
    except TypeError:
        # Encrypted.
        pass
    except (ValueError, UnsupportedAlgorithm):
        raise UsageError("snowflake.rsa_key is no private key", remedy=FORMS) from None
    if not passphrase:
        raise UsageError(
            "snowflake.rsa_key is encrypted, and no passphrase is given",
            remedy="set snowflake.passphrase, best as ${VARIABLE}",
        )
    try:
        return load(passphrase.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise UsageError(
            "snowflake.passphrase does not open snowflake.rsa_key",
            remedy="give the passphrase that the key was encrypted with",
        ) from None
