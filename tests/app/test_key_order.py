"""Keys that arrive at once, over a slow line, from a macro or on a busy machine, are processed in order."""

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
    """Send all of `keys` at once, before the app has processed the first."""
    for key in keys:
        name = NAMES.get(key, key)
        pilot.app.post_message(Key(name, key if name == key or key == " " else None))


def view(pilot: Pilot[None]) -> SpecsView:
    return cast("SpecsView", pilot.app.main.view)  # type: ignore[attr-defined]  # the app is ours


async def go_to_problem(pilot: Pilot[None], until: Until) -> SpecsView:
    await until(pilot, lambda: view(pilot).opened is not None)
    view(pilot).go_to("Problem Statement")
    await pilot.pause()
    return view(pilot)


async def test_typing_and_undo_are_processed_in_order(spec: Path, running: Running, until: Until) -> None:
    async with running(spec.parent) as pilot:
        specs = await go_to_problem(pilot, until)
        await pilot.press("enter")
        burst(pilot, "abx⌫c⏎de←f⏎↓g")
        await until(pilot, lambda: specs.section_panel.editor.text == "abc\ndf\neTwo lists.g")


async def test_text_typed_ahead_goes_into_the_editor_that_the_first_key_opens(
    spec: Path, running: Running, until: Until, see: Until
) -> None:
    async with running(spec.parent) as pilot:
        specs = await go_to_problem(pilot, until)
        burst(pilot, "⏎nuq quick")  # each is a key of the view outside the editor
        await until(pilot, lambda: specs.section_panel.editor.text == "nuq quickTwo lists.")
        burst(pilot, "⎋q")
        await see(pilot, "y quit", "n stay")


async def test_text_typed_ahead_goes_into_the_dialog_that_the_first_key_opens(
    spec: Path, running: Running, until: Until
) -> None:
    async with running(spec.parent) as pilot:
        await go_to_problem(pilot, until)
        burst(pilot, "nshop⏎")
        await until(pilot, (spec.parent / "shop.md").exists)


async def test_text_typed_ahead_is_searched_in_the_palette(spec: Path, running: Running, until: Until) -> None:
    async with running(spec.parent) as pilot:
        await until(pilot, lambda: view(pilot).at == FRONT_MATTER)
        burst(pilot, "^problem st⏎")
        await until(pilot, lambda: view(pilot).at == "Problem Statement")


async def test_joiners_between_letters_are_typed_like_letters(
    spec: Path, running: Running, until: Until, see: Until
) -> None:
    non_joiner, joiner = "\u200c", "\u200d"
    written = f"می{non_joiner}خواهم 👩{joiner}🔬"
    async with running(spec.parent) as pilot:
        specs = await go_to_problem(pilot, until)
        burst(pilot, f"⏎{written}")
        await until(pilot, lambda: specs.section_panel.editor.text == f"{written}Two lists.")
        burst(pilot, f"⎋^{written}")
        await see(pilot, "No match.")
        line = cast("Input", pilot.app.focused)
        await until(pilot, lambda: line.value == written)


async def test_keys_typed_before_the_start_are_processed_after_it(spec: Path, until: Until) -> None:
    class EarlyKeysApp(SpeclabApp):
        def on_load(self) -> None:
            self.post_message(Key("3", "3"))

    app = EarlyKeysApp(spec.parent)
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.specs is not None and app.view is not None)
        await until(pilot, lambda: app.here == "monitor")


async def test_letters_are_processed_without_a_wait_for_each(spec: Path, running: Running, until: Until) -> None:
    async with running(spec.parent) as pilot:
        specs = await go_to_problem(pilot, until)
        await pilot.press("enter")
        burst(pilot, "letters" * 100)
        await until(pilot, lambda: specs.section_panel.editor.text == "letters" * 100 + "Two lists.")


async def test_text_that_arrives_key_by_key_is_few_edits(
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
        specs = await go_to_problem(pilot, until)
        await pilot.press("enter")
        burst(pilot, "pasted " * 400 + "⌫⌫s!⏎")
        await until(pilot, lambda: specs.section_panel.editor.text == "pasted " * 399 + "pastes!\nTwo lists.")
    assert edits < 100
