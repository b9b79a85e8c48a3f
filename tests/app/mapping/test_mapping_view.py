"""The rows of a mapping beside a sample record, its result, and its failures."""

from __future__ import annotations

import json
from pathlib import Path

from tests.app.mapping.conftest import CONTACTS, TEXT, Running, See, Until, at_row, put


async def test_every_row_shows_the_sample_and_its_result(spec: Path, running: Running, see: See) -> None:
    async with running(spec.parent, view="mapping") as pilot:
        await see(pilot, "crm ▸ Field Mapping", "4 rows", "record 1 of 4", "2 pass, 2 fail, kept sample")
        await see(pilot, "Ada , Lovelace ", "→ Ada Lovelace", "10/12/1815", "1815-12-10", "full_name: Ada Lovelace")


async def test_next_failing_record_shows_where_it_fails(spec: Path, running: Running, see: See, until: Until) -> None:
    async with running(spec.parent, view="mapping") as pilot:
        await at_row(pilot, until, 3)
        await see(pilot, "1 fail on birth_date")
        await pilot.press("F")
        await see(pilot, "record 3 of 4", "◀ row birth_date", "birth_date: ✖", 'got "1912-06-23"')
        await pilot.press("n")
        await see(pilot, "record 4 of 4", "◀ row email")
        await pilot.press("n", "n", "p")
        await see(pilot, "record 1 of 4")


async def test_record_that_the_filter_cannot_evaluate_is_reported_and_so_is_one_without_fields(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    put(spec, TEXT.replace("check:", "filter: source.id != 'c_2'\ncheck:"))
    (spec.parent / ".speclab" / "samples" / "crm.jsonl").write_text(f"{json.dumps(CONTACTS[0])}\n{{}}\n")
    async with running(spec.parent, view="mapping") as pilot:
        await at_row(pilot, until, 1)
        await see(pilot, "1 pass, 1 fail")
        await pilot.press("F")
        await see(pilot, "record 2 of 2", "✖ filter: there is no field 'id'", "full_name: null", "not there")


async def test_source_field_missing_from_all_sample_records_is_reported_with_a_suggestion(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    put(spec, TEXT.replace("name.given,", "name.gvien,"))
    async with running(spec.parent, view="mapping") as pilot:
        await at_row(pilot, until, 1)
        await see(pilot, "1 problem", "▲ name.gvien", "M201 'name.gvien' is missing in all 4 sample records")
        await see(pilot, "Did you mean 'name.given'?")


async def test_steps_of_a_row_are_explained(spec: Path, running: Running, see: See, until: Until) -> None:
    async with running(spec.parent, view="mapping") as pilot:
        await at_row(pilot, until, 1)
        await pilot.press("x")
        await see(pilot, "steps of full_name", "Trim         Ada, Lovelace", 'Concat(" ")  Ada Lovelace')
        await pilot.press("x")
        await see(pilot, "target record")


async def test_most_important_columns_stay_in_a_narrow_terminal(spec: Path, running: Running, until: Until) -> None:
    least = ["Source Field", "Target Field", "Transformation", "Result"]
    async with running(spec.parent, view="mapping") as pilot:
        grid = (await at_row(pilot, until, 0)).grid
        for width, more in [(160, ["Sample", "Type", "Fails", "Dead", "Notes"]), (80, ["Fails", "Dead"]), (60, [])]:
            await pilot.resize_terminal(width, 24)
            named = [at for at, column in enumerate(grid.columns) if len(column.title) > 1]
            await until(
                pilot,
                lambda named=named, more=more: (
                    sorted([*least, *more]) == sorted(grid.columns[at].title for at in named if grid.region_of(0, at))
                ),
            )
