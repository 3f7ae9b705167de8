"""Sessions by their tokens."""

from __future__ import annotations

import itertools
import secrets
import threading

from snowmelt.standin.engine import Engine
from snowmelt.standin.failures import StatementError
from snowmelt.standin.session import Session

_EXPIRED = StatementError(390112, "08001", "Your session has expired. Please login again.")
_MASTER_EXPIRED = StatementError(
    390114, "08001", "Authentication token has expired.  The user must authenticate again."
)
_UNKNOWN = StatementError(390104, "08001", "User must login again to access the service.")


class Sessions:
    """Every login, by session token and by the master token that renews it; thread-safe."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._tokens: dict[str, Session] = {}
        self._masters: dict[str, Session] = {}
        self._expired: set[str] = set()
        self._dead_masters: set[str] = set()

    def open(self, user: str) -> tuple[Session, str, str]:
        """A new session, its token and its master token."""
        session = Session(self._engine, next(self._numbers), user)
        token, master = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        with self._lock:
            self._tokens[token] = session
            self._masters[master] = session
        return session, token, master

    def find(self, token: str) -> Session:
        """The session of the token; StatementError 390112 if it has expired."""
        with self._lock:
            if token in self._expired:
                raise _EXPIRED
            session = self._tokens.get(token)
        if session is None:
            raise _UNKNOWN
        return session

    def renew(self, master: str) -> tuple[Session, str]:
        """A new token by the master token; StatementError 390114 if that has expired too."""
        with self._lock:
            session = self._masters.get(master)
            if session is None or master in self._dead_masters:
                raise _MASTER_EXPIRED
            token = secrets.token_urlsafe(32)
            self._tokens[token] = session
        return session, token

    def expire(self, *, master: bool) -> None:
        """Every token given out so far has expired."""
        with self._lock:
            self._expired |= set(self._tokens)
            if master:
                self._dead_masters |= set(self._masters)

    def close(self, token: str) -> None:
        with self._lock:
            session = self._tokens.pop(token, None)
            if session is None:
                return
            for tokens in (self._tokens, self._masters):
                for key in [key for key, one in tokens.items() if one is session]:
                    del tokens[key]
        session.close()
