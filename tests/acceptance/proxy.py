"""A way to a server that can be closed, or swallow what is sent."""

from __future__ import annotations

import selectors
import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo


class Proxy:
    """Forwards TCP connections to a server. `close_down` resets them and refuses others, as where the server is
    stopped; `swallow` keeps all of them open and forwards nothing, as a network that is gone."""

    def __init__(self, host: str, port: int) -> None:
        self._place = host, port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._swallows = threading.Event()
        self._ended = threading.Event()
        self._accepting = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close_down()

    def close_down(self) -> None:
        self._ended.set()
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for pair in self._pairs:
            for one in pair:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def of(self, dsn: str) -> str:
        """The way to the same database through here."""
        return make_conninfo(dsn, host="127.0.0.1", hostaddr="127.0.0.1", port=self.port)

    @classmethod
    def before(cls, dsn: str) -> Self:
        parts = conninfo_to_dict(dsn)
        return cls(str(parts["host"]), int(parts["port"] or 5432))

    def swallow(self) -> None:
        self._swallows.set()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.create_connection(self._place)
            self._pairs.append((client, server))
            threading.Thread(target=self._forward, args=(client, server), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        with selectors.DefaultSelector() as selector, suppress(OSError):
            for one, other in ((client, server), (server, client)):
                selector.register(one, selectors.EVENT_READ, (one, other))
            while not self._ended.is_set():
                for key, _ in selector.select(0.2):
                    one, other = key.data
                    if self._swallows.is_set():
                        self._ended.wait()
                    data = one.recv(65_536)
                    if not data:
                        raise ConnectionResetError
                    other.sendall(data)
        self._end(client, server)

    def _end(self, client: socket.socket, server: socket.socket) -> None:
        for one in (client, server):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
