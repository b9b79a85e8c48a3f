"""One run a spec at a time, and no lock that outlives its process."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from speclab.errors import SpecHeld
from speclab.sync.lock import hold

HOLDER = """
import sys
from pathlib import Path
from speclab.sync.lock import hold
with hold(Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process_holds(workspace: Path, spec_id: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(workspace), spec_id],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_the_second_is_told_who_holds_it(tmp_path: Path) -> None:
    with another_process_holds(tmp_path, "crm") as process:
        with pytest.raises(SpecHeld) as caught, hold(tmp_path, "crm"):
            pass
        assert f"process {process.pid} of {getpass.getuser()} on {os.uname().nodename}, since 2" in caught.value.message
        with hold(tmp_path, "another"):
            pass


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    with another_process_holds(tmp_path, "crm") as process:
        process.kill()
        process.wait()
        with hold(tmp_path, "crm"):
            pass


def test_it_is_free_after_the_block_and_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), hold(tmp_path, "crm"):
        raise RuntimeError
    with hold(tmp_path, "crm"):
        pass


def test_it_holds_within_one_process_too(tmp_path: Path) -> None:
    with hold(tmp_path, "crm"), pytest.raises(SpecHeld), hold(tmp_path, "crm"):
        pass


def test_a_spec_id_may_be_anything(tmp_path: Path) -> None:
    with hold(tmp_path, "../../a b/ü"), hold(tmp_path, "{name}"):
        pass
    assert not (tmp_path.parent / "a b").exists()
    assert len(list((tmp_path / ".speclab" / "locks").iterdir())) == 2
