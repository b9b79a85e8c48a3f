"""Cells are edited in place, with a preview of the result for real records."""

from __future__ import annotations

import json
from pathlib import Path

from rich.cells import cell_len
from tests.app.mapping.conftest import (
    CONTACTS,
    ROWS,
    TEXT,
    Editing,
    Running,
    See,
    Until,
    at_row,
    content,
    put,
    replace,
    result,
    view,
    write,
)


async def test_cell_is_edited_in_place_and_saved_as_one_changed_line(
    spec: Path, editing: Editing, see: See, until: Until
) -> None:
    async with editing(2) as pilot:
        mapping = view(pilot)
        await write(pilot, ", Lowercase")
        await see(pilot, "→ ada@example.org")
        assert mapping.opened is not None
        assert not mapping.opened.unsaved
        await pilot.press("enter")
        await until(pilot, lambda: result(pilot, 2) == "ada@example.org")
        await pilot.press("f2")
        await see(pilot, "crm.md is saved")
        assert content(spec) == TEXT.replace("| email | Trim |", "| email | Trim, Lowercase |")

        await pilot.press("u")
        await until(pilot, lambda: result(pilot, 2) == "Ada@Example.org")
        await pilot.press("f2")
        await until(pilot, lambda: content(spec) == TEXT)


async def test_save_includes_the_edited_cell(spec: Path, editing: Editing, see: See) -> None:
    async with editing(2) as pilot:
        await write(pilot, ", Lowercase")
        await pilot.press("f2")
        await see(pilot, "crm.md is saved", "→ ada@example.o")
        assert content(spec) == TEXT.replace("| email | Trim |", "| email | Trim, Lowercase |")


async def test_unknown_step_is_reported_at_its_column_before_it_is_written(
    spec: Path, editing: Editing, see: See, until: Until
) -> None:
    async with editing(2) as pilot:
        await write(pilot, ", Lowercas")
        await see(pilot, "unknown step 'Lowercas'. Did you mean 'Lowercase'?")
        strips = [strip.text for strip in pilot.app.screen._compositor.render_strips()]
        line = next(at for at, text in enumerate(strips) if "Trim, Lowercas" in text)
        assert strips[line + 1].index("~~~~~~~~") == strips[line].index("Lowercas")
        await pilot.press("escape")
        await until(pilot, lambda: result(pilot, 2) == "Ada@Example.org")
        assert view(pilot).opened is not None
        assert content(spec) == TEXT
        assert not view(pilot).opened.unsaved  # type: ignore[union-attr]


async def test_position_in_a_cell_is_counted_in_terminal_cells(editing: Editing, see: See) -> None:
    async with editing(2) as pilot:
        await replace(pilot, 'Replace("名前", ""), Upper')
        await see(pilot, "unknown step 'Upper'")
        strips = [strip.text for strip in pilot.app.screen._compositor.render_strips()]
        line = next(at for at, text in enumerate(strips) if "Upper" in text)
        assert strips[line + 1].index("~~~~~") == cell_len(strips[line][: strips[line].index("Upper")])


