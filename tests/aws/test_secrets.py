"""Secrets and parameters in a config: asked for once, where they are needed, and told nowhere."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError, EndpointConnectionError
from moto import mock_aws

from snowmelt.cloud import Aws
from snowmelt.config import Config, load_config
from snowmelt.config.secrets import read_reference
from snowmelt.errors import ConfigError, RetriableError, UsageError
from snowmelt.identity import identity
from tests.support import write_config

SECRET = "h3rr-Ümlaut ${NO} } #1"
REGION = "eu-central-1"


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An account in memory."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        yield


class Counted:
    """A vault that remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._aws = Aws()

    def secret(self, name: str) -> str:
        self.asked.append(name)
        return self._aws.secret(name)

    def parameter(self, name: str) -> str:
        self.asked.append(name)
        return self._aws.parameter(name)


def stored(name: str, value: object) -> str:
    """A secret; its ARN."""
    text = value if isinstance(value, str) else json.dumps(value)
    client = boto3.client("secretsmanager")
    return str(client.create_secret(Name=name, SecretString=text)["ARN"])


def parameter(name: str, value: str, kind: str = "SecureString") -> None:
    boto3.client("ssm").put_parameter(Name=name, Value=value, Type=kind)


def document(**postgres: object) -> dict[str, Any]:
    return {
        "postgres": {"database": "d", **postgres},
        "sources": [
            {"source_name": "s", "connection": "duckdb:///a.duckdb", "tables": [{"source": "t"}]}
        ],
    }


def password(config: Config) -> str:
    assert config.postgres.password is not None
    return config.postgres.password.get_secret_value()


def loaded(folder: Path, content: dict[str, Any], *names: str) -> Config:
    return load_config(write_config(folder, content), sources=names, environ={})


def problem(folder: Path, content: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, content)
    return str(caught.value)


def test_a_key_of_a_json_secret_a_whole_secret_an_arn_and_a_parameter(tmp_path: Path) -> None:
    arn = stored("db/prod", {"password": SECRET, "port": 5433, "ssl": True})
    stored("whole", SECRET)
    parameter("/snowmelt/password", SECRET)
    parameter("/snowmelt/host", "db.example", "String")
    for written in (
        "${secret:db/prod#password}",
        f"${{secret:{arn}#password}}",
        "${secret:whole}",
        "${ssm:/snowmelt/password}",
    ):
        config = loaded(
            tmp_path,
            document(password=written, host="${ssm:/snowmelt/host}", port="${secret:db/prod#port}"),
        )
        assert password(config) == SECRET
        assert (config.postgres.host, config.postgres.port) == ("db.example", 5433)


def test_references_stand_within_a_text_and_beside_variables(tmp_path: Path) -> None:
    stored("db", {"user": "loader", "password": "p"})
    dsn = "postgresql://${secret:db#user}:${secret:db#password}@${HOST}/d?x=$${secret:db}"
    path = write_config(tmp_path, {**document(), "postgres": {"dsn": dsn}})
    config = load_config(path, environ={"HOST": "h"})
    assert config.postgres.dsn is not None
    assert config.postgres.dsn.get_secret_value() == "postgresql://loader:p@h/d?x=${secret:db}"


def test_each_name_is_asked_for_once_and_only_where_it_is_needed(tmp_path: Path) -> None:
    stored("db", {"user": "u", "password": "p"})
    content = document(user="${secret:db#user}", password="${secret:db#password}")
    content["snowflake"] = {
        "account": "${ssm:/not/there}",
        "user": "${secret:nor-this}",
        "password": "${secret:nor-this#password}",
    }
    content["sources"] += [
        {"source_name": "off", "enabled": False, "tables": [{"source": "${ssm:/off}"}]},
        {"source_name": "other", "tables": [{"source": "t", "source_filter": "${ssm:/other}"}]},
    ]
    path, vault = write_config(tmp_path, content), Counted()
    load_config(path, sources=["s"], environ={}, vault=vault)
    assert vault.asked == ["db"]
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ={}, vault=(all_of := Counted()))
    assert sorted(all_of.asked) == ["/not/there", "/other", "db", "nor-this"]
    places = {one.place for one in caught.value.problems}
    assert {"snowflake.account", "snowflake.user", "snowflake.password"} <= places


def test_a_config_without_references_asks_for_nothing(tmp_path: Path) -> None:
    vault = Counted()
    load_config(write_config(tmp_path, document()), environ={}, vault=vault)
    assert vault.asked == []


