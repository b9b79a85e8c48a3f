"""Snapshots of Specs and Mapping at the two most important sizes."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest
from textual.pilot import Pilot

from speclab.app.application import SpeclabApp
from speclab.app.views.mapping.view import MappingView
from speclab.app.views.specs.view import SpecsView

Compare = Callable[..., bool]
Until = Callable[..., Awaitable[None]]

SIZES = pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=["80x24", "120x40"])
SPEC = Path(__file__).parents[2] / "specs" / "crm-contacts-to-billing.md"
CONTACT = {
    "id": "c_8841",
    "name": {"given": "Ada ", "family": "Lovelace"},
    "email": "Ada@Example.org",
    "born": "1815-12-10",
    "state": "2",
    "turnover": "1234.50",
    "tel": "+44 20 7946 0000",
    "address": {"city": "London", "country": "gb"},
}


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with the demo's spec, one wrong setting in it, and a sample record."""
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = SPEC.read_text("utf-8").replace("type: bearer", "type: bearer\ntokn: hunter2")
    (tmp_path / SPEC.name).write_text(text, "utf-8")
    samples = tmp_path / ".speclab" / "samples"
    samples.mkdir(parents=True)
    (samples / f"{SPEC.stem}.jsonl").write_text(json.dumps(CONTACT) + "\n", "utf-8")
    return tmp_path


async def ready(pilot: Pilot[None], until: Until) -> None:
    """Wait until all checks are done."""
    app = cast("SpeclabApp", pilot.app)
    await until(pilot, lambda: isinstance(app.view, SpecsView | MappingView) and app.view.opened is not None)
    view = cast("SpecsView | MappingView", app.view)
    await until(pilot, lambda: view.opened is not None and view.opened.checked is view.opened.document)
    await until(pilot, lambda: app.overview is not None)


@SIZES
def test_section_with_a_problem(snap_compare: Compare, directory: Path, until: Until, size: tuple[int, int]) -> None:
    async def go(pilot: Pilot[None]) -> None:
        await ready(pilot, until)
        cast("SpecsView", cast("SpeclabApp", pilot.app).view).go_to("Authentication > Source System Auth")
        await pilot.pause(0.2)

    assert snap_compare(SpeclabApp(directory), terminal_size=size, run_before=go)


@SIZES
def test_row_that_fails_and_a_cell_that_is_edited(
    snap_compare: Compare, directory: Path, until: Until, see: Until, size: tuple[int, int]
) -> None:
    async def go(pilot: Pilot[None]) -> None:
        await ready(pilot, until)
        view = cast("MappingView", cast("SpeclabApp", pilot.app).view)
        await until(pilot, lambda: view.state.record is not None and view.state.current_check is not None)
        view.grid.move(4)
        await pilot.press("enter", "comma", "space", "u")
        await see(pilot, "Uppercase  ")

    assert snap_compare(SpeclabApp(directory, view="mapping"), terminal_size=size, run_before=go)
