"""The documentation is correct: snippets run, generated pages are current, links and paths exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTED_ELSEWHERE = ("README.md", "write-a-connector.md")
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])
RUN = [page for page in PAGES if page.name not in TESTED_ELSEWHERE and "reference" not in page.parts]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def sessions(block: str) -> list[tuple[str, str]]:
    """Return (command, expected output) pairs of a console block: `$ ` starts a command, `> ` continues it."""
    found: list[tuple[str, str]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        elif line.startswith(">"):
            command, output = found.pop()
            found.append((f"{command}\n{line[2:]}", output))
        else:
            command, output = found.pop()
            found.append((command, f"{output}{line}\n"))
    return found


def matches(expected: str, printed: str) -> bool:
    """Return whether `printed` matches `expected`, in which `…` matches any text, including newlines."""
    pattern = ".*".join(re.escape(part.strip("\n")) for part in expected.split("…"))
    return re.fullmatch(rf"\s*{pattern}\s*", printed, re.DOTALL) is not None


def run_commands(page: Path, directory: Path, env: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Run each console command of `page` in `directory`, and yield (command, expected output, actual output)."""
    for block in blocks(page, "console"):
        for command, expected in sessions(block):
            done = subprocess.run(
                ["bash", "-c", f"{command}\n"],
                cwd=directory,
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            yield command, expected, done.stdout


@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_snippet_prints_what_the_page_shows(
    page: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    no_trust = {"SPECLAB_TRUST": "", "XDG_STATE_HOME": str(tmp_path_factory.mktemp("state"))}
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"} | no_trust
    for command, expected, printed in run_commands(page, tmp_path, env):
        assert matches(expected, printed), f"$ {command}\n{printed}"
    for number, block in enumerate(blocks(page, "python")):
        script = tmp_path / f"snippet_{number}.py"
        script.write_text(block)
        subprocess.run([sys.executable, script.name], cwd=tmp_path, env=env, check=True)


def test_generated_pages_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_target_exists(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_named_on_a_page_exists(page: Path) -> None:
    named = re.findall(r"`([\w./-]+/[\w.-]+\.py)`", page.read_text("utf-8"))
    assert [name for name in named if not any((base / name).exists() for base in (ROOT, ROOT / "tui/speclab"))] == []
