"""The server as an ASGI application."""

from __future__ import annotations

from starlette.applications import Starlette

from snowmelt.standin.control import Control
from snowmelt.standin.protocol import Clients
from snowmelt.standin.state import Settings, State


def application(settings: Settings) -> Starlette:
    """A server of its own, with its own databases, users and faults."""
    state = State(settings)
    return Starlette(routes=[*Clients(state).routes, *Control(state).routes])
