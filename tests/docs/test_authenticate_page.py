"""The settings that the page on logging in shows are ones that a spec can have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.spec.test_settings_credentials import read

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "authenticate.md"
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS)
def test_each_block_is_well(block: str) -> None:
    assert read(block)[1] == []


def test_every_flow_has_one() -> None:
    flows = re.findall(r"^flow: (\w+)$", "".join(BLOCKS), re.MULTILINE)
    assert flows == ["client_credentials", "refresh_token", "authorization_code", "device_code"]