async def test_preview_of_a_cell_is_a_few_lines_for_any_content(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    put(spec, TEXT.replace("email: {format: email}", "email: {maxLength: 9}"))
    hostile = "one\ntwo \x1b[31m\u202e" + "long " * 20_000
    record = {**CONTACTS[0], "email": hostile, "name": {"given": hostile}}
    (spec.parent / ".speclab" / "samples" / "crm.jsonl").write_text(json.dumps(record))
    async with running(spec.parent, view="mapping") as pilot:
        mapping = await at_row(pilot, until, 2)
        await see(pilot, r'✖ email: "one\ntwo \u001b[31m�long', "is longer than 9 characters")
        mapping.grid.move(1, 3)
        await pilot.press("enter")
        await see(pilot, "→ one␊two ␛[31m")
        await until(pilot, lambda: 0 < mapping.cells.popup.region.height <= 5)
        await pilot.press("escape")
        mapping.grid.move(1, 6)
        await pilot.press("y")
        await see(pilot, "Copied")
        assert pilot.app.clipboard == hostile.strip()
        assert pilot.app.screen.query_one("Toast").region.height < 10


async def test_column_that_the_table_lacks_cannot_be_edited(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    put(
        spec, TEXT.replace(" Transformation | Notes |\n|---|---|---|---|", "\n|---|---|").replace(ROWS, "| id | id |\n")
    )
    async with running(spec.parent, view="mapping") as pilot:
        mapping = await at_row(pilot, until, 0)
        await pilot.press("enter")
        await see(pilot, "the table has no column Transformation")
        mapping.grid.move(0, 2)
        await pilot.press("enter")
        await write(pilot, "_2")
        await pilot.press("tab")
        await until(pilot, lambda: not mapping.cells.line.editing)
        assert mapping.state.sheet is not None
        assert mapping.state.sheet.rows[0].target == "id_2"


async def test_pasted_lines_become_one(editing: Editing, until: Until) -> None:
    async with editing(2) as pilot:
        await write(pilot, ",\r\n  Uppercase,\nTruncate(3)\n")
        await until(pilot, lambda: view(pilot).cells.line.value == "Trim, Uppercase, Truncate(3)")


async def test_unknown_step_is_marked_in_the_row_after_it_is_written(editing: Editing, see: See) -> None:
    async with editing(2) as pilot:
        await write(pilot, ", Lowercas")
        await pilot.press("enter")
        await see(pilot, "✖ email", "M101", "1 problem")
        await pilot.press("u")
        await see(pilot, "✔ email")


async def test_steps_and_fields_are_completed(editing: Editing, see: See, until: Until) -> None:
    async with editing(2) as pilot:
        mapping = view(pilot)
        await write(pilot, ", low")
        await see(pilot, "Lowercase  ")
        await pilot.press("tab", "enter")
        await until(
            pilot,
            lambda: mapping.state.sheet and mapping.state.sheet.rows[2].texts["Transformation"] == "Trim, Lowercase",
        )

        mapping.grid.move(2, 1)
        await pilot.press("enter")
        await replace(pilot, "giv")
        await see(pilot, "source.name.given")
        await pilot.press("tab", "enter")
        await until(
            pilot,
            lambda: mapping.state.sheet and mapping.state.sheet.rows[2].texts["Source Field"] == "source.name.given",
        )


async def test_tab_edits_the_next_cell_and_all_is_one_undo_step(spec: Path, running: Running, until: Until) -> None:
    async with running(spec.parent, view="mapping") as pilot:
        mapping = await at_row(pilot, until, 3)
        await pilot.press("a")
        await write(pilot, "source.name.given")
        await pilot.press("tab")
        await until(pilot, lambda: mapping.grid.cursor_column == 2)
        await write(pilot, "target.given")
        await pilot.press("tab")
        await until(pilot, lambda: mapping.grid.cursor_column == 3)
        await write(pilot, "Trim")
        await pilot.press("enter")
        await until(pilot, lambda: len(mapping.grid.rows) == 5 and result(pilot, 4) == "Ada")
        await pilot.press("f2")
        await until(
            pilot, lambda: content(spec) == TEXT.replace(ROWS, f"{ROWS}| source.name.given | target.given | Trim | |\n")
        )
        await pilot.press("u")
        assert mapping.opened is not None
        assert mapping.opened.document.text == TEXT


async def test_tab_leaves_an_unedited_cell_unchanged(spec: Path, running: Running, see: See, until: Until) -> None:
    put(spec, TEXT.replace("check:", "check:\n  email_2: {format: email}"))
    async with running(spec.parent, view="mapping") as pilot:
        mapping = await at_row(pilot, until, 2, 2)
        await pilot.press("enter")
        await see(pilot, "target.email_2")
        await pilot.press("tab")
        await until(pilot, lambda: mapping.grid.cursor_column == 3)
        assert mapping.state.sheet is not None
        assert mapping.state.sheet.rows[2].target == "email"


async def test_edited_cell_is_kept_for_recovery(spec: Path, editing: Editing, until: Until) -> None:
    async with editing(2) as pilot:
        await write(pilot, ", Lowerc")
        recovery = spec.parent / ".speclab" / "recovery"
        await until(
            pilot, lambda: recovery.exists() and any("Trim, Lowerc" in content(at) for at in recovery.iterdir())
        )
        await pilot.press("escape")
        await until(pilot, lambda: not list(recovery.iterdir()))
        assert view(pilot).opened is not None
        assert view(pilot).opened.document.text == TEXT  # type: ignore[union-attr]


async def test_external_change_of_another_cell_of_the_row_is_kept(
    spec: Path, editing: Editing, see: See, until: Until
) -> None:
    async with editing(2) as pilot:
        mapping = view(pilot)
        await write(pilot, ", Lower")
        put(spec, TEXT.replace("| email | email | Trim |", "| born | mail | Direct | |\n| mail | email | Trim |"))
        await until(pilot, lambda: mapping.opened and "| mail | email |" in mapping.opened.document.text)
        await write(pilot, "case")
        await pilot.press("enter", "f2")
        await see(pilot, "crm.md is saved")
        both = "| born | mail | Direct | |\n| mail | email | Trim, Lowercase |"
        assert content(spec) == TEXT.replace("| email | email | Trim |", both)


async def test_cell_changed_externally_is_not_overwritten(spec: Path, editing: Editing, see: See, until: Until) -> None:
    async with editing(2) as pilot:
        mapping = view(pilot)
        others = TEXT.replace("| email | email | Trim |", "| email | email | Uppercase |")
        put(spec, others)
        await until(pilot, lambda: mapping.opened and mapping.opened.document.text == others)
        await write(pilot, ", Lowercase")
        await pilot.press("enter")
        await see(pilot, "changed externally")
        await pilot.press("escape")
        await until(pilot, lambda: not mapping.cells.line.editing)
        await see(pilot, "ADA@EXAMPLE.ORG")
        assert content(spec) == others


async def test_cell_is_edited_and_completed_with_the_mouse(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    async with running(spec.parent, view="mapping") as pilot:
        mapping = await at_row(pilot, until, 0)
        region = mapping.grid.region_of(2, 3)
        await pilot.click(mapping.grid, offset=region.offset, times=2)
        await until(pilot, lambda: mapping.cells.line.editing)
        await write(pilot, ", upp")
        await see(pilot, "Uppercase  ")
        await pilot.click("CompletionPopup Grid", offset=(2, 0), times=2)
        await until(pilot, lambda: mapping.cells.line.value == "Trim, Uppercase")
        await pilot.press("enter")
        await until(pilot, lambda: result(pilot, 2) == "ADA@EXAMPLE.ORG")


async def test_edited_cell_stays_under_the_input_when_the_terminal_is_resized(editing: Editing, until: Until) -> None:
    async with editing(1) as pilot:
        mapping = view(pilot)
        await pilot.resize_terminal(90, 24)
        await until(pilot, lambda: mapping.grid.size.width == 90)
        await until(
            pilot,
            lambda: (
                mapping.cells.line.region.offset
                == mapping.grid.region_of(1, 3).offset + mapping.grid.content_region.offset
            ),
        )
