"""The section editor: its cursor, the keys offered while it has the focus, and undo across sections."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import cast

import pytest
from textual.events import Paste
from textual.pilot import Pilot

from speclab.app.views.document import RECOVERY_DELAY
from speclab.app.views.mapping.view import MappingView
from speclab.app.views.specs.view import SpecsView
from speclab.spec.store import find_recovery

Running = Callable[..., AbstractAsyncContextManager[Pilot[None]]]
See = Callable[..., Awaitable[None]]
Until = Callable[..., Awaitable[None]]
Screen = Callable[[Pilot[None]], str]

AUTH = "Authentication > Source System Auth"
LINES = "\n".join(f"- line {number}" for number in range(20))

TEXT = f"""---
spec_id: crm
type: integration
status: draft
---

# Spec: CRM

## Problem Statement

{LINES}

## Out of Scope

Orders.

## Field Mapping

| Source Field | Target Field | Transformation | Notes |
|---|---|---|---|
| id | external_id | Direct | |
| email | email | Trim | |

## Authentication

### Source System Auth

```yaml
typ: bearer
token: ${{env:CRM_TOKEN}}
```
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "crm.md"
    path.write_bytes(TEXT.encode())
    return path


def specs_view(pilot: Pilot[None]) -> SpecsView:
    return cast("SpecsView", pilot.app.main.view)  # type: ignore[attr-defined]  # the app is ours


async def open_section(pilot: Pilot[None], until: Until, address: str) -> SpecsView:
    """Show the section at `address` and wait until its problems are known."""
    specs = specs_view(pilot)
    await until(pilot, lambda: specs.opened is not None and specs.opened.checked is specs.opened.document)
    specs.go_to(address)
    await pilot.pause()
    return specs


def put(spec: Path, text: str) -> None:
    spec.write_bytes(text.encode())


def text(specs: SpecsView) -> str:
    assert specs.opened is not None
    return specs.opened.document.text


async def test_cursor_starts_at_the_top_of_each_section(spec: Path, running: Running, until: Until) -> None:
    async with running(spec.parent) as pilot:
        specs = await open_section(pilot, until, "Problem Statement")
        await pilot.press("enter", *["down"] * 12, "end", "escape")
        specs.go_to("Out of Scope")
        await pilot.press("enter", "N")
        await until(pilot, lambda: "\nNOrders.\n" in text(specs))
        await pilot.press("tab")
        await until(pilot, lambda: "\nN Orders.\n" in text(specs))


async def test_cursor_starts_at_the_top_of_the_same_section_of_another_spec(
    spec: Path, running: Running, until: Until
) -> None:
    other = spec.with_name("other.md")
    other.write_text(TEXT.replace("spec_id: crm", "spec_id: other"))
    async with running(spec.parent) as pilot:
        specs = await open_section(pilot, until, "Problem Statement")
        await pilot.press("enter", *["down"] * 12, "escape")
        await specs.app.open_spec(other)  # type: ignore[attr-defined]  # the app is ours
        specs.go_to("Problem Statement")
        await pilot.press("enter", "N")
        await until(pilot, lambda: "\nN- line 0\n" in text(specs))


async def test_cursor_stays_in_a_section_that_is_edited_again(spec: Path, running: Running, until: Until) -> None:
    async with running(spec.parent) as pilot:
        specs = await open_section(pilot, until, "Problem Statement")
        await pilot.press("enter", *["down"] * 12, "escape", "enter", "N")
        await until(pilot, lambda: "\nN- line 12\n" in text(specs))


async def test_cursor_stays_inside_a_text_that_another_program_shortens(
    spec: Path, running: Running, until: Until
) -> None:
    async with running(spec.parent) as pilot:
        specs = await open_section(pilot, until, "Problem Statement")
        await pilot.press("enter", *["down"] * 12, "end", "escape")
        put(spec, TEXT.replace(LINES, "Short."))
        await until(pilot, lambda: "Short." in text(specs))
        await pilot.press("enter", "tab", "N")
        await until(pilot, lambda: "\n  NShort.\n" in text(specs))


async def test_next_problem_leaves_letters_as_actions(spec: Path, running: Running, see: See, until: Until) -> None:
    async with running(spec.parent) as pilot:
        specs = await open_section(pilot, until, "Problem Statement")
        while specs.at != AUTH:
            before = specs.at
            await pilot.press("f8")
            await until(pilot, lambda before=before: specs.at != before)
        await see(pilot, "[f] write")
        await pilot.press("f")
        await until(pilot, lambda: text(specs) == TEXT.replace("typ:", "type:"))


async def test_no_letter_is_offered_as_an_action_while_it_would_be_typed(
    spec: Path, running: Running, see: See, until: Until, screen: Screen
) -> None:
    async with running(spec.parent) as pilot:
        await open_section(pilot, until, AUTH)
        await see(pilot, "[f] write", "t tests the credentials")
        await pilot.press("enter")
        await see(pilot, "editing")
        assert "[f]" not in screen(pilot)
        assert "t tests" not in screen(pilot)
        await pilot.press("escape")
        await see(pilot, "[f] write", "t tests the credentials")


