"""Who may log in, and how that is verified."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import jwt

from snowmelt.standin.failures import StatementError


@dataclass(frozen=True, slots=True)
class StandInUser:
    """A user, with what it may prove itself by: None is a way that it may not use.

    `public_key_pem` goes with key-pair logins, `token` is a programmatic access token, `oauth` an
    OAuth access token.
    """

    name: str
    password: str | None = field(default=None, repr=False)
    public_key_pem: str | None = None
    token: str | None = field(default=None, repr=False)
    oauth: str | None = field(default=None, repr=False)


class Users:
    """The users of the account."""

    def __init__(self, users: Sequence[StandInUser]) -> None:
        self._users = {user.name.upper(): user for user in users}

    def verified(self, data: Mapping[str, object]) -> str:
        """The name of the user that a login request proves to be; StatementError if it does not."""
        authenticator = str(data.get("AUTHENTICATOR") or "SNOWFLAKE").upper()
        check = {
            "SNOWFLAKE_JWT": self._key_pair,
            "OAUTH": self._oauth,
            "PROGRAMMATIC_ACCESS_TOKEN": self._access_token,
        }.get(authenticator, self._password)
        return check(data)

    def _user(self, data: Mapping[str, object]) -> StandInUser | None:
        return self._users.get(str(data.get("LOGIN_NAME") or "").upper())

    def _password(self, data: Mapping[str, object]) -> str:
        user, given = self._user(data), data.get("PASSWORD")
        if user is None or not _same(user.password, given):
            raise StatementError(390100, "08001", "Incorrect username or password was specified.")
        return user.name

    def _access_token(self, data: Mapping[str, object]) -> str:
        given = data.get("TOKEN") or data.get("PASSWORD")
        user = self._user(data)
        candidates = [user] if user is not None else list(self._users.values())
        for one in candidates:
            if _same(one.token, given):
                return one.name
        raise StatementError(394400, "08001", "Programmatic access token is invalid.")

    def _oauth(self, data: Mapping[str, object]) -> str:
        given = data.get("TOKEN")
        for one in self._users.values():
            if _same(one.oauth, given):
                return one.name
        if isinstance(given, str) and given.startswith("expired"):
            raise StatementError(390318, "08001", "OAuth access token expired. ")
        raise StatementError(390303, "08001", "Invalid OAuth access token. ")

    def _key_pair(self, data: Mapping[str, object]) -> str:
        refused = StatementError(390144, "08001", "JWT token is invalid. ")
        user = self._user(data)
        if user is None or user.public_key_pem is None:
            raise refused
        try:
            claims = jwt.decode(
                str(data.get("TOKEN") or ""),
                user.public_key_pem,
                algorithms=["RS256"],
                options={"require": ["iss", "sub", "exp"], "verify_aud": False},
            )
        except jwt.InvalidTokenError as exc:
            raise refused from exc
        if str(claims["sub"]).upper().split(".")[-1] != user.name.upper():
            raise refused
        return user.name


def _same(expected: str | None, given: object) -> bool:
    return (
        expected is not None
        and isinstance(given, str)
        and hmac.compare_digest(expected.encode(), given.encode())
    )
