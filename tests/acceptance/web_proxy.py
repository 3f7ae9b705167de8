"""A proxy as companies have: it tunnels by CONNECT, and names mean something to it alone."""

from __future__ import annotations

import socket
import socketserver
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self


class WebProxy:
    """Tunnels to the one server that it knows, whatever host is asked for. `asked` has the hosts."""

    def __init__(self, host: str, port: int) -> None:
        self.asked: list[str] = []
        self._server = _Listening(("127.0.0.1", 0), _Tunnel)
        self._server.behind = host, port
        self._server.asked = self.asked
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._serving = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._serving.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._serving.join()


class _Listening(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    behind: tuple[str, int]
    asked: list[str]


class _Tunnel(socketserver.StreamRequestHandler):
    server: _Listening

    def handle(self) -> None:
        method, place, _ = self.rfile.readline().decode().split()
        while self.rfile.readline().strip():
            pass
        self.server.asked.append(place)
        if method != "CONNECT":
            self.wfile.write(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n")
            return
        with socket.create_connection(self.server.behind) as behind:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            there = threading.Thread(target=_forward, args=(behind, self.connection), daemon=True)
            there.start()
            _forward(self.connection, behind)
            there.join()


def _forward(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while data := one.recv(65_536):
            other.sendall(data)
    for end in (one, other):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
