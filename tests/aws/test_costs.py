"""The figures of docs/how-to/deploy-on-aws.md are those of the arithmetic."""

from __future__ import annotations

import json

import pytest

from snowmelt.config.models import ConfigFile
from tests.aws import costs
from tests.aws.executions import DEFINITION
from tests.aws.ministack import REPOSITORY
from tests.aws.templates import template

PAGE = (REPOSITORY / "docs" / "how-to" / "deploy-on-aws.md").read_text()


@pytest.mark.parametrize("case", costs.CASES, ids=lambda case: case[0])
def test_the_page_has_the_figures(case: tuple[str, int, float, int]) -> None:
    assert costs.row(*case) in PAGE


def test_the_arithmetic_by_hand() -> None:
    """1B rows at 60,000 a second: 16,667 s, in slices of 840 s."""
    found = costs.cost(1_000_000_000, 60_000, 2_700)
    assert found.slices == 20
    assert found.seconds == pytest.approx(16_666.7 + 10 + 19 * 3, abs=0.1)
    assert found.gb_seconds == pytest.approx(33_467, abs=1)
    assert found.function == pytest.approx(33_467 * 0.0000166667, abs=0.001)
    assert found.machine == pytest.approx(65 * 0.000025)
    assert found.warehouse == pytest.approx(16_733.7 / 3_600 * 3, abs=0.01)


def test_what_it_takes_from_elsewhere() -> None:
    buffer = ConfigFile.model_fields["lambda_timeout_buffer_seconds"].default
    assert (
        template()["Resources"]["Migrator"]["Properties"]["Timeout"] - buffer == costs.SLICE_SECONDS
    )
    assert template()["Parameters"]["MemorySize"]["Default"] == costs.MEMORY_GB * 1024
    definition = json.loads(DEFINITION.read_text())
    path, states = [definition["StartAt"]], definition["States"]
    while path[-1] != "Pause":
        state = states[path[-1]]
        path.append({"Decide": "Pause"}.get(path[-1]) or state.get("Default") or state["Next"])
    begins = path.index("Migrate")
    assert (begins + 1, len(path) - begins) == (costs.FIRST_TRANSITIONS, costs.SLICE_TRANSITIONS)
