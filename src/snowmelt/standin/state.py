"""The whole server's state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from snowmelt.standin.engine import Engine, HistoryRule
from snowmelt.standin.faults import FaultBox
from snowmelt.standin.logged_in import Sessions
from snowmelt.standin.logins import StandInUser, Users
from snowmelt.standin.queries import Queries, Rules
from snowmelt.standin.results import Sizes
from snowmelt.standin.stats import Counts


@dataclass(frozen=True, slots=True)
class Settings:
    """How a server is started; see `StandIn.start`."""

    folder: str | None = None
    rows_per_chunk: int = 50_000
    inline_rows: int = 1_000
    users: Sequence[StandInUser] = (StandInUser("snowmelt", password="melt"),)
    compact: bool = False
    history: bool = True
    history_rows: int = 5_000_000
    require_warehouse: bool = False
    ping_pong_seconds: float = 5.0


class State:
    """Everything that requests share."""

    def __init__(self, settings: Settings) -> None:
        folder = Path(settings.folder) if settings.folder is not None else None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self.ping_pong_seconds = settings.ping_pong_seconds
        self.engine = Engine(folder, HistoryRule(settings.history, settings.history_rows))
        self.users = Users(settings.users)
        self.faults = FaultBox()
        self.counts = Counts()
        self.sessions = Sessions(self.engine)
        self.queries = Queries(
            self.engine,
            self.faults,
            Rules(
                Sizes(settings.inline_rows, settings.rows_per_chunk),
                settings.compact,
                settings.require_warehouse,
            ),
        )
