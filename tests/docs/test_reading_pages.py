"""The settings that the pages on reading and on deleting show are ones that a system can have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from speclab.connectors.http.settings import HttpSystem

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
BLOCKS = [
    block
    for page in ("read-incrementally.md", "delete-missing-records.md")
    for block in re.findall(r"^```yaml\n(.*?)^```$", (HOW_TO / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)
]


@pytest.mark.parametrize("block", BLOCKS)
def test_each_block_is_well(block: str) -> None:
    settings: dict[str, Any] = {"connector": "http", "base_url": "https://crm.example.com", "key": "id"}
    system = HttpSystem.model_validate(settings | yaml.load(block, yaml.BaseLoader))
    assert system.read or system.write


def test_both_pages_have_some() -> None:
    assert len(BLOCKS) >= 5
