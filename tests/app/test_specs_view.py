"""The Specs view: a section is edited in place, and every other byte of the file stays."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import cast

import pytest
from textual.events import Paste
from textual.pilot import Pilot

from speclab.app.views.specs.view import SpecsView
from speclab.spec.store import find_recovery, write_recovery
from speclab.workbench.open_specs import FRONT_MATTER

Running = Callable[..., AbstractAsyncContextManager[Pilot[None]]]
See = Callable[..., Awaitable[None]]
Until = Callable[..., Awaitable[None]]
Screen = Callable[[Pilot[None]], str]

DIRECTION = "Data Flow > Direction"
FREQUENCY = "Data Flow > Frequency"
AUTH = "Authentication > Source System Auth"

TEXT = """---
spec_id: crm
type: integration
status: draft
---

# Spec: CRM

## Problem Statement

Two lists of customers drift apart.

## Data Flow

### Direction
<!-- One-way (Source → Target), bidirectional, multi-directional -->

### Frequency

Hourly, at night.

## Field Mapping

| Source Field | Target Field | Transformation | Notes |
|---|---|---|---|
| id | external_id | Direct | |
| email | email | Trim | |

## Authentication

### Source System Auth

```yaml
typ: bearer
token: ${env:CRM_TOKEN}
```
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "crm.md"
    path.write_bytes(TEXT.encode())
    return path


def view(pilot: Pilot[None]) -> SpecsView:
    return cast("SpecsView", pilot.app.main.view)  # type: ignore[attr-defined]  # the app is ours


def content(spec: Path) -> str:
    return spec.read_bytes().decode("utf-8", "surrogateescape")


def put(spec: Path, text: str) -> None:
    spec.write_bytes(text.encode("utf-8", "surrogateescape"))


def remove(spec: Path) -> None:
    spec.unlink()


async def write(pilot: Pilot[None], text: str) -> None:
    """Paste `text` at the cursor, as a terminal does."""
    pilot.app.post_message(Paste(text))
    await pilot.pause()


async def open_section(pilot: Pilot[None], until: Until, address: str) -> SpecsView:
    await until(pilot, lambda: view(pilot).opened is not None)
    specs = view(pilot)
    specs.go_to(address)
    await pilot.pause()
    return specs


async def wait_for_problems(pilot: Pilot[None], until: Until) -> None:
    """Wait until the problems of the current document are known."""
    specs = view(pilot)
    await until(pilot, lambda: specs.opened is not None and specs.opened.checked is specs.opened.document)


# Finding


async def test_section_is_found_by_a_few_letters(spec: Path, running: Running, until: Until) -> None:
    async with running(spec.parent) as pilot:
        specs = await open_section(pilot, until, FRONT_MATTER)
        await pilot.press("slash")
        await write(pilot, "freq")
        await pilot.press("enter")
        await until(pilot, lambda: specs.at == FREQUENCY)


# Writing


