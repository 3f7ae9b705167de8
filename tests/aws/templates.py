"""CloudFormation templates as documents, and the policies in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.aws.ministack import REPOSITORY

FOLDER = REPOSITORY / "aws"
MAIN, SCHEDULE = FOLDER / "template.yaml", FOLDER / "schedule.yaml"


class _Loader(yaml.SafeLoader):
    """Reads `!Ref x` as {"Ref": x}, and other functions by their tags alike."""


def _function(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> dict[str, Any]:
    match node:
        case yaml.ScalarNode():
            value: Any = loader.construct_scalar(node)
        case yaml.SequenceNode():
            value = loader.construct_sequence(node, deep=True)
        case yaml.MappingNode():
            value = loader.construct_mapping(node, deep=True)
    return {tag: value}


_Loader.add_multi_constructor("!", _function)


def template(path: Path = MAIN) -> dict[str, Any]:
    """A template, its short functions as {name: argument}."""
    document: dict[str, Any] = yaml.load(path.read_text(), Loader=_Loader)
    return document


def statements(document: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every statement of the policies of roles, with the role's name."""
    for name, resource in document["Resources"].items():
        if resource["Type"] != "AWS::IAM::Role":
            continue
        for policy in resource["Properties"]["Policies"]:
            given = policy["If"][1] if "If" in policy else policy
            for statement in given["PolicyDocument"]["Statement"]:
                yield name, statement


def as_list(value: Any) -> list[Any]:
    """What may be one or several."""
    return value if isinstance(value, list) else [value]