def test_what_runs_may_follow_from_a_parameter(tmp_path: Path) -> None:
    parameter("/name", "tonight")
    parameter("/filter", "x > 1")
    content = document()
    content["sources"][0]["source_name"] = "${ssm:/name}"
    content["sources"][0]["tables"][0]["source_filter"] = "${ssm:/filter}"
    (job,) = loaded(tmp_path, content, "tonight").jobs()
    assert (job.source_name, job.source.filter) == ("tonight", "x > 1")


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("${secret:gone}", "the secret gone is not there"),
        ("${ssm:/gone}", "the parameter /gone is not there"),
        ("${secret:json#pasword}", "is a key that the secret does not have"),
        ("${secret:text#password}", "is no JSON object, so it has no keys"),
        ("${secret:json#inner}", "is neither text nor a number"),
        ("${secret:json#nothing}", "is empty"),
        ("${secret:}", "has a ${ that is no variable"),
        ("${secret:json#}", "has a ${ that is no variable"),
        ("${ssm:a b}", "has a ${ that is no variable"),
        ("${vault:x}", "has a ${ that is no variable"),
    ],
)
def test_what_is_wrong_is_told_at_its_place_without_a_value(
    tmp_path: Path, written: str, told: str
) -> None:
    stored("json", {"password": SECRET, "inner": {"a": SECRET}, "nothing": ""})
    stored("text", f"not json {SECRET}")
    text = problem(tmp_path, document(password=written))
    assert "postgres.password (line " in text
    assert told in text
    assert "→" in text
    for part in (SECRET, "inner {", "h3rr"):
        assert part not in text


def answers_with(monkeypatch: pytest.MonkeyPatch, code: str, status: int, message: str) -> None:
    def refuse(self: object, operation: str, parameters: object) -> object:
        response = {
            "Error": {"Code": code, "Message": message},
            "ResponseMetadata": {"HTTPStatusCode": status},
        }
        raise ClientError(response, operation)

    monkeypatch.setattr(BaseClient, "_make_api_call", refuse)


@pytest.mark.parametrize(
    ("code", "message", "remedy"),
    [
        ("AccessDeniedException", "no", "allow secretsmanager:GetSecretValue on it"),
        ("AccessDeniedException", "Access to KMS is not allowed", "allow kms:Decrypt"),
        ("DecryptionFailure", "", "allow kms:Decrypt"),
        ("ExpiredTokenException", "", "log in again"),
        ("InvalidRequestException", "marked for deletion", "look it up in AWS by that code"),
    ],
)
def test_what_aws_refuses_is_told_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, message: str, remedy: str
) -> None:
    answers_with(monkeypatch, code, 400, message)
    text = problem(tmp_path, document(password="${secret:db}"))
    assert remedy in text
    assert code in text


@pytest.mark.parametrize(("code", "status"), [("ThrottlingException", 400), ("Internal", 500)])
def test_what_passes_is_no_problem_of_the_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, status: int
) -> None:
    answers_with(monkeypatch, code, status, "")
    with pytest.raises(RetriableError, match="was not answered for now"):
        loaded(tmp_path, document(password="${ssm:/db}"))


def test_aws_out_of_reach_is_worth_another_try(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object, operation: str, parameters: object) -> object:
        raise EndpointConnectionError(endpoint_url="https://secretsmanager")

    monkeypatch.setattr(BaseClient, "_make_api_call", fail)
    with pytest.raises(RetriableError, match="AWS is not reached"):
        Aws().secret("db")


def test_without_credentials_or_region_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(UsageError) as caught:
        Aws().secret("db")
    assert caught.value.remedy == "set AWS_REGION"


def test_the_region_may_be_that_of_aws_region(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for AWS's own command line; boto3 alone looks at AWS_DEFAULT_REGION."""
    stored("db", "here")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_REGION", REGION)
    assert Aws().secret("db") == "here"


def test_an_arn_is_asked_for_in_its_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    boto3.setup_default_session(region_name=REGION)
    arn = stored("db", "far away")
    boto3.setup_default_session()
    assert arn.split(":")[3] == REGION
    assert Aws().secret(arn) == "far away"
    with pytest.raises(UsageError):
        Aws().secret("db")


def test_a_secret_is_in_no_message_repr_hash_or_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stored("db", {"password": SECRET})
    parameter("/db", SECRET)
    plain = document(password="${secret:db#password}")
    with caplog.at_level(logging.DEBUG):
        config = loaded(tmp_path, plain)
        # One that is wrong where it stands: told as the file has it.
        text = problem(tmp_path, document(password="${ssm:/db}", port="${secret:db#password}"))
    assert "what ${secret:db#password} stands for" in text
    logged = "\n".join(record.getMessage() for record in caplog.records)
    for told in (text, repr(config), str(config), config.model_dump_json(), logged):
        assert "h3rr" not in told
    other = loaded(tmp_path, document(password="another"))
    assert identity(config) == identity(other)


def test_what_can_be_no_name_is_no_reference() -> None:
    reference = read_reference("secret:arn:aws:secretsmanager:eu-central-1:1:secret:db-a#k#y")
    assert reference is not None
    assert (reference.name[-4:], reference.key) == ("db-a", "k#y")
    assert read_reference("ssm:/a#b") is None
