"""Rows are added, moved, duplicated, deleted and suggested, with undo."""

from __future__ import annotations

from pathlib import Path

from tests.app.mapping.conftest import ROWS, TEXT, Running, See, Until, at_row, content, put, replace, view


async def test_rows_are_deleted_moved_and_restored(spec: Path, running: Running, until: Until) -> None:
    lines = ROWS.splitlines(keepends=True)
    async with running(spec.parent, view="mapping") as pilot:
        mapping = await at_row(pilot, until, 1)
        for keys, rows in [
            (["d"], [0, 2, 3]),
            (["J"], [0, 2, 1, 3]),
            (["K"], [1, 0, 2, 3]),
            (["ctrl+down", "ctrl+down"], [0, 2, 3, 1]),
        ]:
            mapping.grid.move(1)
            await pilot.press(*keys, "f2")
            moved = TEXT.replace(ROWS, "".join(lines[at] for at in rows))
            await until(pilot, lambda moved=moved: content(spec) == moved)
            await pilot.press("u")
            assert mapping.opened is not None
            assert mapping.opened.document.text == TEXT


async def test_row_is_duplicated_with_a_new_target(spec: Path, running: Running, until: Until) -> None:
    async with running(spec.parent, view="mapping") as pilot:
        mapping = await at_row(pilot, until, 2)
        await pilot.press("m")
        await until(pilot, lambda: mapping.cells.line.editing)
        await replace(pilot, "mail")
        await pilot.press("enter", "f2")
        twice = TEXT.replace("invoices go here |\n", "invoices go here |\n| email | mail | Trim | invoices go here |\n")
        await until(pilot, lambda: content(spec) == twice)


async def test_unmapped_targets_are_suggested_and_accepted(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    put(spec, TEXT.replace("| id | external_id | Direct | |\n", ""))
    async with running(spec.parent, view="mapping") as pilot:
        await until(pilot, lambda: view(pilot).state.record is not None)
        await see(pilot, "1 target unmapped", "◌", "external_id", "required", "suggest: source.id")
        await pilot.press("s")
        await see(pilot, "4 rows, unsaved", "external_id: c_1")
        await pilot.press("f2")
        await until(
            pilot,
            lambda: (
                '| born | birth_date | Date("%d/%m/%Y") | |\n| source.id | target.external_id | Direct | |\n'
                in content(spec)
            ),
        )


async def test_fields_of_the_target_are_completed_and_suggested(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    (spec.parent / "customers.jsonl").write_text('{"external_id": "c_1", "given_name": "Ada", "visits": 3}\n')
    async with running(spec.parent, view="mapping") as pilot:
        mapping = await at_row(pilot, until, 2, column=2)
        await see(pilot, "crm ▸ Field Mapping", "4 rows")
        await pilot.press("enter", "escape")
        assert mapping.state.target_fields == ()  # editing a cell calls no system
        await pilot.press("l")
        await until(pilot, lambda: mapping.state.target_fields)
        await pilot.press("enter")
        await replace(pilot, "giv")
        await see(pilot, "target.given_name")
        await pilot.press("escape")
        await see(pilot, "2 targets unmapped", "given_name", "suggest: source.name.", "visits", "optional", "integer")


async def test_suggestion_needs_no_column_that_the_table_lacks(spec: Path, running: Running, until: Until) -> None:
    put(
        spec,
        TEXT.replace(" Transformation | Notes |\n|---|---|---|---|", "\n|---|---|").replace(
            ROWS, "| email | email |\n"
        ),
    )
    async with running(spec.parent, view="mapping") as pilot:
        await at_row(pilot, until, 0)
        await pilot.press("s", "f2")
        await until(pilot, lambda: "| source.id | target.external_id |\n" in content(spec))


async def test_target_without_fields_offers_none(spec: Path, running: Running, see: See, until: Until) -> None:
    async with running(spec.parent, view="mapping") as pilot:
        mapping = await at_row(pilot, until, 2)
        await pilot.press("l")
        await see(pilot, "record 1 of 5", "live")
        assert mapping.state.target_fields == ()
        await see(pilot, "4 rows")


async def test_read_only_app_writes_nothing(spec: Path, running: Running, see: See, until: Until) -> None:
    async with running(spec.parent, view="mapping", read_only=True) as pilot:
        mapping = await at_row(pilot, until, 2)
        await pilot.press("d")
        await see(pilot, "Not now: delete", "--read-only")
        await pilot.press("enter")
        assert not mapping.cells.line.editing
        assert content(spec) == TEXT
