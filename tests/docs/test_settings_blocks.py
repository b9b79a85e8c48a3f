"""The settings blocks in the how-to pages are valid, and their HTTP writers can be opened."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

import pytest
from tests.docs.test_docs import ROOT, blocks
from tests.spec.test_settings_credentials import read as read_auth
from tests.spec.test_settings_models import problems_of, system

from speclab.connectors.api import RuntimeContext
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.registry import open_writer
from speclab.connectors.secrets.references import References
from speclab.core.clock import SystemClock
from speclab.spec.auth import NoAuth
from speclab.spec.settings import VolumeSettings

HTTP = "connector: http\nbase_url: https://api.example.com\n"


def yaml_blocks(*pages: str) -> list[str]:
    return [block for page in pages for block in blocks(ROOT / "docs" / "how-to" / f"{page}.md", "yaml")]


@pytest.mark.parametrize("block", yaml_blocks("use-files", "use-a-database", "use-singer"))
def test_systems_on_the_pages_are_valid(block: str) -> None:
    assert system(block)[1] == []


@pytest.mark.parametrize("block", yaml_blocks("read-incrementally", "delete-missing-records", "write-over-http"))
async def test_http_settings_on_the_pages_are_valid(block: str, tmp_path: Path) -> None:
    key = "" if block.startswith("key:") else "key: id\n"
    settings, problems = system(f"{HTTP}{key}{block}")
    assert problems == []
    assert isinstance(settings, HttpSystem)
    if settings.write is not None:
        writer = open_writer(settings, NoAuth(), References({}, tmp_path), RuntimeContext(SystemClock(), Random(0)))
        await writer.close()


@pytest.mark.parametrize("block", yaml_blocks("authenticate"))
def test_auth_settings_on_the_page_are_valid(block: str) -> None:
    assert read_auth(block)[1] == []


@pytest.mark.parametrize("block", yaml_blocks("guard-a-run"))
def test_volume_settings_on_the_page_are_valid(block: str) -> None:
    assert problems_of(VolumeSettings, block) == []


def test_page_on_authentication_has_a_block_for_each_oauth_flow() -> None:
    flows = re.findall(r"^flow: (\w+)$", "".join(yaml_blocks("authenticate")), re.MULTILINE)
    assert flows == ["client_credentials", "refresh_token", "authorization_code", "device_code"]


def test_page_on_files_shows_every_format_setting() -> None:
    shown = set(re.findall(r"^(\w+):", "\n".join(yaml_blocks("use-files")), re.MULTILINE))
    assert shown >= {"path", "mode", "encoding", "delimiter", "quote", "columns", "types", "options"}


@pytest.mark.parametrize("page", ["read-incrementally", "delete-missing-records", "write-over-http", "use-singer"])
def test_each_page_on_a_system_has_settings(page: str) -> None:
    assert len(yaml_blocks(page)) >= 2
