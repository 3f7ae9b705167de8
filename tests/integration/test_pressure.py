"""A run waits while a real server suffers, holds no chunk meanwhile, and goes on when it is well again."""

from __future__ import annotations

import itertools
import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest

from snowmelt import gate, pressure
from snowmelt.app import Mover
from snowmelt.config import load_config
from snowmelt.demo.place import Place, find_wheel, roomy_temp
from snowmelt.demo.postgres import LocalPostgres
from snowmelt.errors import ConnectionLost
from snowmelt.postgres.connect import Server
from snowmelt.postgres.pressure import PostgresGauge
from snowmelt.pressure import Facts, Pressure, judged
from snowmelt.status import Report, State
from snowmelt.stop import Stop
from tests.acceptance.processes import (
    by_day,
    chunk_states,
    completed,
    create_target,
    minutes,
    wait_until,
)
from tests.integration.paced import Leave, Paced
from tests.support import Database, config_for, write_config

DAYS = 40
KEPT = 128 << 20
SETTINGS = {
    "fsync": "off",
    "max_connections": "24",
    "max_slot_wal_keep_size": "128MB",
    "max_wal_size": "1GB",
}
CLAIMED = (
    "SELECT count(*) FROM migration_status.chunk WHERE token IS NOT NULL AND completed_at IS NULL"
)
SESSIONS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
SAFE_BYTES = "SELECT safe_wal_size FROM pg_replication_slots WHERE slot_name = %s"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def small() -> Iterator[LocalPostgres]:
    """A server with few connections, which keeps little WAL for a slot."""
    with LocalPostgres.temporary(settings=SETTINGS) as server:
        yield server


@pytest.fixture
def database(small: LocalPostgres) -> Database:
    name = f"pressed_{next(_numbers)}"
    return Database(name, small.create_database(name))


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "PRESSURE_SECONDS", 0.1)


class Running:
    """A run in this process beside the test; leaving the block stops it."""

    def __init__(self, database: Database, folder: Path, **table: object) -> None:
        source = minutes(folder / "source.duckdb", DAYS * 1_440, "T")
        document = config_for(database, source, {**by_day("T"), **table}, parallel_threads=4)
        self._config = write_config(folder, document)
        self.stop = Stop()
        self.report: Report | None = None
        self._thread: threading.Thread

    @contextmanager
    def going(
        self, first: Callable[[], object] = int, then: Callable[[], object] = int
    ) -> Iterator[None]:
        self._thread = threading.Thread(target=self._run, args=[Paced(first, then)])
        self._thread.start()
        try:
            yield
        finally:
            self.stop("the test is over")
            self._thread.join(30)

    def _run(self, observer: Paced) -> None:
        with Mover(load_config(self._config)) as mover:
            self.report = mover.run(mover.plan(), observer=observer, stop=self.stop)

    def end(self, seconds: float = 60) -> Report:
        self._thread.join(seconds)
        assert self.report is not None, "the run goes on"
        return self.report


@pytest.fixture
def running(database: Database, tmp_path: Path) -> Running:
    create_target(database, "T")
    return Running(database, tmp_path, max_retry_attempts=1)


def said(caplog: pytest.LogCaptureFixture, action: str = "backing_off") -> list[str]:
    return [
        record.getMessage()
        for record in list(caplog.records)
        if getattr(record, "action", "") == action and record.levelno == logging.WARNING
    ]


def has_said(caplog: pytest.LogCaptureFixture, text: str) -> bool:
    return any(text in line for line in said(caplog))


def says(caplog: pytest.LogCaptureFixture, text: str) -> None:
    wait_until(lambda: has_said(caplog, text), text)


def looked(dsn: str, **parameters: str) -> Facts:
    gauge = PostgresGauge(Server.of(parameters, dsn=dsn))
    try:
        return gauge.look()
    finally:
        gauge.close()


def write_wal(database: Database, segments: int) -> None:
    for _ in range(segments):
        database.execute("SELECT pg_logical_emit_message(false, 'test', 'x')")
        database.execute("SELECT pg_switch_wal()")


@pytest.fixture
def slot(database: Database) -> Iterator[str]:
    """A slot that a few segments of WAL are left for."""
    name = f"of_{database.name}"
    database.execute("SELECT pg_create_physical_replication_slot(%s, true)", [name])
    while database.value(SAFE_BYTES, [name]) > KEPT * pressure.SLOT_SHARE:
        write_wal(database, 1)
    yield name
    drop_slot(database, name)


def drop_slot(database: Database, name: str) -> None:
    database.execute(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s",
        [name],
    )


# --- waiting --------------------------------------------------------------------------------------


