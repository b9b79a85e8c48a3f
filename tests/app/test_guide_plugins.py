"""The guide covers the connectors of third-party packages."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.app.test_specs_view import Running, See, Until, open_section
from tests.spec.test_settings_of_others import FOLDER, SPEC, TARGET, put

from speclab.core.plugins import PluginRegistry
from speclab.spec import auth

SOURCE = "Integration Overview > Source System"


async def test_guide_shows_the_settings_and_the_name_of_a_package(
    tmp_path: Path, running: Running, see: See, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, specs = tmp_path / "site", tmp_path / "specs"
    site.mkdir()
    specs.mkdir()
    put(site, "speclab-cupboard", FOLDER, "speclab.connectors", **{"cup-board": "FOLDER"})
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr(auth, "SYSTEMS", PluginRegistry("speclab.connectors", auth.validate_settings))
    text = SPEC.format(source="cup-board", target="file").replace("connector: file\npath: out.jsonl\nkey: id", "")
    (specs / "people.md").write_text(text)
    async with running(specs) as pilot:
        await open_section(pilot, until, SOURCE)
        await see(pilot, "documents a page", "default 100")
        await open_section(pilot, until, TARGET)
        await pilot.resize_terminal(120, 100)
        await see(pilot, "A folder of documents.", "from speclab-cupboard")
