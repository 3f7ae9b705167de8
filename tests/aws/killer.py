"""Ends invocations at random: some are killed, some stand still until their time is up."""

from __future__ import annotations

import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import psutil
import psycopg

from tests.aws.sites import Site

_LONGEST_PAUSE_SECONDS = 2.0
_CHUNKS = "SELECT count(*) FROM migration_status.chunk WHERE completed_at IS NOT NULL"
_ENDED = "SELECT FROM migration_status.run WHERE ending = 'completed'"


class Killer:
    """Beside a run, for as long as the block lasts. The same seed chooses the same pauses and signals.

    After two strikes without a chunk completed in between it waits for one: what makes no progress is given up
    by design.
    """

    def __init__(self, site: Site, seed: int, *, kills: int = 4, stops: int = 2) -> None:
        self._site = site
        self._random = random.Random(seed)
        self._left = [signal.SIGKILL] * kills + [signal.SIGSTOP] * stops
        self._random.shuffle(self._left)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._strike, name="killer")
        self.struck: Counter[signal.Signals] = Counter()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _strike(self) -> None:
        chunks, in_vain = 0, 0
        while self._left and not self._over.wait(self._random.uniform(0.2, _LONGEST_PAUSE_SECONDS)):
            now = self._completed()
            in_vain = 0 if now > chunks else in_vain
            if in_vain == 2:
                continue
            if self._send(self._left[-1]):
                chunks, in_vain = now, in_vain + 1
                self.struck[self._left.pop()] += 1

    def _send(self, number: signal.Signals) -> bool:
        running = [one for one in self._site.machine.function.processes() if _runs(one)]
        if not running:
            return False
        try:
            self._random.choice(running).send_signal(number)
        except psutil.NoSuchProcess:
            return False
        return True

    def _completed(self) -> int:
        try:
            count: int = self._site.database.value(_CHUNKS)
        except psycopg.errors.UndefinedTable:
            return 0
        return count


@contextmanager
def killed_at_the_end(site: Site) -> Iterator[threading.Event]:
    """Kills the function as soon as the ledger has a run as completed, which is before it can answer, or nearly.

    The event tells whether it was.
    """
    over, struck = threading.Event(), threading.Event()

    def strike() -> None:
        with site.database.connect() as connection:
            while not over.wait(0.001):
                try:
                    found = connection.execute(_ENDED).fetchone()
                except psycopg.errors.UndefinedTable:
                    continue
                if found is not None:
                    for process in site.machine.function.processes():
                        process.kill()
                        struck.set()
                    return

    thread = threading.Thread(target=strike, name="killer at the end")
    thread.start()
    try:
        yield struck
    finally:
        over.set()
        thread.join()


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
