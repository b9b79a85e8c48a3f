"""The panes of the Specs view: outline, section, guide and problems, as they fit."""

from __future__ import annotations

from pathlib import Path

from tests.app.test_specs_view import (
    AUTH,
    FREQUENCY,
    TEXT,
    Running,
    Screen,
    See,
    Until,
    open_section,
    put,
    spec,
)

from speclab.app.views.specs.view import SpecsView

__all__ = ["spec"]


async def test_outline_marks_every_section_as_filled_empty_or_invalid(spec: Path, running: Running, see: See) -> None:
    async with running(spec.parent) as pilot:
        await see(pilot, "✔ Problem Statement", "◌ Direction", "✖ Source System Auth")
        await see(pilot, "✖ crm", "2 errors")


async def test_guide_and_problems_are_beside_the_current_section(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    async with running(spec.parent) as pilot:
        await open_section(pilot, until, AUTH)
        await see(pilot, "Authentication at the", "34:1", "write type", "1 here of 5 ─")


async def test_empty_section_says_what_belongs_there_and_which_keys_fill_it_where_the_guide_is_hidden(
    spec: Path, running: Running, see: See, until: Until, screen: Screen
) -> None:
    put(spec, TEXT.replace("Two lists of customers drift apart.\n", "").replace("Hourly, at night.\n", ""))
    async with running(spec.parent, size=(80, 24)) as pilot:
        specs = await open_section(pilot, until, "Problem Statement")
        await see(pilot, "Whose problem this solves", "enter fills it in, g shows the guide")
        specs.go_to(FREQUENCY)
        await see(pilot, "When runs start.", "i with an example")
        await pilot.press("i")
        await see(pilot, "editing")
        assert "When runs start" not in screen(pilot)


async def test_edited_text_fills_a_screen_that_becomes_narrow(spec: Path, running: Running, until: Until) -> None:
    async with running(spec.parent, size=(80, 24)) as pilot:
        specs = await open_section(pilot, until, "Problem Statement")
        await pilot.press("enter")
        await until(pilot, lambda: specs.section_panel.editing)
        await pilot.resize_terminal(60, 20)
        await until(pilot, lambda: specs.section_panel.region.width == 60)
        await pilot.press("escape")
        await until(pilot, lambda: not specs.section_panel.region and specs.query_one("#outline").region.width == 60)
        await pilot.press("enter")
        await until(pilot, lambda: specs.section_panel.region.width == 60)


async def test_narrow_screen_shows_no_empty_problems_pane(spec: Path, running: Running, see: See, until: Until) -> None:
    async with running(spec.parent, size=(60, 24)) as pilot:
        specs = await open_section(pilot, until, "Problem Statement")
        for pane in ("Problem Statement", "guide", "specs", "outline"):
            await pilot.press("tab")
            await see(pilot, f" {pane} ─")
        specs.go_to(AUTH)
        await pilot.press("tab", "tab", "tab")
        await see(pilot, "─ problems ──", "write type")
        await pilot.press("f")
        await see(pilot, "─ outline ─")


async def test_as_many_panes_are_shown_as_fit(spec: Path, running: Running, until: Until) -> None:
    panes = {"specs", "outline", "section_panel", "guide"}
    async with running(spec.parent) as pilot:
        specs = await open_section(pilot, until, FREQUENCY)
        for width, seen in [(120, panes), (80, panes - {"guide"}), (60, {"outline"})]:
            await pilot.resize_terminal(width, 24)
            await until(pilot, lambda seen=seen: {pane for pane in panes if _is_seen(specs, pane)} == seen)
        for pane in ("outline", "section_panel", "guide"):
            await until(pilot, lambda pane=pane: {each for each in panes if _is_seen(specs, each)} == {pane})
            assert specs.query_one(f"#{pane}").region.width == 60
            await pilot.press("tab")


async def test_guide_replaces_the_outline_and_gets_the_focus(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    async with running(spec.parent, size=(100, 30)) as pilot:
        specs = await open_section(pilot, until, FREQUENCY)
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


async def test_preview_renders_the_section(spec: Path, running: Running, see: See, until: Until) -> None:
    async with running(spec.parent) as pilot:
        await open_section(pilot, until, "Field Mapping")
        await pilot.press("p")
        await see(pilot, "preview", "external_id")
        await pilot.press("p")
        await see(pilot, "| id | external_id | Direct | |")


async def test_line_drawn_before_it_was_wrapped_is_redrawn(spec: Path, running: Running, until: Until) -> None:
    put(spec, TEXT.replace("Two lists of customers drift apart.", "first " * 10 + "\n" + "word " * 30))
    async with running(spec.parent, size=(80, 24)) as pilot:
        editor = (await open_section(pilot, until, "Problem Statement")).section_panel.editor
        editor.wrapped_document.wrap(200)
        assert editor.render_line(1).text.split() == ["word"] * 30
        editor.indent_width = 4  # wraps all lines again
        assert editor.render_line(2).text.split() == ["word"] * 9
