"""Killed while indexes are dropped and built, tables swapped and taken back: nothing of a table is lost.

`SNOWMELT_KILL_ROUNDS` sets how often, `SNOWMELT_KILL_SEED` repeats a sequence.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from snowmelt.demo.postgres import LocalPostgres
from tests.acceptance.nights import NOON, Nights
from tests.support import Database, command

ROUNDS = int(os.environ.get("SNOWMELT_KILL_ROUNDS", "4"))
SEED = int(os.environ.get("SNOWMELT_KILL_SEED", str(random.randrange(1 << 32))))
ROWS = 20_000
HOUSE = """
    CREATE TABLE "T" (id bigint, seen timestamp, note text, number serial);
    ALTER TABLE "T" ADD CONSTRAINT the_key PRIMARY KEY (id);
    ALTER TABLE "T" ADD CONSTRAINT two UNIQUE (note, id);
    CREATE INDEX three ON "T" (seen, note);
    CREATE INDEX four ON "T" (lower(note)) WHERE id > 5;
    CREATE ROLE reader; GRANT SELECT ON "T" TO reader;
    COMMENT ON TABLE "T" IS 'the table';
"""
INDEXES: Any = """SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid), indisprimary
                  FROM pg_index WHERE indrelid = '"T"'::regclass AND indisvalid ORDER BY 1"""
REST: Any = """SELECT relacl::text, obj_description(oid),
                      pg_get_serial_sequence('"T"', 'number') FROM pg_class WHERE oid = '"T"'::regclass"""
IN_THE_LEDGER: Any = """SELECT name FROM migration_status.post_data
                        WHERE dropped_at IS NOT NULL AND attached_at IS NULL"""


class House:
    """A table with all that belongs to it, on a server that may be stopped."""

    def __init__(self, server: LocalPostgres, folder: Path) -> None:
        self.server = server
        self.database = Database("house", server.create_database("house"))
        self.dice = random.Random(SEED)
        self.database.execute(HOUSE)
        self.nights = Nights(self.database, folder, batch_size=5_000, parallel_threads=2)
        self.nights.run(f"INSERT INTO T SELECT i, {NOON}, 'n' || i FROM range({ROWS}) t(i)")
        self.indexes = self.database.execute(INDEXES)
        self.rest = self.database.execute(REST)

    def kill(self, config: Path, *arguments: str) -> None:
        """Run a command, and end it or the server at a random moment."""
        with config.with_name("log").open("ab") as log:
            process = subprocess.Popen(command(config, *arguments), stdout=log, stderr=log)
        self._wait_for_a_start(process)
        time.sleep(self.dice.uniform(0, 0.8))
        if self.dice.random() < 0.6:
            process.send_signal(signal.SIGKILL)
        else:
            self.server.stop("immediate")
            process.send_signal(signal.SIGKILL)
            self.server.restart()
        process.wait()

    def _wait_for_a_start(self, process: subprocess.Popen[bytes]) -> None:
        sessions: Any = """SELECT count(*) FROM pg_stat_activity WHERE datname = 'house'
                           AND pid <> pg_backend_pid() AND backend_type = 'client backend'"""
        deadline = time.monotonic() + 30
        while process.poll() is None and not self.database.value(sessions):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def loses_nothing(self, counts: set[int]) -> None:
        """Rows are the old ones or the new ones, and each index is there or known to the ledger."""
        there = {name for name, _, _ in self.database.execute(INDEXES)}
        try:
            known = {name for (name,) in self.database.execute(IN_THE_LEDGER)}
        except psycopg.errors.UndefinedTable:
            known = set()
        assert there | known == {name for name, _, _ in self.indexes}, SEED
        if counts:
            assert self.database.value('SELECT count(*) FROM "T"') in counts, SEED

    def is_whole(self) -> None:
        assert self.database.execute(INDEXES) == self.indexes, SEED
        assert self.database.execute(REST) == self.rest, SEED
        assert self.nights.loaded() == self.nights.rows(), SEED
        names = "SELECT relname FROM pg_class WHERE relname LIKE 'snowmelt_new%'"
        assert self.database.execute(names) == [], SEED


@pytest.fixture
def house(own_postgres: LocalPostgres, tmp_path: Path) -> House:
    return House(own_postgres, tmp_path)


def _until_done(house: House, settings: dict[str, Any], counts: set[int]) -> None:
    """Killed again and again, then left to end."""
    config = house.nights.config(**settings)
    for _ in range(ROUNDS):
        house.kill(config, "migrate")
        house.loses_nothing(counts)
    for _ in range(3):
        # What a killed process left behind may be waited for: a lease, a backend.
        if house.nights.command("migrate", **settings).returncode == 0:
            break
    house.loses_nothing(counts)


@pytest.mark.parametrize("way", ["swap", "refill"])
def test_killed_while_it_is_replaced(house: House, way: str) -> None:
    nights = house.nights
    nights.migrate(mode="truncate")
    if way == "refill":
        house.database.execute('CREATE MATERIALIZED VIEW depends AS SELECT id FROM "T"')
    settings = {"mode": "replace", "keep_previous_hours": 1 if way == "swap" else 0}
    nights.run(f"INSERT INTO T SELECT i + {ROWS}, {NOON}, 'm' FROM range(50) t(i)")
    _until_done(house, settings, {ROWS, ROWS + 50})
    house.is_whole()


def test_killed_while_indexes_are_away(house: House) -> None:
    settings = {"mode": "truncate", "disable_index": True}
    _until_done(house, settings, set())
    house.is_whole()


def test_killed_while_it_is_rolled_back(house: House) -> None:
    nights = house.nights
    nights.migrate(mode="truncate")
    settings: dict[str, Any] = {"mode": "replace", "keep_previous_hours": 1}
    config = nights.config(**settings)
    nights.run(f"INSERT INTO T SELECT i + {ROWS}, {NOON}, 'm' FROM range(50) t(i)")
    nights.migrate(**settings)
    for _ in range(ROUNDS):
        house.kill(config, "rollback", "T")
        house.loses_nothing({ROWS, ROWS + 50})
    nights.command("rollback", "T", **settings)
    assert house.database.value('SELECT count(*) FROM "T"') == ROWS
    assert house.database.execute(INDEXES) == house.indexes, SEED
    nights.migrate(**settings)
    house.is_whole()
