"""The documentation is true: snippets run, generated pages are what the program says, links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OWN = ("README.md", "write-a-connector.md")  # those are tested apart
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])
RUN = [page for page in PAGES if page.name not in OWN and "reference" not in page.parts]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def sessions(block: str) -> list[tuple[str, str]]:
    """(command, expected output) of a console block: `$ ` begins a command, `> ` goes on with it."""
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
    """Whether `printed` is `expected`, where `…` stands for anything, lines included."""
    pattern = ".*".join(re.escape(part.strip("\n")) for part in expected.split("…"))
    return re.fullmatch(rf"\s*{pattern}\s*", printed, re.DOTALL) is not None


def follow(page: Path, directory: Path, env: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Give each console command of `page` in `directory`: (command, expected output, what it printed)."""
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
def test_every_snippet_does_what_the_page_says(
    page: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    trusting_nobody = {"SPECLAB_TRUST": "", "XDG_STATE_HOME": str(tmp_path_factory.mktemp("state"))}
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"} | trusting_nobody
    for command, expected, printed in follow(page, tmp_path, env):
        assert matches(expected, printed), f"$ {command}\n{printed}"
    for number, block in enumerate(blocks(page, "python")):
        script = tmp_path / f"snippet_{number}.py"
        script.write_text(block)
        subprocess.run([sys.executable, script.name], cwd=tmp_path, env=env, check=True)


def test_the_generated_pages_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
