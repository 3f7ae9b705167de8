"""Whether the snowflake block says, with one voice, how to log in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from snowmelt.config.document import Finding
from snowmelt.config.settings import nearest

_PROOFS = ("rsa_key", "password", "token")
"""What proves who the user is."""

_NEEDS = {
    "snowflake": "password",
    "snowflake_jwt": "rsa_key",
    "oauth": "token",
    "programmatic_access_token": "token",
}
"""The authenticators that work here, each with its proof."""

_INTERACTIVE = ("externalbrowser", "username_password_mfa", "oauth_authorization_code")
_FOREIGN = ("oauth_client_credentials", "workload_identity", "pat_with_external_session")
"""Known to Snowflake, but they want settings that the block does not have."""

_LEAVE_OUT = "give rsa_key, password or token, and leave authenticator out"


def login_findings(block: Mapping[str, object], *, needed: bool) -> Iterator[Finding]:
    """Of the block with its variables filled in; a login that nothing needs may be missing."""
    given = tuple(key for key in _PROOFS if block.get(key) is not None)
    if block.get("passphrase") is not None and "rsa_key" not in given:
        yield Finding(
            ("snowflake", "passphrase"),
            "is for an rsa_key, and none is given",
            "give the rsa_key that it opens, or remove it",
        )
    if len(given) > 1:
        yield Finding(
            ("snowflake", given[-1]),
            f"stands beside {', '.join(given[:-1])}",
            f"keep one of {', '.join(given)}",
        )
    authenticator = block.get("authenticator")
    wrong = _wrong(authenticator, given) if isinstance(authenticator, str) else None
    if wrong:
        yield Finding(("snowflake", "authenticator"), *wrong)
    elif not given and needed:
        yield Finding(
            ("snowflake",),
            "has nothing to log in with: none of rsa_key, password and token is given",
            "give one of them, best rsa_key as ${VARIABLE}",
        )


def _wrong(authenticator: str, given: tuple[str, ...]) -> tuple[str, str] | None:
    """What is wrong with it, and the remedy. Its text may come from a variable and is not shown."""
    name = authenticator.strip().lower()
    if name in _INTERACTIVE or name.startswith("https://"):
        return "wants somebody to log in by hand, and a run has nobody", _LEAVE_OUT
    if name in _FOREIGN:
        return "wants settings that the snowflake block does not have", _LEAVE_OUT
    if name not in _NEEDS:
        meant = nearest(name, _NEEDS)
        remedy = f"did you mean {meant}?" if meant else f"known are {', '.join(_NEEDS)}"
        return "is no known way to log in", remedy
    if _NEEDS[name] not in given:
        return f"{name} needs {_NEEDS[name]}, which is not given", (
            f"give {_NEEDS[name]}, or leave authenticator out"
        )
    return None
