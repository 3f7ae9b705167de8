"""Why a connection to PostgreSQL could not be had by TLS, and what to do: out of what libpq says.

Its messages are the only thing that tells: a connection that did not come about has no SQLSTATE.
https://github.com/postgres/postgres/blob/REL_18_STABLE/src/interfaces/libpq/fe-secure-openssl.c
"""

from __future__ import annotations

import re
import socket
import ssl
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import psycopg
from psycopg.conninfo import conninfo_to_dict

from snowmelt.errors import RunError, SnowmeltError, UsageError

PROBE_SECONDS = 5.0
_SSL_REQUEST = struct.pack("!II", 8, 80877103)
"""https://www.postgresql.org/docs/current/protocol-message-formats.html"""
_RDS = "for RDS and Aurora it is global-bundle.pem"

Parts = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class _Meaning:
    words: re.Pattern[str]
    kind: type[SnowmeltError]
    remedy: str


def _meaning(words: str, kind: type[SnowmeltError], remedy: str) -> _Meaning:
    return _Meaning(re.compile(words), kind, remedy)


_MEANINGS = (
    _meaning(
        "server does not support SSL",
        RunError,
        "turn TLS on at the server (ssl = on), or set sslmode: disable where the network may be trusted",
    ),
    _meaning(
        "does not match host name|could not get server's host name",
        RunError,
        "set host to a name that the certificate has; sslmode: verify-ca does not compare names",
    ),
    _meaning(
        "root certificate file .* does not exist",
        UsageError,
        "set sslrootcert to a file with the certificates of the server's CA "
        f"({_RDS}), or to system for those that this machine trusts",
    ),
    _meaning(
        "could not read root certificate file",
        UsageError,
        "sslrootcert is to be a file of certificates in PEM",
    ),
    _meaning(
        "has group or world access",
        UsageError,
        "chmod 600 the file, or give the key's text as sslkey",
    ),
    _meaning(
        "could not (open|read|load) certificate file|private key file",
        UsageError,
        "sslcert and sslkey are to be a certificate and its own private key in PEM, without a passphrase",
    ),
    _meaning(
        "requires a valid client certificate",
        RunError,
        "give sslcert and sslkey: the server lets this user in with a certificate alone",
    ),
    _meaning(
        "certificate authentication failed",
        RunError,
        "give the certificate whose common name (CN) is the user, or connect as the user that it names",
    ),
    _meaning(
        r"SSL error: .*\balert\b.*(certificate|unknown ca)",
        RunError,
        "the server refused the client's certificate: give sslcert and sslkey of a CA that it knows, not expired",
    ),
    _meaning(
        "channel binding (is )?required",
        RunError,
        "channel_binding=require needs TLS to the server itself: set sslmode, and connect past a proxy that ends "
        "TLS on the way",
    ),
    _meaning("weak sslmode", UsageError, "set sslmode: verify-full"),
)
_UNVERIFIED = "certificate verify failed"
_NOT_LET_IN = "pg_hba.conf"
_AWAY = re.compile("Connection refused|timeout|timed out|unreachable|No route to host")
"""Of one server among several."""
_ADDRESS = re.compile(r"^.*?connection to server .*? failed: (FATAL:\s+)?|^connection is bad: ")
_EXPIRED, _NO_ISSUER = (9, 10), (2, 18, 19, 20, 21)
"""OpenSSL's codes of a certificate that is not valid now, and of one whose CA is not known."""


def explained(error: psycopg.Error, conninfo: str) -> SnowmeltError | None:
    """What an attempt to connect failed of, where that was TLS. Trying again would end the same way."""
    text = str(error)
    if _AWAY.search(text):
        return None
    if _UNVERIFIED in text:
        return _unverified(conninfo_to_dict(conninfo))
    # With and without TLS, where sslmode has both tried: else it is the other attempt that tells.
    attempts = [line for line in text.splitlines() if "connection to server" in line]
    if attempts and all(_NOT_LET_IN in line for line in attempts):
        return _not_let_in(text)
    for meaning in _MEANINGS:
        if meaning.words.search(text):
            return meaning.kind(_told(text, meaning.words.search), remedy=meaning.remedy)
    return None


def _told(text: str, matters: Callable[[str], object]) -> str:
    """The line that matters, without the address that stands before it."""
    line = next(line for line in text.splitlines() if matters(line))
    return _ADDRESS.sub("", line)


def _not_let_in(text: str) -> SnowmeltError:
    what = _told(text, lambda line: _NOT_LET_IN in line)
    if "no encryption" in what or "SSL off" in what:
        remedy = "set sslmode: verify-full with sslrootcert, or require: the server may let in by TLS alone"
    else:
        remedy = "have pg_hba.conf of the server let this user in from here"
    return RunError(what, remedy=remedy)


def _unverified(parts: Parts) -> SnowmeltError:
    """libpq says the same of an unknown CA and of a certificate that has expired: so the server is asked again."""
    root = parts.get("sslrootcert") or "sslrootcert"
    found = _verdict(parts)
    if found is not None and found.verify_code in _EXPIRED:
        return RunError(
            f"the server's certificate is not valid now: {found.verify_message}",
            remedy="renew the certificate of the server; is the clock of this machine right?",
        )
    why = f": {found.verify_message}" if found is not None else ""
    if found is None or found.verify_code in _NO_ISSUER:
        return RunError(
            f"the server's certificate is not of a CA in {root}{why}",
            remedy=f"put the certificates of the server's CA into the file of sslrootcert ({_RDS})",
        )
    return RunError(
        f"the server's certificate can't be verified{why}",
        remedy="correct the certificate of the server, or sslrootcert",
    )


def _verdict(parts: Parts) -> ssl.SSLCertVerificationError | None:
    """What is wrong with the server's certificate; None where that is not to be found out."""
    host = str(parts.get("hostaddr") or parts.get("host") or "localhost").split(",")[0]
    # Of several servers the first; one that has no port of its own has the usual one.
    port = str(parts.get("port") or "").split(",")[0] or "5432"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    try:
        context.load_verify_locations(str(parts.get("sslrootcert")))
        with socket.create_connection((host, int(port)), PROBE_SECONDS) as plain:
            plain.sendall(_SSL_REQUEST)
            if plain.recv(1) == b"S":
                context.wrap_socket(plain, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        return error
    except (OSError, ValueError):
        pass
    return None
