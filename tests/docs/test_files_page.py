"""The settings that the page on files shows are ones that a spec can have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.spec.test_settings_models import said, system

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "use-files.md"
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS)
def test_each_block_is_well(block: str) -> None:
    assert said(system(block)[1]) == []


def test_every_setting_of_a_format_is_shown() -> None:
    shown = set(re.findall(r"^(\w+):", "\n".join(BLOCKS), re.MULTILINE))
    assert shown >= {"path", "mode", "encoding", "delimiter", "quote", "columns", "types", "options"}
