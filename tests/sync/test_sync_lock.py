"""One run per spec at a time, and no lock that outlives its process."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from tests.runlog.test_faults import as_another_user

from speclab.core.errors import SpeclabError, SpecLocked
from speclab.core.locks import ProcessIdentity, hold_spec, is_alive, is_running
from speclab.core.outcome import RunState
from speclab.runlog import RunLog

HOLDER = """
import socket, sys
from pathlib import Path
from speclab.runlog import RunLog
from speclab.core.locks import hold_spec
workspace, spec_id, host = Path(sys.argv[1]), *sys.argv[2:]
socket.gethostname = lambda: host
with RunLog.open(workspace / "runlog.db") as log, hold_spec(workspace, spec_id):
    log.start_run(spec_id, "", "schedule")
    print("held", flush=True)
    sys.stdin.read()
"""

HERE = os.uname().nodename


@contextmanager
def other_process_holds(workspace: Path, spec_id: str, host: str = HERE) -> Iterator[subprocess.Popen[str]]:
    """Hold the lock of a spec in another process, with a run in progress, on a machine called `host`."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(workspace), spec_id, host],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_second_run_names_the_lock_holder(tmp_path: Path) -> None:
    with other_process_holds(tmp_path, "crm") as process:
        with pytest.raises(SpecLocked) as caught, hold_spec(tmp_path, "crm"):
            pass
        assert f"process {process.pid} of {getpass.getuser()} on {HERE}, since 2" in caught.value.message
        with hold_spec(tmp_path, "another"):
            pass


def test_killed_process_holds_no_lock(tmp_path: Path) -> None:
    with other_process_holds(tmp_path, "crm") as process:
        process.kill()
        process.wait()
        with hold_spec(tmp_path, "crm"):
            pass


def test_run_of_a_killed_container_does_not_stay_running(tmp_path: Path) -> None:
    with other_process_holds(tmp_path, "crm", host="4f1d2e") as process, RunLog.open(tmp_path / "runlog.db") as log:
        assert log.mark_interrupted(partial(is_running, tmp_path)) == []
        process.kill()
        process.wait()
        (row,) = log.mark_interrupted(partial(is_running, tmp_path))
    assert (row.state, row.error) == (
        RunState.INTERRUPTED,
        f"process {process.pid} on 4f1d2e died before finishing the run",
    )


def test_run_with_an_invisible_process_stays_running_while_it_holds_its_lock(tmp_path: Path) -> None:
    """This is the case for containers that share the name of their host but not its processes."""
    with hold_spec(tmp_path, "crm"):
        lock = next((tmp_path / ".speclab/locks").iterdir())
        lock.write_text(json.dumps(json.loads(lock.read_text()) | {"pid": 1, "started": "in a namespace"}))
        of = partial(is_running, tmp_path)
        assert of("crm", ProcessIdentity(1, HERE, "in a namespace"))
        assert not of("crm", ProcessIdentity(1, HERE, "before that"))
        assert of("crm", ProcessIdentity.of(os.getpid()))


def test_lock_is_free_after_the_block_and_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), hold_spec(tmp_path, "crm"):
        raise RuntimeError
    with hold_spec(tmp_path, "crm"):
        pass


def test_lock_holds_within_one_process(tmp_path: Path) -> None:
    with hold_spec(tmp_path, "crm"), pytest.raises(SpecLocked), hold_spec(tmp_path, "crm"):
        pass


def test_spec_id_may_be_any_text(tmp_path: Path) -> None:
    with hold_spec(tmp_path, "../../a b/ü"), hold_spec(tmp_path, "{name}"):
        pass
    assert not (tmp_path.parent / "a b").exists()
    assert len(list((tmp_path / ".speclab" / "locks").iterdir())) == 2


def test_unwritable_lock_is_reported_with_its_path(tmp_path: Path) -> None:
    (tmp_path / ".speclab/locks/crm.lock").mkdir(parents=True)
    with (
        pytest.raises(SpeclabError, match=r"/\.speclab/locks/crm\.lock: cannot be locked: "),
        hold_spec(tmp_path, "crm"),
    ):
        pass


def test_lock_of_another_user_names_its_owner() -> None:
    with TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        with hold_spec(directory, "crm"):
            lock = next((directory / ".speclab/locks").iterdir())
            lock.chmod(0o444)
            for shared in (lock.parent, lock.parent.parent):
                shared.chmod(0o755)
        with as_another_user(directory), pytest.raises(SpeclabError) as caught, hold_spec(directory, "crm"):
            pass
    assert caught.value.message == f"{lock}: cannot be locked: Permission denied"
    assert caught.value.hint.startswith(f"it is {getpass.getuser()}'s: run as that user, or have it made writable for ")


@pytest.mark.parametrize("pid", [0, -1, 2**22 + 1, 2**70, True, "1", None], ids=repr)
def test_invalid_pid_is_not_alive(pid: Any) -> None:
    identity = ProcessIdentity.of(pid)
    assert identity.started == ""
    assert not is_alive(identity)


def test_process_is_identified_by_its_start_until_it_ends() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        identity = ProcessIdentity.of(process.pid)
        assert identity == ProcessIdentity.of(process.pid)
        assert is_alive(identity)
        assert not is_alive(replace(identity, started="before that"))
        process.kill()
    assert not is_alive(identity)
