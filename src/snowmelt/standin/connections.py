"""The server's connections, so that one can be broken off without an answer."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from uvicorn.protocols.http.h11_impl import H11Protocol

_OPEN: dict[tuple[str, int], asyncio.Transport] = {}


class Protocol(H11Protocol):
    """HTTP/1.1 that knows which connection a client's address is."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        _OPEN[transport.get_extra_info("peername")[:2]] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        _OPEN.pop(self.transport.get_extra_info("peername")[:2], None)
        super().connection_lost(exc)


def break_off(request: Request) -> None:
    """Close the request's connection now; what is sent afterwards goes nowhere."""
    client: Any = request.client
    transport = _OPEN.get((client.host, client.port))
    if transport is not None:
        transport.abort()
