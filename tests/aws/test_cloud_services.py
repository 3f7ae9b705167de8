"""Config and secrets from services over HTTP, for the function and for the command on a laptop."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.acceptance.processes import by_day, minutes
from tests.aws.emulator import BINARY, function
from tests.aws.ministack import Ministack
from tests.support import Database, config_for, snowmelt, write_config

pytestmark = pytest.mark.skipif(
    not BINARY.exists(),
    reason="what stands in for AWS is not there: make .venv-aws/.ready",
)
BUCKET = "configs-of-cloud-services"


@pytest.fixture
def services(cloud: Ministack) -> Mapping[str, str]:
    """The environment in which a process finds the account."""
    return {
        "AWS_ENDPOINT_URL": cloud.url,
        "AWS_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }


def client(services: Mapping[str, str], name: str) -> Any:
    """A client of a test's own."""
    return boto3.client(
        name,
        endpoint_url=services["AWS_ENDPOINT_URL"],
        region_name=services["AWS_REGION"],
        aws_access_key_id=services["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=services["AWS_SECRET_ACCESS_KEY"],
    )


def test_a_config_of_s3_a_secret_and_a_parameter(
    tmp_path: Path, database: Database, services: Mapping[str, str]
) -> None:
    """At DEBUG, where the client would log whole answers."""

    source = minutes(tmp_path / "a.duckdb", 1_000, "t")
    document = config_for(database, source, {**by_day("t"), "target": "${ssm:/target}"})
    document["postgres"] = {"dsn": "${secret:target#dsn}"}
    document["sources"] += [  # type: ignore[operator]
        {"source_name": "off", "connection": "${secret:none}", "tables": []}
    ]
    with (
        closing(client(services, "secretsmanager")) as secrets,
        closing(client(services, "ssm")) as parameters,
        closing(client(services, "s3")) as s3,
    ):
        secrets.create_secret(Name="target", SecretString=json.dumps({"dsn": database.dsn}))
        parameters.put_parameter(Name="/target", Value="märz", Type="SecureString")
        s3.create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )
        s3.put_object(Bucket=BUCKET, Key="a/config.json", Body=json.dumps(document).encode())
    password = database.dsn.split(":")[2].split("@")[0]
    env = {**services, "SNOWMELT_CONFIG": f"s3://{BUCKET}/a/config.json"}
    levels = {"AWS_LAMBDA_LOG_LEVEL": "DEBUG", "AWS_LAMBDA_LOG_FORMAT": "JSON"}
    with function(tmp_path, environment={**env, **levels}) as up:
        body = up.invoke({"source_name": "s"})["body"]
        wrong = up.invoke({"source_name": "off"})
        log = up.log.read_text(encoding="utf-8")
    assert (body["status"], body["rows"], body["tables"][0]["table"]) == (
        *("completed", 1_000),
        "public.märz",
    )
    assert wrong["errorType"] == "ConfigError"
    assert "sources[1].connection (line 1): the secret none is not there" in wrong["errorMessage"]
    assert password not in log + json.dumps(wrong)
    # The same file beside the command.
    path = write_config(tmp_path, document)
    for arguments in (("status", "--debug"), ("plan", "s", "--debug")):
        done = snowmelt(path, *arguments, env={**os.environ, **services})
        assert password not in done.stdout + done.stderr
    assert "public.märz" in done.stdout
