"""A grid with 100,000 rows: time to the first paint, and of a page down."""

from __future__ import annotations

import asyncio
import time
from statistics import median
from typing import Final

from tests.bench.budget import at_most
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from speclab.app.formatting import DARK
from speclab.app.widgets.grid import Grid, GridColumn, GridRow

ROWS: Final = 100_000
TIMES: Final = 20
_COLUMNS: Final = (GridColumn("key", 12), GridColumn("message", 40, flex=1), GridColumn("count", 8, align="right"))


class GridApp(App[None]):
    """An app with one grid, empty at first."""

    def __init__(self) -> None:
        super().__init__()
        self.register_theme(DARK)
        self.theme = DARK.name

    def compose(self) -> ComposeResult:
        """Yield the grid."""
        yield Grid(_COLUMNS)


async def measured() -> tuple[float, float]:
    """Return the seconds until the rows are drawn, and of a page down."""
    rows = [GridRow(str(n), (f"c_{n}", f"the target refuses record {n}", str(n % 7))) for n in range(ROWS)]
    async with GridApp().run_test(size=(160, 45)) as pilot:
        grid = pilot.app.query_one(Grid)
        grid.focus()
        await pilot.pause()
        began = time.perf_counter()
        grid.show(rows)
        await pilot.pause()
        opened = time.perf_counter() - began
        nothing = await _pressed(pilot, "f12")
        down = await _pressed(pilot, "pagedown")
        assert grid.cursor_row > TIMES * 40
        return opened, down - nothing


async def _pressed(pilot: Pilot[None], key: str) -> float:
    times = []
    for _ in range(TIMES):
        began = time.perf_counter()
        await pilot.press(key)
        times.append(time.perf_counter() - began)
    return median(times)


def main() -> None:
    """Measure and print the results."""
    opened, down = asyncio.run(measured())
    print(f"grid: {ROWS:,} rows, 160 by 45 cells; a page down is what it takes more than a key that does nothing")
    at_most("opens", opened * 1000, 500, " ms")
    at_most("a page down", down * 1000, 50, " ms")


if __name__ == "__main__":
    main()
