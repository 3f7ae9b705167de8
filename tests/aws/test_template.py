"""The templates: what cfn-lint finds, what roles may do, and that the files they name fit together."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from snowmelt.aws.config_file import VARIABLE
from tests.aws.executions import DEFINITION
from tests.aws.templates import FOLDER, MAIN, SCHEDULE, as_list, statements, template

RESOURCES = template()["Resources"]
FUNCTION = RESOURCES["Migrator"]["Properties"]
MACHINE = RESOURCES["Migration"]["Properties"]
# What AWS knows no narrower resource for.
ANYWHERE = {
    "ec2:AssignPrivateIpAddresses",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:UnassignPrivateIpAddresses",
    "logs:CreateLogDelivery",
    "logs:DeleteLogDelivery",
    "logs:DescribeLogGroups",
    "logs:DescribeResourcePolicies",
    "logs:GetLogDelivery",
    "logs:ListLogDeliveries",
    "logs:PutResourcePolicy",
    "logs:UpdateLogDelivery",
}


@pytest.mark.parametrize("path", [MAIN, SCHEDULE], ids=lambda path: path.name)
def test_the_linter_takes_it(path: Path) -> None:
    linter = Path(sys.executable).parent / "cfn-lint"
    command = [str(linter), "--include-checks", "I", "--", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cfn-lint" not in path.read_text(), "a rule is left out"


@pytest.mark.parametrize("path", [MAIN, SCHEDULE], ids=lambda path: path.name)
def test_roles_may_do_no_more_than_they_must(path: Path) -> None:
    for role, statement in statements(template(path)):
        actions = set(as_list(statement["Action"]))
        assert not [action for action in actions if "*" in action], role
        wide = [one for one in as_list(statement["Resource"]) if "*" in json.dumps(one)]
        assert not wide or actions <= ANYWHERE, (role, statement)


def test_roles_may_do_what_they_must() -> None:
    may = {
        (role, action) for role, one in statements(template()) for action in as_list(one["Action"])
    }
    assert {
        ("MigratorRole", "logs:PutLogEvents"),
        ("MigratorRole", "s3:GetObject"),
        ("MigratorRole", "secretsmanager:GetSecretValue"),
        ("MigratorRole", "ssm:GetParameter"),
        ("MigratorRole", "kms:Decrypt"),
        ("MigrationRole", "lambda:InvokeFunction"),
        ("MigrationRole", "states:StartExecution"),
    } <= may


def test_the_machine_may_start_itself_by_the_name_it_has() -> None:
    name = MACHINE["Name"]["Sub"]
    resources = [
        one["Resource"]
        for _, one in statements(template())
        if one["Action"] == "states:StartExecution"
    ]
    assert [resource["Sub"].rpartition(":stateMachine:")[2] for resource in resources] == [name]


def test_what_the_definition_asks_for_is_substituted() -> None:
    asked = set(re.findall(r"\$\{(\w+)\}", DEFINITION.read_text()))
    assert asked == set(MACHINE["DefinitionSubstitutions"])
    assert (FOLDER / MACHINE["DefinitionUri"]) == DEFINITION


def test_a_slice_has_the_time_that_the_machine_waits() -> None:
    migrate = json.loads(DEFINITION.read_text())["States"]["Migrate"]
    assert FUNCTION["Timeout"] == migrate["TimeoutSeconds"] == 900


def test_every_end_but_success_raises_an_alarm() -> None:
    alarms = [one["Properties"] for one in RESOURCES.values() if one["Type"].endswith("::Alarm")]
    named = {alarm["MetricName"] for alarm in alarms}
    assert named == {"ExecutionsFailed", "ExecutionsTimedOut", "ExecutionsAborted"}
    for alarm in alarms:
        assert alarm["Dimensions"] == [{"Name": "StateMachineArn", "Value": {"Ref": "Migration"}}]
        assert (alarm["Statistic"], alarm["Threshold"]) == ("Sum", 1)
        assert alarm["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"
        assert alarm["AlarmActions"]["If"][:2] == ["HasTopic", [{"Ref": "AlarmTopicArn"}]]


def test_every_parameter_and_condition_is_used() -> None:
    for path in (MAIN, SCHEDULE):
        document = template(path)
        text = json.dumps(
            {key: document[key] for key in document if key not in ("Parameters", "Metadata")}
        )
        for name in document["Parameters"]:
            assert f'"Ref": "{name}"' in text or f"${{{name}}}" in text, name
        resources = json.dumps(document["Resources"])
        for name in document.get("Conditions", ()):
            assert f'"If": ["{name}"' in resources, name


class TestImage:
    """No image is built here: what can be wrong in the Dockerfile without building it."""

    root = FOLDER.parent
    text = (FOLDER / "Dockerfile").read_text()
    lines = re.sub(r"\\\n\s*", "", text).splitlines()

    def copied(self) -> list[str]:
        copies = [line.split()[1:-1] for line in self.lines if line.startswith("COPY ")]
        return [path for paths in copies for path in paths if paths[0] != "--from=build"]

    def test_what_is_copied_is_there_and_not_ignored(self) -> None:
        ignored = (self.root / ".dockerignore").read_text().splitlines()
        assert "*" in ignored
        for path in self.copied():
            assert (self.root / path).exists(), path
            assert f"!{path}" in ignored, path

    def test_the_template_builds_it_from_the_repository(self) -> None:
        made = RESOURCES["Migrator"]["Metadata"]
        context = (FOLDER / made["DockerContext"]).resolve()
        assert context == self.root
        assert (context / made["Dockerfile"]).read_text() == self.text

    def test_it_installs_extras_that_there_are(self) -> None:
        extras = tomllib.loads((self.root / "pyproject.toml").read_text())["project"][
            "optional-dependencies"
        ]
        (named,) = re.findall(r'"\.\[([\w,]+)\]"', self.text)
        assert set(named.split(",")) == {"aws", "snowflake"}
        assert set(named.split(",")) <= set(extras)
        assert "--constraint constraints.txt" in self.text

    def test_its_command_is_the_handler(self) -> None:
        (command,) = re.findall(r"^CMD (.*)$", self.text, re.MULTILINE)
        (named,) = json.loads(command)
        module, _, name = named.rpartition(".")
        assert callable(getattr(importlib.import_module(module), name))

    def test_it_compiles_the_extensions(self) -> None:
        (imported,) = re.findall(r'python -c "import (.*)"', self.text)
        for module in imported.split(", "):
            importlib.import_module(module)

    def test_the_config_is_where_the_function_looks_for_it(self) -> None:
        baked = FUNCTION["Environment"]["Variables"][VARIABLE]["If"][2]
        assert baked == "/var/task/config/snowmelt.yaml"
        assert "COPY aws/config ${LAMBDA_TASK_ROOT}/config" in self.lines
