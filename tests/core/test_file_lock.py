"""Locks on open files: exclusive between descriptors, released with them, and probed without side effects."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from threading import Thread, Timer

import pytest

from speclab.core import locks
from speclab.core.locks import is_locked, lock, locked_directory, try_lock


def opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT)


def test_lock_is_held_until_its_descriptor_is_closed(tmp_path: Path) -> None:
    first, second = opened(tmp_path / "a"), opened(tmp_path / "a")
    assert try_lock(first)
    assert not try_lock(second)
    assert is_locked(tmp_path / "a")
    os.close(first)
    assert not is_locked(tmp_path / "a")
    assert try_lock(second)
    os.close(second)


def test_content_of_a_locked_file_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("holder")
    with (tmp_path / "a").open() as first, (tmp_path / "a").open() as second:
        lock(first.fileno())
        assert not try_lock(second.fileno())
        assert second.read() == "holder"


def test_lock_held_only_by_a_probe_is_acquired(tmp_path: Path) -> None:
    with (tmp_path / "a").open("w") as file, (tmp_path / "a").open() as probe:
        fcntl.flock(probe, fcntl.LOCK_SH)
        assert not is_locked(tmp_path / "a"), "two probes do not see each other"
        release = Timer(0.01, fcntl.flock, (probe, fcntl.LOCK_UN))
        release.start()
        assert try_lock(file.fileno(), retry=True)
        release.join()


def test_writers_of_a_directory_take_turns(tmp_path: Path) -> None:
    turns: list[str] = []

    def wait() -> None:
        with locked_directory(tmp_path):
            turns.append("second")

    with locked_directory(tmp_path):
        waiting = Thread(target=wait)
        waiting.start()
        waiting.join(0.1)
        turns.append("first")
    waiting.join()
    assert turns == ["first", "second"]


def test_file_system_without_locks_is_accepted_where_the_lock_is_not_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reject(*_: object, **__: object) -> bool:
        raise OSError("no locks available")

    monkeypatch.setattr(locks, "lock_descriptor", reject)
    with locked_directory(tmp_path, required=False):
        pass
    with pytest.raises(OSError, match="no locks available"), locked_directory(tmp_path):
        pass
