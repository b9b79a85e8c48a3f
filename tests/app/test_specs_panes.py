"""What is seen in the Specs place: the outline, the text in hand, the guide and the problems, as they fit."""

from __future__ import annotations

from pathlib import Path

from tests.app.test_specs_place import (
    AUTH,
    FREQUENCY,
    TEXT,
    Running,
    Screen,
    See,
    Until,
    put,
    spec,
    take_in_hand,
)

from speclab.app.views.specs.view import SpecsView

__all__ = ["spec"]


async def test_the_outline_says_of_every_section_whether_it_is_filled_empty_or_wrong(
    spec: Path, running: Running, see: See
) -> None:
    async with running(spec.parent) as pilot:
        await see(pilot, "✔ Problem Statement", "◌ Direction", "✖ Source System Auth")
        await see(pilot, "✖ crm", "2 errors")


async def test_the_guide_and_the_problems_stand_beside_the_section_in_hand(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    async with running(spec.parent) as pilot:
        await take_in_hand(pilot, until, AUTH)
        await see(pilot, "Authentication at the", "34:1", "write type", "1 here of 5 ─")


async def test_where_the_guide_is_not_seen_an_empty_section_says_what_belongs_there_and_which_keys_fill_it(
    spec: Path, running: Running, see: See, until: Until, screen: Screen
) -> None:
    put(spec, TEXT.replace("Two lists of customers drift apart.\n", "").replace("Hourly, at night.\n", ""))
    async with running(spec.parent, size=(80, 24)) as pilot:
        specs = await take_in_hand(pilot, until, "Problem Statement")
        await see(pilot, "Whose problem this solves", "enter fills it in, g shows the guide")
        specs.go_to(FREQUENCY)
        await see(pilot, "When runs start.", "i with an example")
        await pilot.press("i")
        await see(pilot, "editing")
        assert "When runs start" not in screen(pilot)


async def test_a_text_that_is_edited_has_the_whole_of_a_screen_that_becomes_narrow(
    spec: Path, running: Running, until: Until
) -> None:
    async with running(spec.parent, size=(80, 24)) as pilot:
        specs = await take_in_hand(pilot, until, "Problem Statement")
        await pilot.press("enter")
        await until(pilot, lambda: specs.section_panel.editing)
        await pilot.resize_terminal(60, 20)
        await until(pilot, lambda: specs.section_panel.region.width == 60)
        await pilot.press("escape")
        await until(pilot, lambda: not specs.section_panel.region and specs.query_one("#outline").region.width == 60)
        await pilot.press("enter")
        await until(pilot, lambda: specs.section_panel.region.width == 60)


async def test_a_narrow_screen_is_never_given_to_problems_there_are_none_of(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    async with running(spec.parent, size=(60, 24)) as pilot:
        specs = await take_in_hand(pilot, until, "Problem Statement")
        for pane in ("Problem Statement", "guide", "specs", "outline"):
            await pilot.press("tab")
            await see(pilot, f" {pane} ─")
        specs.go_to(AUTH)
        await pilot.press("tab", "tab", "tab")
        await see(pilot, "─ problems ──", "write type")
        await pilot.press("f")
        await see(pilot, "─ outline ─")


async def test_as_many_panes_are_seen_as_fit(spec: Path, running: Running, until: Until) -> None:
    panes = {"specs", "outline", "section_panel", "guide"}
    async with running(spec.parent) as pilot:
        specs = await take_in_hand(pilot, until, FREQUENCY)
        for width, seen in [(120, panes), (80, panes - {"guide"}), (60, {"outline"})]:
            await pilot.resize_terminal(width, 24)
            await until(pilot, lambda seen=seen: {pane for pane in panes if _is_seen(specs, pane)} == seen)
        for pane in ("outline", "section_panel", "guide"):
            await until(pilot, lambda pane=pane: {each for each in panes if _is_seen(specs, each)} == {pane})
            assert specs.query_one(f"#{pane}").region.width == 60
            await pilot.press("tab")


async def test_the_guide_takes_the_place_of_the_outline_and_the_focus_with_it(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    async with running(spec.parent, size=(100, 30)) as pilot:
        specs = await take_in_hand(pilot, until, FREQUENCY)
        await pilot.press("g")
        await until(pilot, lambda: _is_seen(specs, "guide") and not _is_seen(specs, "outline"))
        await see(pilot, "find section")
        await pilot.press("g")
        await until(pilot, lambda: _is_seen(specs, "outline") and not _is_seen(specs, "guide"))

        await pilot.resize_terminal(140, 30)
        await pilot.press("g")
        await pilot.resize_terminal(100, 30)
        await until(pilot, lambda: not _is_seen(specs, "outline"))
        await pilot.press("g")
        await until(pilot, lambda: _is_seen(specs, "outline"))


def _is_seen(specs: SpecsView, pane: str) -> bool:
    region = specs.query_one(f"#{pane}").region
    return region.area > 0 and specs.region.contains_region(region)


async def test_a_preview_shows_the_section_as_it_will_be_read(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    async with running(spec.parent) as pilot:
        await take_in_hand(pilot, until, "Field Mapping")
        await pilot.press("p")
        await see(pilot, "preview", "external_id")
        await pilot.press("p")
        await see(pilot, "| id | external_id | Direct | |")


async def test_a_line_that_was_drawn_before_it_was_broken_for_the_width_is_drawn_again(
    spec: Path, running: Running, until: Until
) -> None:
    put(spec, TEXT.replace("Two lists of customers drift apart.", "first " * 10 + "\n" + "word " * 30))
    async with running(spec.parent, size=(80, 24)) as pilot:
        editor = (await take_in_hand(pilot, until, "Problem Statement")).section_panel.editor
        editor.wrapped_document.wrap(200)
        assert editor.render_line(1).text.split() == ["word"] * 30
        editor.indent_width = 4  # breaks all lines anew
        assert editor.render_line(2).text.split() == ["word"] * 9