async def test_next_problem_continues_editing_where_a_section_was_edited(
    spec: Path, running: Running, until: Until
) -> None:
    async with running(spec.parent) as pilot:
        specs = await open_section(pilot, until, "Out of Scope")
        await pilot.press("enter")
        while specs.at != AUTH:
            before = specs.at
            await pilot.press("f8")
            await until(pilot, lambda before=before: specs.at != before)
        assert specs.section_panel.editing


async def test_undo_in_the_editor_moves_to_the_section_that_changes_and_names_it(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    async with running(spec.parent) as pilot:
        specs = await open_section(pilot, until, "Out of Scope")
        await pilot.press("enter")
        pilot.app.post_message(Paste("Returns. "))
        await pilot.press("escape")
        specs.go_to("Problem Statement")
        await pilot.press("enter", "ctrl+z")
        await until(pilot, lambda: specs.at == "Out of Scope")
        assert text(specs) == TEXT
        assert specs.section_panel.editing
        await see(pilot, "Undone", "edit of Out of Scope")
        await pilot.press("ctrl+y")
        await until(pilot, lambda: "Returns. Orders." in text(specs))
        await see(pilot, "Redone")


async def test_undo_of_a_front_matter_key_leaves_the_editor(spec: Path, running: Running, until: Until) -> None:
    async with running(spec.parent) as pilot:
        specs = await open_section(pilot, until, "Out of Scope")
        specs.document.change("status", lambda document: document.with_front_matter("status", "approved"))
        await pilot.press("enter", "ctrl+z")
        await until(pilot, lambda: specs.at == "")
        assert not specs.section_panel.editing
        assert text(specs) == TEXT


async def test_undo_in_mapping_moves_to_the_row_or_the_section_that_changes(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    async with running(spec.parent) as pilot:
        specs = await open_section(pilot, until, "Out of Scope")
        await pilot.press("enter")
        pilot.app.post_message(Paste("Returns. "))
        await pilot.press("escape", "2")
        await until(pilot, lambda: isinstance(pilot.app.main.view, MappingView))  # type: ignore[attr-defined]
        mapping = cast("MappingView", pilot.app.main.view)  # type: ignore[attr-defined]
        await until(pilot, lambda: mapping.state.sheet is not None)
        await pilot.press("down", "m", "escape", "up")
        assert len(mapping.state.sheet.rows if mapping.state.sheet else ()) == 3
        await pilot.press("u")
        await see(pilot, "Undone", "row email duplicated")
        assert mapping.display
        assert mapping.grid.cursor_row == 1
        await pilot.press("u")
        await until(pilot, lambda: specs.display)
        assert specs.at == "Out of Scope"
        assert text(specs) == TEXT


async def test_undo_is_unavailable_while_a_text_is_not_in_the_spec_yet(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    async with running(spec.parent) as pilot:
        specs = await open_section(pilot, until, "Out of Scope")
        specs.document.change("status", lambda document: document.with_front_matter("status", "approved"))
        await pilot.press("enter")
        pilot.app.post_message(Paste("```\n"))
        await until(pilot, lambda: specs.opened is not None and specs.opened.rejected is not None)
        await specs.action_act("undo")
        await see(pilot, "Not changed", "cannot undo")
        assert specs.at == "Out of Scope"
        assert "status: approved" in text(specs)


async def test_recovery_file_is_written_during_continuous_typing(
    spec: Path, running: Running, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("speclab.app.views.specs.view.COMMIT_DELAY", 3600.0)  # no pause between keys is long enough
    monkeypatch.setattr("speclab.app.views.document.DURABLE_INTERVAL", 3600.0)
    assert RECOVERY_DELAY <= 0.2
    async with running(spec.parent) as pilot:
        specs = await open_section(pilot, until, "Out of Scope")
        await pilot.press("enter", "N", "e", "w")
        await until(pilot, lambda: (found := find_recovery(spec)) is not None and "NewOrders." in found.text)
        assert text(specs) == TEXT  # the document, which verifies each edit, does not have it yet
        await pilot.press("e", "r", "space")
        await until(pilot, lambda: (found := find_recovery(spec)) is not None and "Newer Orders." in found.text)


async def test_recovery_file_follows_changes_that_are_not_typed(
    spec: Path, running: Running, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("speclab.app.views.document.DURABLE_INTERVAL", 3600.0)
    async with running(spec.parent) as pilot:
        await open_section(pilot, until, AUTH)
        await pilot.press("f")
        await until(pilot, lambda: (found := find_recovery(spec)) is not None and "type: bearer" in found.text)
        await pilot.press("u")
        await until(pilot, lambda: find_recovery(spec) is None)
