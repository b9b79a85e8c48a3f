"""Atomic replacement of files: content during the write, attributes kept, and the state after an error."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest

from speclab.core.files import rename_durably, replace_file, replacing_file


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the names of synced files and directories, in order."""
    names: list[str] = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        names.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    return names


def test_old_content_is_read_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with replacing_file(path) as stream:
        stream.write(b"new")
        stream.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def test_error_keeps_the_old_file_and_deletes_the_temporary_one(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with suppress(RuntimeError), replacing_file(path) as stream:
        stream.write(b"new")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_durable_replacement_syncs_the_temporary_file_and_then_the_directory(tmp_path: Path, synced: list[str]) -> None:
    replace_file(tmp_path / "a", b"new")
    draft, directory = synced
    assert draft.startswith(".speclab-")
    assert directory == tmp_path.name
    rename_durably(tmp_path / "a", tmp_path / "b")
    assert synced[2:] == [tmp_path.name]


def test_replacement_that_is_not_durable_syncs_nothing(tmp_path: Path, synced: list[str]) -> None:
    replace_file(tmp_path / "a", b"new", durable=False)
    assert synced == []


def test_mode_and_symbolic_link_are_kept(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "link").symlink_to("real")
    replace_file(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o640


def test_new_file_gets_the_requested_mode(tmp_path: Path) -> None:
    replace_file(tmp_path / "a", b"secret", mode=0o600)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
