"""The configs that the documents show are configs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from snowmelt.config.loading import parse_config

ROOT = Path(__file__).parents[2]
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
ENVIRONMENT = {"SNOWFLAKE_RSA_KEY": "key", "PG_PASSWORD": "password"}


class Vault:
    """Has every secret."""

    def secret(self, name: str) -> str:
        return json.dumps(dict.fromkeys(("password", "username", "key", "rsa_key"), "s3cret"))

    def parameter(self, name: str) -> str:
        return name


def blocks(document: Path) -> list[dict[str, Any]]:
    """The YAML that a document shows, where it shows a mapping."""
    found = re.findall(r"```yaml\n(.*?)```", document.read_text("utf-8"), re.DOTALL)
    return [block for text in found if isinstance(block := yaml.safe_load(text), dict)]


SHOWN = [
    pytest.param(block, id=f"{document.stem}-{number}")
    for document in DOCUMENTS
    for number, block in enumerate(blocks(document))
]


@pytest.mark.parametrize("block", SHOWN)
def test_it_is_one(block: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a block leaves out is taken from the README's."""
    (whole,) = blocks(ROOT / "README.md")
    if "tables" in block:
        source = {**whole["sources"][0], "tables": block["tables"]}
        block = {**{k: v for k, v in block.items() if k != "tables"}, "sources": [source]}
    document = {**whole, **block}
    bundle = tmp_path / "bundle.pem"
    bundle.write_text("")
    if document["postgres"].get("sslrootcert", "system") != "system":
        document["postgres"] = {**document["postgres"], "sslrootcert": str(bundle)}
    content = yaml.safe_dump(document).encode()
    config = parse_config("snowmelt.yaml", content, environ=ENVIRONMENT, vault=Vault())
    assert config.jobs()


def test_some_are_shown() -> None:
    assert len(SHOWN) > 5
