"""Two processes on one table: side by side, begun at once, and one that outlives its lease."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from snowmelt.demo.proof import prove
from tests.acceptance.processes import (
    Background,
    Gate,
    by_day,
    create_target,
    minutes,
    run_state,
    wait_until,
)
from tests.support import Database, config_for, duckdb_file, snowmelt, write_config

ROWS, CHUNKS = 14_400, 11  # ten days, and the chunk of NULL keys
LARGE_ROWS = 100_000


def assert_exact(source: Path, database: Database) -> None:
    proof = prove(source, "T", database.dsn, "public", "T")
    assert proof.agrees, str(proof)
    attempted = database.execute(
        "SELECT sum(rows_written), bool_and(completed_at IS NOT NULL) FROM migration_status.chunk"
    )
    assert attempted == [(proof.source_rows, True)]


@pytest.mark.parametrize("primary_key", [True, False])
def test_two_processes_share_the_chunks(
    database: Database, tmp_path: Path, primary_key: bool
) -> None:
    source = minutes(tmp_path / "source.duckdb", ROWS, "T")
    create_target(database, "T", primary_key=primary_key)
    # No worker is so slow that its chunk is taken for left.
    document = config_for(database, source, by_day("T"), parallel_threads=1, lease_seconds=600)
    config = write_config(tmp_path, document)

    with Gate.before(database, "T") as gate, Background(config, "migrate", "--json") as first:
        gate.holds(1)
        with Background(config, "migrate", "--json") as second:
            gate.holds(2)
            gate.open()
            ends = (first.end(), second.end())

    assert [end.code for end in ends] == [0, 0], [end.err for end in ends]
    reports = [json.loads(end.out) for end in ends]
    assert reports[0]["run_id"] == reports[1]["run_id"]
    assert [report["status"] for report in reports] == ["completed", "completed"]
    assert_exact(source, database)
    worked = database.execute("SELECT attempts, worker_id FROM migration_status.chunk")
    assert [attempts for attempts, _ in worked] == [1] * CHUNKS
    assert len({worker for _, worker in worked}) == 2


def test_two_processes_that_begin_at_once_do_not_both_load(
    database: Database, tmp_path: Path
) -> None:
    """Both have planned a new run when the first of them is recorded."""
    source = minutes(tmp_path / "source.duckdb", ROWS, "T", "OTHER")
    create_target(database, "T")
    config = write_config(tmp_path, config_for(database, source, by_day("T"), by_day("OTHER")))
    assert snowmelt(config, "migrate", "--table", "OTHER").returncode == 0
    database.execute("DELETE FROM migration_status.run")
    document = config_for(database, source, by_day("T"))
    config = write_config(tmp_path, document)

    with database.connect() as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE migration_status.run IN SHARE MODE")
        first, second = Background(config, "migrate"), Background(config, "migrate")
        with first, second:
            wait_until(
                lambda: database.value("SELECT count(*) FROM pg_locks WHERE NOT granted") == 2,
                "both processes to have planned",
            )
            other.execute("COMMIT")
            ends = (first.end(), second.end())

    done, refused = sorted(ends, key=lambda end: end.code)
    assert (done.code, refused.code) == (0, 1), [end.err for end in ends]
    assert "Traceback" not in refused.err
    assert database.value("SELECT count(*) FROM migration_status.run") == 1
    run_id, ending = run_state(database)
    assert ending == "completed"
    assert str(run_id) in refused.err
    assert_exact(source, database)


@pytest.mark.parametrize("continued", ["before", "after"])
def test_a_paused_worker_neither_blocks_nor_commits(
    database: Database, tmp_path: Path, continued: str
) -> None:
    """Stopped in mid-COPY, rows in a unique index; continued before or after its successor's commit."""
    source = duckdb_file(
        tmp_path / "source.duckdb",
        "CREATE TABLE T AS SELECT range AS id, md5(range::VARCHAR) || repeat('x', 400) AS note "
        f"FROM range({LARGE_ROWS})",
    )
    database.execute('CREATE TABLE "T" (id bigint PRIMARY KEY, note text)')
    config = write_config(tmp_path, config_for(database, source, {"source": "T"}))

    with Gate.before(database, "T") as gate, Background(config, "migrate") as paused:
        (backend,) = gate.holds(1)
        paused.send(signal.SIGSTOP)
        gate.open()
        wait_until(
            lambda: database.execute(
                "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event = 'ClientRead'",
                [backend],
            ),
            "the server to have read all that was sent",
        )
        assert database.value(
            "SELECT tuples_processed > 0 FROM pg_stat_progress_copy WHERE pid = %s", [backend]
        )
        gate.close()
        with Background(config, "migrate", "--json") as successor:
            gate.holds(1)
            assert not database.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [backend])
            if continued == "before":
                paused.send(signal.SIGCONT)
                wait_until(
                    lambda: database.execute(
                        "SELECT 1 FROM migration_status.worker WHERE claims = '{}' AND "
                        "heartbeat_at > (SELECT max(started_at) FROM migration_status.worker) "
                        "AND started_at < (SELECT max(started_at) FROM migration_status.worker)"
                    ),
                    "the paused worker to find that its claim is lost",
                )
            gate.open()
            succeeded = successor.end()
        assert succeeded.code == 0, succeeded.err
        paused.send(signal.SIGCONT)
        ended = paused.end()

    assert json.loads(succeeded.out)["status"] == "completed"
    assert "Traceback" not in ended.err
    assert ended.code == 0, ended.err
    assert_exact(source, database)
    ((attempts,),) = database.execute("SELECT attempts FROM migration_status.chunk")
    assert attempts == 2