def test_a_run_waits_for_a_slot_and_goes_on_when_it_is_safe(
    running: Running, database: Database, slot: str, caplog: pytest.LogCaptureFixture
) -> None:
    with running.going():
        says(
            caplog,
            f"the workers wait before the next chunk: replication slot {slot}, which nothing reads,",
        )
        time.sleep(0.5)
        assert chunk_states(database) == {"pending": DAYS + 1}
        assert database.value(CLAIMED) == 0
        drop_slot(database, slot)
        report = running.end()
    assert (report.state, report.rows) == (State.COMPLETED, DAYS * 1_440)
    assert len(said(caplog)) == 2
    assert "the workers go on" in said(caplog)[1]


@pytest.mark.usefixtures("slot")
def test_a_run_that_waits_hears_a_stop(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    with running.going():
        says(caplog, "the workers wait")
        running.stop("told so")
        stopped = time.monotonic()
        report = running.end()
    assert time.monotonic() - stopped < 5
    assert (report.state, report.rows) == (State.PARTIAL, 0)


def test_for_want_of_connections_one_worker_goes_on_and_the_others_close_theirs(
    running: Running,
    database: Database,
    small: LocalPostgres,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gate, "PRESSURE_SECONDS", 0.0)
    leave = Leave()
    with ExitStack() as others, running.going(then=leave):
        # Four workers, the heartbeat, and who looks.
        wait_until(lambda: database.value(SESSIONS) == 6, "four workers at work")
        while int(SETTINGS["max_connections"]) - _open(small) > 1:
            others.enter_context(psycopg.connect(small.dsn()))
        waits = "all workers but one wait before the next chunk"
        leave.until(lambda: has_said(caplog, waits), waits)
        leave.until(lambda: database.value(SESSIONS) == 3, "three workers to close theirs", but=1)
        before = completed(database)
        leave.until(lambda: completed(database) > before + 2, "the fourth to go on")
        assert database.value(SESSIONS) == 3
        others.close()
        leave.until(lambda: has_said(caplog, "the workers go on"), "the workers to go on")
        wait_until(lambda: database.value(SESSIONS) == 6, "all to come back")
        assert completed(database) < DAYS
        leave.give(DAYS)
        report = running.end()
    assert (report.state, report.rows) == (State.COMPLETED, DAYS * 1_440)


def _open(server: LocalPostgres) -> int:
    found = looked(server.dsn()).connections
    assert found is not None
    return found.open - 1  # without the one that looked


def test_a_run_waits_for_a_standby(
    small: LocalPostgres,
    running: Running,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(pressure, "LAG_BYTES", 2_500_000)
    monkeypatch.setattr(pressure, "CAUGHT_UP_BYTES", 500_000)
    with _standby(small) as standby, psycopg.connect(standby.dsn(), autocommit=True) as replay:
        wait_until(lambda: looked(small.dsn()).lag_bytes == 0, "the standby to be level")
        replay.execute("SELECT pg_wal_replay_pause()")
        with running.going(then=lambda: time.sleep(0.2)):
            says(caplog, "the workers wait before the next chunk: a standby has")
            wait_until(lambda: database.value(CLAIMED) == 0, "the chunks under way")
            held = completed(database)
            time.sleep(0.5)
            assert 0 < completed(database) == held < DAYS
            replay.execute("SELECT pg_wal_replay_resume()")
            report = running.end()
        assert (report.state, report.rows) == (State.COMPLETED, DAYS * 1_440)

        replay.execute("ALTER SYSTEM SET recovery_min_apply_delay = '1s'")
        replay.execute("SELECT pg_reload_conf()")

        def behind() -> bool:
            database.execute("CREATE TABLE IF NOT EXISTS u (id int); INSERT INTO u VALUES (1)")
            return (looked(small.dsn()).lag_seconds or 0) > 0.5

        wait_until(behind, "a delayed standby to tell its delay")


@contextmanager
def _standby(primary: LocalPostgres) -> Iterator[LocalPostgres]:
    folder = Path(tempfile.mkdtemp(prefix="snowmelt-", dir=roomy_temp()))
    folder.chmod(0o711)
    place = Place.of(folder)
    place.install(find_wheel(), "pginstall18")
    try:
        copied = place.run(
            "pg_basebackup", "-D", str(place.home / "data"), "-d", primary.dsn(),
            "-R", "-c", "fast", "--no-sync", env={},
        )  # fmt: skip
        assert copied.returncode == 0, copied.stderr
        password = psycopg.conninfo.conninfo_to_dict(primary.dsn())["password"]
        (place.home / "password").write_text(str(password))
        standby = LocalPostgres.start(folder, settings=SETTINGS)
        try:
            yield standby
        finally:
            standby.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# --- looking --------------------------------------------------------------------------------------


def test_what_a_superuser_sees(small: LocalPostgres, database: Database, slot: str) -> None:
    facts = looked(database.dsn)
    assert facts.slot is not None
    assert (facts.slot.name, facts.slot.kept_bytes, facts.slot.active) == (slot, KEPT, False)
    assert 0 < facts.slot.safe_bytes < KEPT * pressure.SLOT_SHARE
    assert facts.wal is not None
    assert facts.wal.kept == 1 << 30
    assert facts.wal.size >= 8 * (16 << 20)
    assert abs(facts.wal.free - shutil.disk_usage(small.log.parent).free) < 1 << 30
    assert facts.connections is not None
    assert facts.connections.most == 24
    assert (facts.lag_seconds, facts.lag_bytes) == (None, None)


def test_a_slot_that_loses_its_wal_with_the_next_checkpoint_and_one_that_is_lost(
    database: Database, slot: str
) -> None:
    while database.value(SAFE_BYTES, [slot]) > 0:
        write_wal(database, 1)
    reason = judged(Pressure(), looked(database.dsn), 0).reason or ""
    assert "loses WAL that it needs with the next checkpoint" in reason
    database.execute("CHECKPOINT")
    status = "SELECT wal_status FROM pg_replication_slots WHERE slot_name = %s"
    assert database.value(status, [slot]) == "lost"
    assert looked(database.dsn).slot is None


def test_what_a_role_may_not_see_is_asked_once_and_holds_nobody_up(
    small: LocalPostgres, database: Database
) -> None:
    database.execute(f"CREATE ROLE few_{database.name} LOGIN PASSWORD 'melt'")
    database.execute(f"GRANT pg_read_all_settings TO few_{database.name}")
    written = small.log.stat().st_size
    server = Server.of({"user": f"few_{database.name}", "password": "melt"}, dsn=database.dsn)
    gauge = PostgresGauge(server)
    try:
        for _ in range(3):
            facts = gauge.look()
            assert (facts.wal, facts.lag_seconds) == (None, None)
            assert facts.connections is not None
            assert judged(Pressure(), facts, 0).reason is None
    finally:
        gauge.close()
    log = small.log.read_text()[written:]
    assert log.count("permission denied for function pg_ls_waldir") == 1


def test_the_limit_of_a_database_is_shared_and_the_role_s_own_is_not(
    small: LocalPostgres, database: Database
) -> None:
    role = f"some_{database.name}"
    database.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'melt' CONNECTION LIMIT 2")

    def most() -> int:
        found = looked(database.dsn, user=role, password="melt").connections
        assert found is not None
        return found.most

    assert most() == 24 - 3
    database.execute(f"ALTER DATABASE {database.name} CONNECTION LIMIT 7")
    assert most() == 7


def test_a_connection_that_ended_is_opened_again_and_a_server_that_is_away_is_not_seen(
    database: Database,
) -> None:
    gauge = PostgresGauge(Server.of({}, dsn=database.dsn))
    try:
        assert gauge.look().connections is not None
        database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert gauge.look() == Facts()
        assert gauge.look().connections is not None
    finally:
        gauge.close()
    away = Server.of({"port": 1}, dsn=database.dsn)
    with pytest.raises(ConnectionLost):
        away.connect()
    started = time.monotonic()
    assert PostgresGauge(away).look() == Facts()
    assert time.monotonic() - started < 5


# --- tiers ----------------------------------------------------------------------------------------


def test_who_waits_for_a_lock_of_somebody_else_uses_up_no_attempt(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    create_target(database, "T")
    running = Running(database, tmp_path, max_retry_attempts=1, batch_size=DAYS * 1_440)
    _for_the_role(database, "lock_timeout", "50ms")

    def often_blocked() -> bool:
        return sum("chunk 0:" in line for line in said(caplog, "blocked")) > 2

    with database.connect() as other:

        def lock() -> None:
            other.execute('BEGIN; LOCK TABLE "T"')

        with running.going(first=lock):
            wait_until(often_blocked, "a chunk to be blocked more often than it has attempts")
            assert set(chunk_states(database)) <= {"pending", "in_progress"}
            other.execute("COMMIT")
            report = running.end()
    assert (report.state, report.rows) == (State.COMPLETED, DAYS * 1_440)
    told = said(caplog, "blocked")[0]
    assert "table public.T, chunk" in told
    assert "canceling statement due to lock timeout" in told


def test_a_chunk_that_reaches_the_role_s_transaction_timeout_is_cut_smaller(
    running: Running, database: Database
) -> None:
    database.execute(
        "CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF NEW.id = 1000 AND NOT EXISTS "
        "(SELECT FROM migration_status.chunk WHERE retired_at IS NOT NULL) "
        "THEN PERFORM pg_sleep(60); END IF; RETURN NEW; END $$"
    )
    database.execute('CREATE TRIGGER nap BEFORE INSERT ON "T" FOR EACH ROW EXECUTE FUNCTION nap()')
    _for_the_role(database, "transaction_timeout", "2s")
    with running.going():
        report = running.end()
    assert (report.state, report.rows) == (State.COMPLETED, DAYS * 1_440)
    retired = "SELECT error_message FROM migration_status.chunk WHERE retired_at IS NOT NULL"
    assert "transaction timeout" in database.value(retired)


def _for_the_role(database: Database, setting: str, value: str) -> None:
    database.execute(
        f"ALTER ROLE CURRENT_USER IN DATABASE {database.name} SET {setting} = '{value}'"
    )