async def test_edited_section_is_saved_as_one_changed_line(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    async with running(spec.parent) as pilot:
        await open_section(pilot, until, "Problem Statement")
        await pilot.press("enter", "end")
        await write(pilot, " Daily!")
        await see(pilot, "drift apart. Daily!", "editing, unsaved")
        await pilot.press("escape", "f2")
        await until(pilot, lambda: content(spec) == TEXT.replace("drift apart.", "drift apart. Daily!"))
        await see(pilot, "crm.md is saved.")


async def test_choice_is_made_from_a_list(spec: Path, running: Running, see: See, until: Until) -> None:
    async with running(spec.parent) as pilot:
        await open_section(pilot, until, DIRECTION)
        await pilot.press("enter")
        await see(pilot, "One-way (Source → Target)", "the source is authoritative")
        await pilot.press("enter", "f2")
        changed = TEXT.replace("multi-directional -->\n", "multi-directional -->\n\nOne-way (Source → Target)\n")
        await until(pilot, lambda: content(spec) == changed)


async def test_choice_keeps_the_text_after_it(spec: Path, running: Running, see: See, until: Until) -> None:
    async with running(spec.parent) as pilot:
        await open_section(pilot, until, FREQUENCY)
        await pilot.press("enter")
        await see(pilot, "On-demand")
        await pilot.press("home", "down", "down", "enter", "f2")
        await until(pilot, lambda: "Every 15 minutes" in content(spec))
        assert content(spec) == TEXT.replace("Hourly, at night.", "Every 15 minutes")


async def test_status_is_chosen_and_other_keys_are_typed(spec: Path, running: Running, see: See, until: Until) -> None:
    async with running(spec.parent) as pilot:
        specs = await open_section(pilot, until, FRONT_MATTER)
        await pilot.press("tab")
        await pilot.press("down", "down", "enter")
        await see(pilot, "agreed, not in use yet")
        await pilot.press("down", "enter")
        await see(pilot, "set it anyway")
        await pilot.press("y")
        await see(pilot, "status        approved")
        await pilot.press("home", "enter")
        await write(pilot, "-2")
        await pilot.press("enter")
        await until(pilot, lambda: specs.opened is not None and "crm-2" in specs.opened.document.text)
        await pilot.press("f2")
        changed = TEXT.replace("status: draft", "status: approved").replace("spec_id: crm", "spec_id: crm-2")
        await until(pilot, lambda: content(spec) == changed)


async def test_fix_is_applied_by_a_key(spec: Path, running: Running, see: See, until: Until) -> None:
    async with running(spec.parent) as pilot:
        await open_section(pilot, until, AUTH)
        await wait_for_problems(pilot, until)
        await pilot.press("f")
        await see(pilot, "type: bearer", "✔ Source System Auth")
        await pilot.press("f2")
        await until(pilot, lambda: content(spec) == TEXT.replace("typ:", "type:"))


async def test_next_problem_moves_the_cursor_to_it(spec: Path, running: Running, until: Until) -> None:
    async with running(spec.parent) as pilot:
        specs = await open_section(pilot, until, FRONT_MATTER)
        await wait_for_problems(pilot, until)
        while specs.at != AUTH:
            before = specs.at
            await pilot.press("f8")
            await until(pilot, lambda before=before: specs.at != before)
        await pilot.press("enter")
        assert specs.section_panel.editing
        assert specs.section_panel.editor.cursor_location == (1, 0)


async def test_empty_section_is_started_with_the_example(spec: Path, running: Running, see: See, until: Until) -> None:
    put(spec, TEXT + "\n### Target System Auth\n")
    async with running(spec.parent) as pilot:
        await open_section(pilot, until, "Authentication > Target System Auth")
        await see(pilot, "i begins it with an")
        await pilot.press("i")
        await see(pilot, "type: ", "editing, unsaved")


async def test_undo_and_redo_work_across_sections(spec: Path, running: Running, see: See, until: Until) -> None:
    async with running(spec.parent) as pilot:
        specs = await open_section(pilot, until, "Problem Statement")
        await pilot.press("enter")
        await write(pilot, "All ")
        await pilot.press("escape")
        await open_section(pilot, until, AUTH)
        await wait_for_problems(pilot, until)
        await pilot.press("f")
        await see(pilot, "type: bearer")
        last = specs.opened.document.text if specs.opened else ""
        await pilot.press("u", "u")
        assert specs.opened is not None
        assert specs.opened.document.text == TEXT
        await pilot.press("ctrl+y", "ctrl+y")
        assert specs.opened.document.text == last


async def test_typed_text_is_undone_key_by_key_while_typing(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    async with running(spec.parent) as pilot:
        specs = await open_section(pilot, until, "Problem Statement")
        await pilot.press("enter")
        await write(pilot, "New")
        await until(pilot, lambda: specs.opened is not None and specs.opened.unsaved)
        await pilot.press("ctrl+z")
        await see(pilot, " Two lists of customers")
        await until(pilot, lambda: specs.opened is not None and not specs.opened.unsaved)


async def test_save_includes_the_last_key(spec: Path, running: Running, until: Until) -> None:
    async with running(spec.parent) as pilot:
        await open_section(pilot, until, "Problem Statement")
        await pilot.press("enter", "N", "f2")
        await until(pilot, lambda: content(spec) == TEXT.replace("Two lists", "NTwo lists"))


async def test_undo_without_history_is_reported(spec: Path, running: Running, see: See, until: Until) -> None:
    async with running(spec.parent) as pilot:
        specs = await open_section(pilot, until, "Problem Statement")
        await pilot.press("enter", "N", "ctrl+z", "ctrl+z")
        await see(pilot, "Not now: undo", "nothing to undo")
        assert specs.section_panel.editing


# Rejected


async def test_text_that_would_swallow_a_section_is_rejected_with_the_reason_and_kept(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    async with running(spec.parent) as pilot:
        specs = await open_section(pilot, until, "Problem Statement")
        await pilot.press("enter")
        await write(pilot, "```\n")
        await see(pilot, "an open ``` fence would swallow the section", "close it with ```")
        await pilot.press("f2")
        await see(pilot, "Not saved")
        assert content(spec) == TEXT

        await pilot.press("escape")
        await see(pilot, "keep editing")
        await pilot.press("n")
        assert specs.section_panel.editor.text.startswith("```\nTwo lists")

        await pilot.press("up", "delete", "delete", "delete", "delete", "escape")
        await until(pilot, lambda: not specs.section_panel.editing)
        assert specs.opened is not None
        assert not specs.opened.unsaved


async def test_rejected_text_is_discarded_on_request(spec: Path, running: Running, see: See, until: Until) -> None:
    async with running(spec.parent) as pilot:
        specs = await open_section(pilot, until, "Problem Statement")
        await pilot.press("enter")
        await write(pilot, "## New\n")
        await pilot.press("escape")
        await see(pilot, "contains a heading, 'New'")
        await pilot.press("y")
        await until(pilot, lambda: not specs.section_panel.editing)
        await see(pilot, "Two lists of customers drift apart.")
        assert specs.opened is not None
        assert not specs.opened.unsaved


async def test_invalid_bytes_are_shown_and_kept(spec: Path, running: Running, see: See, until: Until) -> None:
    put(spec, TEXT.replace("customers", "caf\udce9s"))
    async with running(spec.parent) as pilot:
        specs = await open_section(pilot, until, "Problem Statement")
        await pilot.press("enter")
        await see(pilot, "bytes that are not UTF-8", "F4 opens it in $EDITOR")
        assert not specs.section_panel.editing


async def test_mixed_line_ends_stay_in_unchanged_lines(spec: Path, running: Running, until: Until) -> None:
    odd = TEXT.replace("Two lists of customers drift apart.", "One\r\nTwo\x0b\rThree\u2028\nFour")
    put(spec, odd)
    async with running(spec.parent) as pilot:
        await open_section(pilot, until, "Problem Statement")
        await pilot.press("enter", "down", "down", "down", "end")
        await write(pilot, "!")
        await pilot.press("escape", "f2")
        await until(pilot, lambda: content(spec) != odd)
        assert content(spec) == odd.replace("Four", "Four!")


async def test_read_only_app_edits_nothing(spec: Path, running: Running, see: See, until: Until) -> None:
    async with running(spec.parent, read_only=True) as pilot:
        specs = await open_section(pilot, until, "Problem Statement")
        await pilot.press("enter")
        await see(pilot, "Not now: edit", "--read-only")
        assert not specs.section_panel.editing


async def test_unsaved_changes_are_kept_for_recovery_when_the_app_ends(
    spec: Path, running: Running, until: Until
) -> None:
    async with running(spec.parent) as pilot:
        await open_section(pilot, until, "Problem Statement")
        await pilot.press("enter", "N")
        pilot.app.exit()  # as a hang-up does
    recovery = find_recovery(spec)
    assert recovery is not None
    assert recovery.text == TEXT.replace("Two lists", "NTwo lists")


async def test_recovery_file_is_deleted_only_by_the_discard_key(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    write_recovery(spec, TEXT.replace("Two lists", "Three lists"))
    async with running(spec.parent) as pilot:
        await see(pilot, "y restore", "d delete")
        await pilot.press("escape", "n", "q", "ctrl+c")
        assert find_recovery(spec) is not None
        await see(pilot, "y restore", "d delete")
        await pilot.press("d")
        await until(pilot, lambda: find_recovery(spec) is None)
    assert content(spec) == TEXT


# Specs


async def test_new_spec_is_created_from_the_template_and_opened(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    async with running(spec.parent) as pilot:
        await open_section(pilot, until, FRONT_MATTER)
        await pilot.press("n")
        await write(pilot, "orders-to-erp")
        await pilot.press("enter")
        await see(pilot, "orders-to-erp ▸ Front matter", "◌ orders-to-erp")
        assert "# Spec: Orders to erp" in content(spec.parent / "orders-to-erp.md")


async def test_directory_without_specs_says_how_to_begin(tmp_path: Path, running: Running, see: See) -> None:
    async with running(tmp_path) as pilot:
        await see(pilot, "No specs here yet.", "n creates one from the template")


async def test_unsaved_changes_are_kept_while_another_spec_is_shown(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    put(spec.parent / "orders.md", TEXT.replace("spec_id: crm", "spec_id: orders"))
    async with running(spec.parent) as pilot:
        specs = await open_section(pilot, until, "Problem Statement")
        await pilot.press("enter")
        await write(pilot, "Mine ")
        await pilot.app.open_spec(spec.parent / "orders.md")  # type: ignore[attr-defined]  # as the palette does
        await see(pilot, "orders ▸ Problem Statement", "Two lists", "unsaved")
        assert not specs.section_panel.editing
        await pilot.app.open_spec(spec)  # type: ignore[attr-defined]
        await see(pilot, "Mine Two lists")
