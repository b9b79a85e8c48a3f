"""Keys that come all at once, as over a slow line, from a macro or while the machine is busy: each in its turn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import cast

import pytest
from textual.events import Key
from textual.pilot import Pilot
from textual.widgets import Input
from textual.widgets.text_area import Edit, EditResult

from speclab.app.application import SpeclabApp
from speclab.app.views.specs.editor import SectionEditor
from speclab.app.views.specs.view import SpecsView
from speclab.workbench.open_specs import FRONT_MATTER

Running = Callable[..., AbstractAsyncContextManager[Pilot[None]]]
Until = Callable[..., Awaitable[None]]

TEXT = """---
spec_id: crm
type: integration
status: draft
---

# Spec: CRM

## Problem Statement

Two lists.
"""

NAMES = {
    "⌫": "backspace",
    "⏎": "enter",
    "⇥": "tab",
    "↓": "down",
    "←": "left",
    "⎋": "escape",
    " ": "space",
    "^": "ctrl+p",
}


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "crm.md"
    path.write_text(TEXT, "utf-8")
    return path


def burst(pilot: Pilot[None], keys: str) -> None:
    """All of `keys` at once, before the app has done anything about the first."""
    for key in keys:
        name = NAMES.get(key, key)
        pilot.app.post_message(Key(name, key if name == key or key == " " else None))


def view(pilot: Pilot[None]) -> SpecsView:
    return cast("SpecsView", pilot.app.main.view)  # type: ignore[attr-defined]  # the app is ours


async def at_the_problem(pilot: Pilot[None], until: Until) -> SpecsView:
    await until(pilot, lambda: view(pilot).opened is not None)
    view(pilot).go_to("Problem Statement")
    await pilot.pause()
    return view(pilot)


async def test_what_is_typed_and_what_is_taken_back_come_in_the_order_of_the_keys(
    spec: Path, running: Running, until: Until
) -> None:
    async with running(spec.parent) as pilot:
        specs = await at_the_problem(pilot, until)
        await pilot.press("enter")
        burst(pilot, "abx⌫c⏎de←f⏎↓g")
        await until(pilot, lambda: specs.section_panel.editor.text == "abc\ndf\neTwo lists.g")


async def test_what_is_typed_ahead_goes_into_the_text_that_the_first_key_opens(
    spec: Path, running: Running, until: Until, see: Until
) -> None:
    async with running(spec.parent) as pilot:
        specs = await at_the_problem(pilot, until)
        burst(pilot, "⏎nuq quick")  # each of them a key of the place, but for what comes before
        await until(pilot, lambda: specs.section_panel.editor.text == "nuq quickTwo lists.")
        burst(pilot, "⎋q")
        await see(pilot, "y quit", "n stay")


async def test_what_is_typed_ahead_goes_into_the_question_that_the_first_key_asks(
    spec: Path, running: Running, until: Until
) -> None:
    async with running(spec.parent) as pilot:
        await at_the_problem(pilot, until)
        burst(pilot, "nshop⏎")
        await until(pilot, (spec.parent / "shop.md").exists)


async def test_what_is_typed_ahead_is_looked_for_in_the_palette(spec: Path, running: Running, until: Until) -> None:
    async with running(spec.parent) as pilot:
        await until(pilot, lambda: view(pilot).at == FRONT_MATTER)
        burst(pilot, "^problem st⏎")
        await until(pilot, lambda: view(pilot).at == "Problem Statement")


async def test_what_joins_letters_and_parts_them_is_typed_like_a_letter(
    spec: Path, running: Running, until: Until, see: Until
) -> None:
    non_joiner, joiner = "\u200c", "\u200d"
    written = f"می{non_joiner}خواهم 👩{joiner}🔬"
    async with running(spec.parent) as pilot:
        specs = await at_the_problem(pilot, until)
        burst(pilot, f"⏎{written}")
        await until(pilot, lambda: specs.section_panel.editor.text == f"{written}Two lists.")
        burst(pilot, f"⎋^{written}")
        await see(pilot, "No match.")
        line = cast("Input", pilot.app.focused)
        await until(pilot, lambda: line.value == written)


async def test_what_is_typed_before_the_app_is_there_is_done_once_it_is(spec: Path, until: Until) -> None:
    class Hasty(SpeclabApp):
        def on_load(self) -> None:
            self.post_message(Key("3", "3"))

    app = Hasty(spec.parent)
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.specs is not None and app.view is not None)
        await until(pilot, lambda: app.here == "monitor")


async def test_letters_are_not_waited_for_one_by_one(spec: Path, running: Running, until: Until) -> None:
    async with running(spec.parent) as pilot:
        specs = await at_the_problem(pilot, until)
        await pilot.press("enter")
        burst(pilot, "letters" * 100)
        await until(pilot, lambda: specs.section_panel.editor.text == "letters" * 100 + "Two lists.")


async def test_text_that_comes_key_by_key_is_written_in_few_edits(
    spec: Path, running: Running, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    edits = 0
    edit = SectionEditor.edit

    def counted(self: SectionEditor, made: Edit) -> EditResult:
        nonlocal edits
        edits += 1
        return edit(self, made)

    monkeypatch.setattr(SectionEditor, "edit", counted)
    async with running(spec.parent) as pilot:
        specs = await at_the_problem(pilot, until)
        await pilot.press("enter")
        burst(pilot, "pasted " * 400 + "⌫⌫s!⏎")
        await until(pilot, lambda: specs.section_panel.editor.text == "pasted " * 399 + "pastes!\nTwo lists.")
    assert edits < 100
