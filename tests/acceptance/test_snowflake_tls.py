"""Snowflake behind a company's proxy that looks into TLS: the real connector through it, and messages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from snowmelt.config import load_config
from snowmelt.errors import ConnectionLost, RunError, SnowmeltError, UsageError
from snowmelt.origin import Origins
from snowmelt.sources.snowflake.http import BUNDLES, OPENSSL_BUNDLE
from snowmelt.standin.server import StandIn
from tests.acceptance.certificates import Authority
from tests.acceptance.snowflake import (
    expected_minutes,
    migrate,
    minutes,
    snowflake_config,
    target_minutes,
)
from tests.acceptance.web_proxy import WebProxy
from tests.support import Database

ACCOUNT = "account.invalid"
"""A host that the proxy alone knows."""
ROWS = 9_000
VARIABLES = (*BUNDLES, OPENSSL_BUNDLE, "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "ALL_PROXY")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.new(tmp_path_factory.mktemp("ca"), "proxy of a company")


@pytest.fixture(scope="module")
def standin(authority: Authority) -> Iterator[StandIn]:
    pair = authority.issue("account", ACCOUNT)
    with StandIn.start(rows_per_chunk=1_000, certificate=(pair.certificate, pair.key)) as server:
        minutes(server, "T", ROWS)
        yield server


@pytest.fixture
def proxy(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebProxy]:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    # What the product sets is taken back with it.
    monkeypatch.setenv(BUNDLES[0], "")
    with WebProxy(standin.host, standin.port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        yield proxy


def config_of(folder: Path, database: Database, standin: StandIn, host: str = ACCOUNT) -> Path:
    table = {"source": "T", "chunking_columns": ["id"], "batch_size": 3_000}
    account = {"host": host, "protocol": "https"}
    return snowflake_config(folder, database, standin, table, account=account, parallel_threads=2)


@pytest.mark.parametrize("variable", [BUNDLES[0], OPENSSL_BUNDLE])
def test_logins_queries_and_downloads_go_through(
    database: Database,
    standin: StandIn,
    authority: Authority,
    proxy: WebProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    monkeypatch.setenv(variable, str(authority.certificate))
    standin.reset_stats()
    migrate(config_of(tmp_path, database, standin))
    assert target_minutes(database, "T") == expected_minutes(ROWS)
    assert set(proxy.asked) == {f"{ACCOUNT}:{standin.port}"}
    assert standin.stats().chunk_gets > 0


def failure(config: Path) -> SnowmeltError:
    with pytest.raises(SnowmeltError) as caught:
        Origins(load_config(config, environ={})).open("s")()
    assert "http" not in str(caught.value).replace("HTTPS_PROXY", "")
    return caught.value


def test_a_ca_that_nobody_named(
    database: Database, standin: StandIn, proxy: WebProxy, tmp_path: Path
) -> None:
    told = failure(config_of(tmp_path, database, standin))
    assert type(told) is RunError
    assert "is not of a CA that is trusted here" in told.what
    assert "REQUESTS_CA_BUNDLE" in (told.remedy or "")


def test_a_certificate_of_another_host(
    database: Database,
    standin: StandIn,
    authority: Authority,
    proxy: WebProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(BUNDLES[0], str(authority.certificate))
    told = failure(config_of(tmp_path, database, standin, "other.invalid"))
    assert type(told) is RunError
    assert "is of another host" in told.what


def test_a_bundle_that_is_not_there(
    database: Database,
    standin: StandIn,
    proxy: WebProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(BUNDLES[0], "/nowhere/ca.pem")
    told = failure(config_of(tmp_path, database, standin))
    assert type(told) is UsageError
    assert told.what == "REQUESTS_CA_BUNDLE names /nowhere/ca.pem, which is not there"


def test_a_proxy_that_is_away(
    database: Database,
    standin: StandIn,
    proxy: WebProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:s3cret@127.0.0.1:1")
    monkeypatch.setattr("snowmelt.sources.snowflake.login.LOGIN_SECONDS", 1)
    told = failure(config_of(tmp_path, database, standin))
    assert type(told) is ConnectionLost
    assert "does the proxy of HTTPS_PROXY let it through?" in (told.remedy or "")
    assert "s3cret" not in str(told)
