"""Processes of taps: command, environment and files, and no process is left behind."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tests.connectors.conftest import Reports, read_all, read_to_failure
from tests.connectors.taps import SECRET, TAP, Taps, ends, numbers, starts, wait_for_start

from speclab.core.errors import Unreachable
from speclab.core.locks import ProcessIdentity

pytestmark = pytest.mark.usefixtures("singer_files")


async def test_missing_program_is_reported(tap: Taps) -> None:
    _, error = await read_to_failure(tap([], command="tap-of-nobody"))
    assert str(error) == "tap-of-nobody: there is no such program"
    assert "pipx" in error.hint


async def test_command_runs_without_shell_relative_to_the_workspace(tap: Taps, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "my tap"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$1" "$2" > "{tmp_path}/args"\nshift 2\nexec {TAP} "$@"\n')
    program.chmod(0o700)
    pages = await read_all(tap([{"count": [1, 2]}], command="'bin/my tap' '$HOME; ls' more"))
    assert numbers(pages) == [1, 2]
    assert (tmp_path / "args").read_text() == "$HOME; ls\nmore\n"


async def test_config_file_is_private_and_contains_the_secrets(tap: Taps, witness: Path, tmp_path: Path) -> None:
    await read_all(tap([], witness, {"token": "${env:SECRET}", "nested": {"list": ["${env:SECRET}", 3]}}))
    (start,) = starts(witness)
    assert (start["mode"], start["directory"], start["cwd"]) == ("-rw-------", "drwx------", str(tmp_path))


async def test_changed_config_of_a_tap_is_reported(tap: Taps, reports: Reports) -> None:
    await read_all(tap([{"rewrite": {"refresh_token": "another"}}]))
    (line,) = reports.lines
    assert line.startswith("warning: tap.py: changed its config, which is lost")


async def test_hanging_tap_is_killed(tap: Taps, witness: Path) -> None:
    do: list[Any] = ["deaf", {"count": [1, 3]}, {"log": "INFO still there"}, "wait"]
    pages, error = await read_to_failure(tap(do, witness, limits={"timeout": "300ms"}))
    assert numbers(pages) == [1, 2, 3]
    assert type(error).__mro__[1] is Unreachable
    assert "wrote and read nothing for 300ms" in str(error)
    assert await ends(starts(witness)[0]["pid"])


async def test_abandoned_read_leaves_no_process(tap: Taps, witness: Path, tmp_path: Path) -> None:
    child = tmp_path / "child"
    reader = tap([{"spawn": str(child)}, {"count": [1, 1_000_000]}], witness)
    async with aclosing(reader.pages(None, full=False)) as pages:  # type: ignore[type-var]  # an async generator
        page = await anext(pages)
    assert page.records
    assert await ends(starts(witness)[0]["pid"])
    assert await ends(int(child.read_text()))
    await reader.close()


async def test_cancelled_read_leaves_no_process(tap: Taps, witness: Path) -> None:
    reading = asyncio.create_task(read_all(tap([{"count": [1, 5]}, "wait"], witness)))
    await wait_for_start(witness)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    with pytest.raises(ProcessLookupError):  # not even as a zombie
        os.kill(starts(witness)[0]["pid"], 0)


async def test_child_left_behind_by_a_tap_is_killed(tap: Taps, tmp_path: Path) -> None:
    child = tmp_path / "child"
    do: list[Any] = [{"spawn": str(child)}, {"count": [1, 5]}, {"exit": 0}]
    pages, error = await read_to_failure(tap(do, limits={"timeout": "500ms"}))
    assert numbers(pages) == [1, 2, 3, 4, 5]
    assert "wrote and read nothing" in str(error)  # whoever holds the pipe may still write to it
    assert await ends(int(child.read_text()))


async def test_tap_is_blocked_while_its_pages_are_not_consumed(tap: Taps, witness: Path, tmp_path: Path) -> None:
    done = tmp_path / "done"
    reader = tap([{"count": [1, 100_000]}, {"spawn": str(done)}, {"exit": 1}], witness)
    async with aclosing(reader.pages(None, full=False)) as pages:  # type: ignore[type-var]  # an async generator
        await anext(pages)
        await asyncio.sleep(0.5)  # as long as it would take to write all of them
        assert not done.exists()
    await reader.close()


async def test_next_run_cleans_up_after_a_killed_run(tap: Taps) -> None:
    """The tap of a killed run is ended; the tap of a live run is not."""
    sleeper = [sys.executable, "-c", "import signal; signal.pause()"]
    owner = await asyncio.create_subprocess_exec(*sleeper)
    orphan = await asyncio.create_subprocess_exec(*sleeper, start_new_session=True)
    other = await asyncio.create_subprocess_exec(*sleeper, start_new_session=True)
    left = _files_of(ProcessIdentity.of(owner.pid), ProcessIdentity.of(orphan.pid))
    mine = _files_of(ProcessIdentity.of(os.getpid()), ProcessIdentity.of(other.pid))
    elsewhere = _files_of(ProcessIdentity(owner.pid, "another.example", "then"), ProcessIdentity.of(other.pid))
    owner.kill()
    await owner.wait()
    await read_all(tap([]))
    assert (left.exists(), mine.exists(), elsewhere.exists()) == (False, True, True)
    assert await orphan.wait() == -signal.SIGKILL
    assert other.returncode is None
    other.kill()
    await other.wait()
    shutil.rmtree(mine)
    shutil.rmtree(elsewhere)


def _files_of(owner: ProcessIdentity, leader: ProcessIdentity) -> Path:
    directory = Path(tempfile.mkdtemp(prefix="speclab-singer-"))
    (directory / "owner.json").write_text(json.dumps([owner.pid, owner.host, owner.started]))
    (directory / "leader.json").write_text(json.dumps([leader.pid, leader.host, leader.started]))
    return directory


@pytest.mark.parametrize(
    "command",
    ["tap --start ${env:SECRET}", "tap --api-key=abc", "tap --token abc", "tap --client_secret abc --more"],
)
def test_command_with_a_secret_is_rejected(command: str, tap: Taps) -> None:
    with pytest.raises(ValidationError, match="use `config` or `env`"):
        tap([], command=command)


async def test_tap_gets_only_common_and_configured_environment_variables(
    tap: Taps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not for taps")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    program = tmp_path / "tap-env"
    program.write_text(f'#!/bin/sh\nenv > "{tmp_path}/given"\nexec {TAP} "$@"\n')
    program.chmod(0o700)
    await read_all(tap([], command="./tap-env", env={"TAP_TOKEN": "${env:SECRET}"}))
    given = dict(line.partition("=")[::2] for line in (tmp_path / "given").read_text().splitlines())
    assert "AWS_SECRET_ACCESS_KEY" not in given
    assert (given["TAP_TOKEN"], given["https_proxy"], given["PATH"]) == (
        SECRET,
        "http://127.0.0.1:9",
        os.environ["PATH"],
    )
