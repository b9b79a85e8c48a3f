"""The connector in the how-to page, built and installed as a package: linted, run, killed and resumed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.docs.test_docs import ROOT, blocks, matches, run_commands

from speclab.core.outcome import Outcome, RunState
from speclab.runlog import RunLogReader
from speclab.runlog.rows import RunRow

PAGE = ROOT / "docs" / "how-to" / "write-a-connector.md"
SIZE, MANY = 100, 600


@dataclass(frozen=True, slots=True)
class Workspace:
    """A directory with the page's connector installed next to speclab, and the output of the page's commands."""

    path: Path
    env: dict[str, str]
    commands: tuple[tuple[str, str, str], ...]  # command, expected output, actual output

    @property
    def log(self) -> Path:
        return self.path / ".speclab" / "runlog.db"

    def start(self, *args: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-P", "-m", "speclab", *args]
        return subprocess.Popen(command, cwd=self.path, env=self.env, stdout=subprocess.PIPE, text=True)

    def run(self, *args: str) -> str:
        with self.start(*args) as process:
            output = process.communicate(timeout=60)[0]
        assert process.returncode == 0, output
        return output

    def runs(self) -> list[RunRow]:
        with RunLogReader.open(self.log) as reader:
            return list(reversed(reader.runs()))

    def documents(self, folder: str) -> dict[str, object]:
        return {file.stem: json.loads(file.read_bytes()) for file in (self.path / folder).glob("*.json")}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the package installed, built from the page."""
    project, site = tmp_path_factory.mktemp("speclab-folder"), tmp_path_factory.mktemp("site")
    code, test = blocks(PAGE, "python")
    (project_file,) = blocks(PAGE, "toml")
    for name, text in (("speclab_folder.py", code), ("pyproject.toml", project_file)):
        (project / name).write_text(text)
    (site / "test_speclab_folder.py").write_text(test)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "dist"]
    subprocess.run(build, cwd=project, check=True, capture_output=True)
    (wheel,) = (project / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(site)
    return site


@pytest.fixture(scope="module")
def followed(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Return the workspace after running all commands of the page."""
    directory = tmp_path_factory.mktemp("workspace")
    paths = {"PATH": str(Path(sys.executable).parent), "PYTHONPATH": str(site)}
    env = os.environ | {
        name: f"{path}:{os.environ[name]}" if os.environ.get(name) else path for name, path in paths.items()
    }
    return Workspace(directory, env, tuple(run_commands(PAGE, directory, env)))


@pytest.fixture
def workspace(followed: Workspace, tmp_path: Path) -> Workspace:
    """Return a copy of the workspace that a test may change."""
    shutil.copytree(followed.path, tmp_path / "w")
    return Workspace(tmp_path / "w", followed.env, ())


def assert_balanced(row: RunRow) -> None:
    assert row.read == sum(getattr(row, outcome) for outcome in Outcome)


def test_connector_has_at_most_sixty_lines() -> None:
    code = blocks(PAGE, "python")[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 60


def test_connector_passes_its_own_test(site: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_speclab_folder.py"]
    env = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=site, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, "1 passed" in done.stdout) == (0, True), done.stdout


def test_every_command_prints_what_the_page_shows(followed: Workspace) -> None:
    for command, expected, printed in followed.commands:
        assert matches(expected, printed), f"$ {command}\n{printed}"
    assert [run.state for run in followed.runs()] == [RunState.SUCCEEDED, RunState.SUCCEEDED]
    for run in followed.runs():
        assert_balanced(run)


def test_run_reads_only_what_changed(workspace: Workspace) -> None:
    workspace.run("run", "authors")
    (workspace.path / "team" / "edsger.json").write_text('{"name": "Edsger Dijkstra"}')
    workspace.run("run", "authors")
    workspace.run("run", "--full", "authors")
    *_, again, new, full = workspace.runs()
    assert (again.written, new.written, new.read < 3) == (0, 1, True)
    assert (full.read, full.unchanged) == (3, 3)


def test_killed_run_resumes_and_loses_nothing(workspace: Workspace) -> None:
    for number in range(MANY):
        (workspace.path / "team" / f"p{number}.json").write_text(
            f'{{"name": " Person {number}", "mail": "P@{number}"}}'
        )
    earlier = len(workspace.runs())
    with workspace.start("run", "authors") as process:
        deadline = time.monotonic() + 60
        with RunLogReader.open(workspace.log) as reader:
            while (run := reader.runs()[0]).state != RunState.RUNNING or run.read < 2 * SIZE:
                assert time.monotonic() < deadline, "the run makes no progress"
                assert process.poll() is None, "the run ended before it could be killed"
                time.sleep(0.005)
        process.kill()
    documents = len(workspace.documents("site/authors"))
    assert 2 * SIZE <= documents < MANY

    workspace.run("run", "authors")
    killed, after = workspace.runs()[earlier:]
    assert (killed.state, after.state) == (RunState.INTERRUPTED, RunState.SUCCEEDED)
    assert_balanced(killed)
    assert_balanced(after)
    assert after.read < MANY  # it resumed where the first was killed
    people = {
        f"p{number}": {"id": f"p{number}", "name": f"Person {number}", "mail": f"p@{number}"} for number in range(MANY)
    }
    found = workspace.documents("site/authors")
    assert {key: found[key] for key in people} == people
    assert found.keys() - people.keys() == {"ada", "grace"}


def test_plan_auth_and_fields_work_with_the_connector(workspace: Workspace) -> None:
    (workspace.path / "team" / "edsger.json").write_text('{"name": "Edsger Dijkstra"}')
    planned = json.loads(workspace.run("plan", "authors", "--json"))
    assert workspace.run("auth", "authors").count("connected") == 2
    assert "id     text" in workspace.run("fields", "authors", "target")
    assert planned["read"] >= 1
    assert "edsger" not in workspace.documents("site/authors")
