"""Other movers, each in an environment of its own: what they need is at odds with each other and with snowmelt."""

from __future__ import annotations

import json
import os
import subprocess
import time
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rounds import WayFailed
from benchmarks.warehouse import DATABASE, FIELDS, SCHEMA
from snowmelt.standin.server import StandIn

# snowflake-sqlalchemy 1.11 does not load with SQLAlchemy 2.1.
DLT = (
    "dlt[postgres,sql_database]==1.31.0",
    "snowflake-sqlalchemy==1.11.1",
    "snowflake-connector-python==4.8.1",
    "sqlalchemy==2.0.*",
    "pyarrow",
    "adbc-driver-postgresql==1.13.0",
    "adbc-driver-manager==1.13.0",
)
# The last wheel that has the program in it.
SLING = ("sling-linux-amd64==1.4.11",)
PEER_SCHEMA = "peer"
_SECONDS = 600


def environment(folder: Path, name: str, packages: Sequence[str]) -> Path:
    """The Python of an environment with the packages, made if it is not there. Raises WayFailed."""
    home = folder / name
    python = home / "bin" / "python"
    if not (home / "complete").exists():
        venv.create(home, with_pip=True, clear=True)
        _run([str(python), "-m", "pip", "install", "-qq", *packages], "pip")
        (home / "complete").touch()
    return python


@dataclass(frozen=True, slots=True)
class Dlt:
    """dlt with snowflake-sqlalchemy: its default way, or another backend and file format."""

    folder: Path
    standin: StandIn
    dsn: str
    table: str
    backend: str = "sqlalchemy"
    file_format: str | None = None

    def prepare(self) -> Path:
        """Install it; its Python. Raises WayFailed."""
        return environment(self.folder, "dlt", DLT)

    def move(self) -> float:
        """Seconds of the pipeline's run. Raises WayFailed."""
        given = {
            "login": self.standin.login(),
            "database": DATABASE,
            "schema": SCHEMA,
            "table": self.table.lower(),
            "columns": [(one.name.lower(), one.type) for one in FIELDS],
            "backend": self.backend,
            "file_format": self.file_format,
            "dsn": self.dsn,
            "dataset": PEER_SCHEMA,
            "folder": str(self.folder / "dlt-pipelines"),
        }
        more = {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR"}
        said = _run([str(self.prepare()), "-c", _DLT], "dlt", stdin=json.dumps(given), more=more)
        return float(said.splitlines()[-1])

    @property
    def target(self) -> str:
        return f"{PEER_SCHEMA}.{self.table.lower()}"


@dataclass(frozen=True, slots=True)
class Sling:
    """Sling, which reads through its driver here."""

    folder: Path
    standin: StandIn
    dsn: str
    table: str

    def prepare(self) -> Path:
        """Install it; its program. Raises WayFailed."""
        home = environment(self.folder, "sling", SLING).parent.parent
        for program in home.glob("lib/*/site-packages/sling_*/bin/sling-*"):
            return program
        raise WayFailed("Sling's wheel has no program in it")

    def move(self) -> float:
        """Seconds of the whole program. Raises WayFailed."""
        login = self.standin
        more = {
            "SOURCE": f"snowflake://{login.user}:{login.password}@{login.host}:{login.port}/{DATABASE}"
            f"?schema={SCHEMA}&account={login.account}&protocol=http&use_bulk=false",
            "TARGET": f"{self.dsn}?sslmode=disable",
            "SLING_HOME_DIR": str(self.folder / "sling-home"),
            "SLING_DISABLE_TELEMETRY": "TRUE",
        }
        stream = ["--src-stream", f"{SCHEMA}.{self.table}", "--tgt-object", self.target]
        command = [str(self.prepare()), "run", "--src-conn", "SOURCE", "--tgt-conn", "TARGET"]
        started = time.perf_counter()
        _run([*command, *stream, "--mode", "full-refresh"], "Sling", more=more)
        return time.perf_counter() - started

    @property
    def target(self) -> str:
        return f"{PEER_SCHEMA}.sling"


def _run(
    command: Sequence[str],
    name: str,
    *,
    stdin: str = "",
    more: Mapping[str, str] | None = None,
) -> str:
    """What a program prints. Raises WayFailed with the last line of what it complains of."""
    try:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            env={**os.environ, **(more or {})},
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WayFailed(f"{name}: {type(error).__name__} after at most {_SECONDS} s") from error
    if done.returncode != 0:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        telling = [line for line in lines if "error" in line.lower()] or lines or ["no word"]
        raise WayFailed(f"{name} ended with {done.returncode}: {telling[-1].strip()[:200]}")
    return done.stdout


# Columns are given, not reflected: the dialect asks for columns that the stand-in's INFORMATION_SCHEMA has not.
_DLT = """
import json, sys, time
import dlt
import sqlalchemy as sa
from dlt.sources.sql_database import sql_table

given = json.load(sys.stdin)
types = {
    "NUMBER(38,0)": sa.Numeric(38, 0), "NUMBER(18,2)": sa.Numeric(18, 2), "VARCHAR": sa.String(),
    "TIMESTAMP_NTZ(9)": sa.DateTime(), "TIMESTAMP_TZ(9)": sa.DateTime(timezone=True),
    "DATE": sa.Date(), "BOOLEAN": sa.Boolean(), "FLOAT": sa.Float(),
}
metadata = sa.MetaData()
sa.Table(given["table"], metadata, *[sa.Column(name, types[type]) for name, type in given["columns"]])
login = given["login"]
engine = sa.create_engine(
    "snowflake://{user}:{password}@{host}:{port}/{{database}}/{{schema}}?account={account}"
    .format(**login).format(**given),
    connect_args={"protocol": "http"},
)
pipeline = dlt.pipeline(
    "wire" + str(time.time_ns()), pipelines_dir=given["folder"], dataset_name=given["dataset"],
    destination=dlt.destinations.postgres(given["dsn"]),
)
rows = sql_table(
    engine, table=given["table"], metadata=metadata, backend=given["backend"],
    reflection_level="full_with_precision",
)
started = time.perf_counter()
pipeline.run(rows, loader_file_format=given["file_format"]).raise_on_failed_jobs()
print(time.perf_counter() - started)
pipeline.drop()
"""
