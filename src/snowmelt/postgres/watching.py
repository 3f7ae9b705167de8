"""How far the server is with an index that another session builds."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from snowmelt.errors import SnowmeltError
from snowmelt.ports import Building, OnBuilding
from snowmelt.postgres.connect import Server
from snowmelt.postgres.queries import query

LOOK_SECONDS = 1.0
"""Until the first look, and between two."""


@contextmanager
def watched(server: Server, pid: int, name: str, tell: OnBuilding) -> Iterator[None]:
    """Tell from time to time how far the backend `pid` is, by a connection of its own, until the block ends.

    What can't be seen is not told: it keeps nobody from building.
    """
    ended = threading.Event()
    thread = threading.Thread(target=_watch, args=(server, pid, name, tell, ended), daemon=True)
    tell(Building(name))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _watch(server: Server, pid: int, name: str, tell: OnBuilding, ended: threading.Event) -> None:
    if ended.wait(LOOK_SECONDS):
        return
    try:
        with server.connect() as connection:
            while not ended.is_set():
                row = connection.execute(query("build_progress"), {"pid": pid}).fetchone()
                if row is not None:
                    tell(Building(name, row[0], row[1]))
                ended.wait(LOOK_SECONDS)
    except (SnowmeltError, psycopg.Error):
        return
