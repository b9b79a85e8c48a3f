"""Regenerate screenshots/ from the running app on the demo: `make screenshots`.

The two systems of the demo run, one sync is made between them, and the app is driven by key presses.
"""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import cairosvg

from speclab.app.application import SpeclabApp
from speclab.cli.run import run_spec
from speclab.demo import Workspace, create_workspace
from speclab.demo.servers import run_servers
from speclab.sync.run import RunOptions

OUT: Final = Path(__file__).parents[1] / "screenshots"
WIDE: Final = (160, 45)
SMALL: Final = (80, 24)
FONT: Final = "DejaVu Sans Mono"

SHOTS: Final[Sequence[tuple[str, str, tuple[int, int], Sequence[str]]]] = (
    ("specs", "specs", WIDE, ["down"] * 3),
    ("specs-small", "specs", SMALL, []),
    ("mapping", "mapping", WIDE, ["l", "F"]),
    ("mapping-small", "mapping", SMALL, ["l"]),
    ("monitor", "monitor", WIDE, []),
    ("monitor-small", "monitor", SMALL, []),
    ("failure", "monitor", WIDE, ["tab", "enter"]),
)
"""Name, place, size in cells, and the keys that lead there."""


async def shoot(workspace: Workspace, name: str, view: str, size: tuple[int, int], keys: Sequence[str]) -> None:
    """Open the app at `view`, press `keys`, and write the screen to screenshots/NAME.png."""
    app = SpeclabApp(workspace.directory, view=view)
    async with app.run_test(size=size) as pilot:
        await pilot.pause(1.5)
        for key in keys:
            await pilot.press(key)
            await pilot.pause(2.0 if key == "l" else 0.1)  # samples come from the live source
        await pilot.pause(1.5)
        svg = app.export_screenshot(title=f"speclab — {view}")
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL).replace("Fira Code", FONT)
    cairosvg.svg2png(bytestring=svg.encode(), write_to=str(OUT / f"{name}.png"), output_width=size[0] * 12)


def main() -> None:
    """Regenerate all screenshots."""
    OUT.mkdir(exist_ok=True)
    os.environ |= {"COLORTERM": "truecolor", "TERM": "xterm-256color"}
    with tempfile.TemporaryDirectory() as directory:
        workspace = create_workspace(Path(directory) / "demo")
        with run_servers(workspace.billing) as env:
            os.environ |= env
            run_spec(workspace.spec, RunOptions(trigger="demo"), lambda _wanted: True, workspace.runlog)
            for shot in SHOTS:
                asyncio.run(shoot(workspace, *shot))


if __name__ == "__main__":
    main()
