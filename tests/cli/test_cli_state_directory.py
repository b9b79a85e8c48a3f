"""The `.speclab` directory: for its user alone, out of git, and a link in it is never followed."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.conftest import Shell

from speclab.core.clock import SystemClock
from speclab.core.errors import RunLogError, SpeclabError, UsageError
from speclab.core.locks import hold_spec, hold_workspace
from speclab.runlog import RunLog, RunLogReader
from speclab.service.heartbeat import HeartbeatWriter, heartbeat_path, read_heartbeat
from speclab.spec.store import find_recovery, recovery_path, write_recovery
from speclab.workbench.launcher import launch, launch_retry, launch_service
from speclab.workbench.samples import kept_sample_path, read_records, save_sample

PRECIOUS = "what the next reader of the workspace wrote\n"


@pytest.fixture
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory outside the workspace with a file that must not change."""
    directory = tmp_path_factory.mktemp("outside")
    (directory / "precious").write_text(PRECIOUS)
    return directory


def untouched(outside: Path) -> bool:
    """Return whether the directory is unchanged."""
    return [path.name for path in outside.iterdir()] == ["precious"] and (outside / "precious").read_text() == PRECIOUS


def modes(directory: Path) -> dict[str, str]:
    """Return the access modes in `.speclab` by path."""
    paths = [directory / ".speclab", *(directory / ".speclab").rglob("*")]
    return {str(path.relative_to(directory)): f"{stat.S_IMODE(path.stat().st_mode):o}" for path in paths}


def test_run_creates_a_state_directory_private_to_its_user(people: Shell) -> None:
    before = os.umask(0o022)
    try:
        people("run", "people", exit_code=1)
    finally:
        os.umask(before)
    found = modes(people.directory)
    assert found.pop(".speclab/.gitignore") == "644"
    assert found[".speclab"] == "700"
    assert found[".speclab/runlog.db"] == "600"
    assert set(found.values()) == {"700", "600"}


@pytest.mark.parametrize(
    "command", [("run", "people"), ("demo", "."), ("pause", "people"), ("retry", "people", "--all")], ids=" ".join
)
def test_every_command_that_creates_a_state_directory_keeps_it_out_of_git(
    people: Shell, command: tuple[str, ...]
) -> None:
    people(*command, exit_code=None)
    state = people.directory / ".speclab"
    assert not state.exists() or (state / ".gitignore").read_text() == "*\n"


def test_run_log_elsewhere_is_private_to_its_user(people: Shell) -> None:
    people("run", "people", "--runlog", "elsewhere/log.db", exit_code=1)
    assert stat.S_IMODE((people.directory / "elsewhere/log.db").stat().st_mode) == 0o600


@pytest.mark.parametrize("link", ["runlog.db", "runlog.db-wal", "runlog.db.new", "locks", "locks/people.lock"], ids=str)
@pytest.mark.parametrize("dangling", [False, True], ids=["to a file", "dangling"])
def test_run_refuses_links_in_the_state_directory(people: Shell, outside: Path, link: str, *, dangling: bool) -> None:
    path = people.directory / ".speclab" / link
    path.parent.mkdir(parents=True)
    path.symlink_to(outside / "new" if dangling else outside if link == "locks" else outside / "precious")
    rejected = people("run", "people", exit_code=1)
    assert f".speclab/{link}: is a symbolic link" in rejected.stderr
    assert untouched(outside)
    assert not (people.directory / "out.jsonl").exists()


@pytest.mark.parametrize("command", [("run", "people"), ("up",), ("demo", "."), ("status",)], ids=" ".join)
def test_state_directory_that_is_a_link_is_refused(people: Shell, outside: Path, command: tuple[str, ...]) -> None:
    (people.directory / ".speclab").symlink_to(outside)
    if command == ("status",):
        (outside / "precious").rename(outside / "runlog.db")
    rejected = people(*command, exit_code=1)
    assert ".speclab: is a symbolic link" in rejected.stderr
    if command != ("status",):
        assert untouched(outside)


def serve(directory: Path) -> None:
    """Start the service, and kill it."""
    process = launch_service(directory, directory, directory / ".speclab/runlog.db").process
    process.kill()
    process.wait()


@pytest.mark.parametrize(
    ("link", "write"),
    [
        ("runs/people.log", lambda here: launch(here / "people.md", "people", here, here / ".speclab/runlog.db")),
        ("runs", lambda here: launch(here / "people.md", "people", here, here / ".speclab/runlog.db")),
        ("runs/people.retry.log", lambda here: launch_retry("people", [], here, here / ".speclab/runlog.db")),
        ("up.log", serve),
        ("locks/people.lock", lambda here: hold_spec(here, "people").__enter__()),
        ("up.lock", lambda here: hold_workspace(here).__enter__()),
        ("up.json", lambda here: HeartbeatWriter(here, SystemClock().now()).beat(SystemClock().now(), {})),
        ("samples", lambda here: save_sample([{"id": 1}], here / "people.md", "people")),
        ("samples/people.jsonl", lambda here: save_sample([{"id": 1}], here / "people.md", "people")),
        ("recovery", lambda here: write_recovery(here / "people.md", "text")),
        ("runlog.db", lambda here: RunLog.open(here / ".speclab/runlog.db")),
    ],
)
def test_nothing_is_written_through_a_link(
    tmp_path: Path, outside: Path, link: str, write: Callable[[Path], object]
) -> None:
    path = tmp_path / ".speclab" / link
    path.parent.mkdir(parents=True)
    path.symlink_to(outside / "precious" if path.suffix else outside)
    if link == "up.log":  # it is moved away, like every log of an earlier service
        write(tmp_path)
    else:
        with pytest.raises(SpeclabError, match="is a symbolic link"):
            write(tmp_path)
    assert untouched(outside)


def test_nothing_is_read_through_a_link(tmp_path: Path, outside: Path) -> None:
    spec = tmp_path / "people.md"
    for path in (heartbeat_path(tmp_path), kept_sample_path(spec, "people"), tmp_path / ".speclab" / "runlog.db"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(outside / "precious")
    assert read_heartbeat(tmp_path) is None
    with pytest.raises(UsageError, match="is a symbolic link"):
        read_records(kept_sample_path(spec, "people"))
    with pytest.raises(RunLogError, match="is a symbolic link"):
        RunLogReader.open(tmp_path / ".speclab" / "runlog.db").runs()
    aside = recovery_path(spec)
    aside.parent.mkdir()
    aside.symlink_to(outside / "precious")
    assert find_recovery(spec) is None


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("locks/people.lock", lambda here: hold_spec(here, "people").__enter__()),
        ("runs/people.log", lambda here: launch(here / "people.md", "people", here, here / "runlog.db")),
    ],
)
def test_pipe_in_the_state_directory_is_not_written(tmp_path: Path, name: str, write: Callable[[Path], object]) -> None:
    path = tmp_path / ".speclab" / name
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    with pytest.raises(SpeclabError, match=path.name):
        write(tmp_path)


def test_pipe_in_the_state_directory_does_not_block(tmp_path: Path) -> None:
    (tmp_path / ".speclab").mkdir()
    os.mkfifo(heartbeat_path(tmp_path))
    assert read_heartbeat(tmp_path) is None


def test_workspace_behind_a_link_works(people: Shell, tmp_path_factory: pytest.TempPathFactory) -> None:
    link = tmp_path_factory.mktemp("links") / "work"
    link.symlink_to(people.directory)
    Shell(link, people.env)("run", str(link / "specs/people.md"), exit_code=1)
    assert (people.directory / ".speclab" / "runlog.db").exists()
