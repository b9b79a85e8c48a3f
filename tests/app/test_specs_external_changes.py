"""External changes of a spec while it is open in the Specs view: merges, conflicts and deleted files."""

from __future__ import annotations

from pathlib import Path

from tests.app.test_specs_view import (
    FREQUENCY,
    TEXT,
    Running,
    Screen,
    See,
    Until,
    content,
    open_section,
    put,
    remove,
    spec,
    view,
    write,
)

__all__ = ["spec"]


async def test_external_change_appears_automatically(spec: Path, running: Running, see: See, until: Until) -> None:
    async with running(spec.parent) as pilot:
        await open_section(pilot, until, FREQUENCY)
        put(spec, TEXT.replace("Hourly", "On-demand"))
        await see(pilot, "On-demand, at night.")


async def test_both_versions_of_a_conflict_can_be_read_before_one_is_chosen(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    theirs = "\n".join(f"line {number}" for number in range(20))
    async with running(spec.parent, size=(80, 24)) as pilot:
        specs = await open_section(pilot, until, "Problem Statement")
        await pilot.press("enter")
        mine = "\n".join(f"verse {number}" for number in range(20))
        await write(pilot, f"{mine}\n")
        put(spec, TEXT.replace("Two lists of customers drift apart.", theirs))
        await until(pilot, lambda: specs.opened is not None and "verse 19" in specs.opened.document.text)
        await pilot.press("f2")
        await see(pilot, "verse 0", "line 0", "m mine   t theirs   b both   esc do not save")
        await pilot.press("end", "tab", "end")
        await see(pilot, "Two lists of", "line 19", "m mine   t theirs   b both   esc do not save")
        await pilot.press("t")
        await until(pilot, lambda: content(spec) == TEXT.replace("Two lists of customers drift apart.", theirs))


async def test_rejected_name_stays_to_be_corrected(spec: Path, running: Running, see: See, until: Until) -> None:
    async with running(spec.parent) as pilot:
        await until(pilot, lambda: view(pilot).opened is not None)
        await pilot.press("n", *"crm", "enter")
        await see(pilot, "new spec", "is already there", "choose another name")
        await pilot.press(*" 2", "enter")
        await see(pilot, "new spec", "'crm 2' is not a valid spec name", "such as crm-2")
        await pilot.press("left", "backspace", *"-", "enter")
        await see(pilot, "crm-2 ▸ Front matter", "◌ crm-2")


async def test_spec_whose_file_was_deleted_stays_open_and_can_be_saved(
    spec: Path, running: Running, see: See, until: Until, screen: Screen
) -> None:
    put(spec.with_name("other.md"), TEXT.replace("crm", "other"))
    async with running(spec.parent) as pilot:
        await open_section(pilot, until, "Problem Statement")
        await pilot.press("enter")
        await write(pilot, "Today ")
        remove(spec)
        await see(pilot, "crm.md is gone. Press F2 to save it again.", "✖ crm", "unsaved")
        await pilot.press("escape", "shift+tab", "up")
        await see(pilot, "other ▸")
        await pilot.press("q")
        await see(pilot, "crm.md: the file is gone.")
        await pilot.press("n", "down")
        await see(pilot, "crm ▸", "Today Two lists")
        assert screen(pilot).count("is gone. Press F2") == 1
        await pilot.press("f2")
        await until(pilot, lambda: spec.exists() and content(spec) == TEXT.replace("Two lists", "Today Two lists"))


async def test_typed_text_stays_on_top_of_an_external_change(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    async with running(spec.parent) as pilot:
        await open_section(pilot, until, "Problem Statement")
        await pilot.press("enter")
        await write(pilot, "Today ")
        put(spec, TEXT.replace("Hourly", "On-demand"))
        await see(pilot, "Today Two lists", "changes are kept")
        await write(pilot, "two. ")
        await pilot.press("f2")
        changed = TEXT.replace("Hourly", "On-demand").replace("Two lists", "Today two. Two lists")
        await until(pilot, lambda: content(spec) == changed)


async def test_conflict_in_the_same_lines_asks_which_version_to_keep(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    async with running(spec.parent) as pilot:
        await open_section(pilot, until, "Problem Statement")
        await pilot.press("enter")
        await write(pilot, "Mine: ")
        await pilot.press("escape")
        put(spec, TEXT.replace("Two lists", "Theirs: two lists").replace("Hourly", "On-demand"))
        await see(pilot, "F2 asks")
        await pilot.press("f2")
        await see(pilot, "Mine: Two lists of customers", "Theirs: two lists of customers", "1 of 1")
        await pilot.press("t")
        await see(pilot, "crm.md is saved")
        assert content(spec) == TEXT.replace("Two lists", "Theirs: two lists").replace("Hourly", "On-demand")


async def test_section_deleted_externally_keeps_the_typed_text(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    async with running(spec.parent) as pilot:
        specs = await open_section(pilot, until, "Problem Statement")
        await pilot.press("enter")
        await write(pilot, "Mine ")
        await until(pilot, lambda: specs.opened is not None and specs.opened.unsaved)
        put(spec, TEXT.replace("## Problem Statement\n\nTwo lists of customers drift apart.\n\n", ""))
        await see(pilot, "Mine Two lists", "F2 asks")
