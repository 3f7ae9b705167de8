"""What workers work with: the tables of a run, and the sessions of a worker thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field

from snowmelt.deadline import Pace
from snowmelt.model import LoadTable
from snowmelt.ports import Claims, EmbeddedSource, Loads, OpenSource, Source, Target


@dataclass(frozen=True, slots=True)
class Hands:
    """What one worker thread works with: a session of its own to one ledger and target.

    `rest` closes it until it is used again; `interrupt`, from another thread, ends what it is doing.
    """

    claims: Claims
    loads: Loads
    target: Target
    rest: Callable[[], None]
    interrupt: Callable[[], None]


@dataclass(slots=True)
class TableWork:
    """A table of the run and what is known of its progress in this process."""

    table: LoadTable
    database: str
    open_source: OpenSource
    slots: threading.Semaphore = field(init=False)
    finishing: threading.Lock = field(default_factory=threading.Lock)
    closed: bool = False
    pace: Pace = field(default_factory=Pace)

    def __post_init__(self) -> None:
        self.slots = threading.Semaphore(self.table.job.parallel_threads)


OpenHands = Callable[[str], AbstractContextManager[Hands]]
"""Opens the sessions of a worker thread to the ledger and target in the database of that name."""


class Kit:
    """The sessions of one worker thread, opened when first needed and closed together."""

    def __init__(self, open_hands: OpenHands, stack: ExitStack) -> None:
        self._open_hands = open_hands
        self._stack = stack
        self._hands: dict[str, Hands] = {}
        self._sources: dict[str, Source] = {}

    def hands(self, database: str) -> Hands:
        if database not in self._hands:
            self._hands[database] = self._stack.enter_context(self._open_hands(database))
        return self._hands[database]

    def rest(self, database: str) -> None:
        """Close the session to a database until it is used again."""
        if database in self._hands:
            self._hands[database].rest()

    def source(self, work: TableWork) -> Source:
        name = work.table.job.source_name
        if name not in self._sources:
            source = work.open_source()
            self._stack.callback(source.close)
            self._sources[name] = source
        return self._sources[name]

    def interrupt(self) -> None:
        """From another thread: end what is done in the sessions to targets, and in sources of this process.
        Queries at a server have to be cancelled there."""
        for hands in list(self._hands.values()):
            hands.interrupt()
        for source in list(self._sources.values()):
            if isinstance(source, EmbeddedSource):
                source.interrupt()
