"""The map of the code in CONTRIBUTING.md matches the package."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "tui" / "speclab"
TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
PATHS = sorted(set(re.findall(r"(?<![\w/.])(?:\w+/)+(?:\w+\.\w+)?(?![\w/])", TEXT)))
"""Directories such as `runlog/`, and files such as `runlog/store.py`."""


@pytest.mark.parametrize("path", PATHS)
def test_every_path_in_contributing_exists(path: str) -> None:
    assert (PACKAGE / path).exists() or (ROOT / path).exists()


def test_map_lists_every_part_of_the_package() -> None:
    parts = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    assert parts - set(PATHS) == set()


def test_contributing_names_each_make_target() -> None:
    targets = re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert [name for name in targets if f"`make {name}`" not in TEXT and name not in {"help", "setup", "clean"}] == []
