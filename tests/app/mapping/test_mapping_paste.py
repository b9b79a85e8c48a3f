"""Cells copied from a spreadsheet are pasted as cells of the mapping."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.app.mapping.conftest import Running, See, Until, at_row, view, write

SIZES = [(80, 24), (160, 45)]
CELLS = 'Source Field\tTarget Field\tTransformation\nborn\tbirthday\tDate(""%d/%m/%Y"")\nphone\ttel\tTrim\n'


def texts(pilot: object, row: int) -> list[str]:
    sheet = view(pilot).state.sheet  # type: ignore[arg-type]  # a pilot
    assert sheet is not None
    return list(sheet.rows[row].texts.values())[:3]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("editing", [False, True])
async def test_pasted_cells_fill_rows_and_add_missing_ones(
    spec: Path, running: Running, see: See, until: Until, size: tuple[int, int], *, editing: bool
) -> None:
    async with running(spec.parent, view="mapping", size=size) as pilot:
        await at_row(pilot, until, 3, 1)
        if editing:
            await pilot.press("enter")
        await write(pilot, CELLS.replace('""', '"'))
        await see(pilot, "5 rows", "2 rows pasted")
        assert texts(pilot, 3) == ["born", "birthday", 'Date("%d/%m/%Y")']
        assert texts(pilot, 4) == ["phone", "tel", "Trim"]
        await pilot.press("u")
        await see(pilot, "4 rows")
        assert texts(pilot, 3) == ["born", "birth_date", 'Date("%d/%m/%Y")']


async def test_more_columns_than_the_table_has_are_rejected(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    async with running(spec.parent, view="mapping") as pilot:
        await at_row(pilot, until, 0, 3)
        await write(pilot, "a\tb\tc\td")
        await see(pilot, "4 columns do not fit: there are 2 from Transformation on")
