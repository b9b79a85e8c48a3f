"""The journal of a file: which records of a run it keeps, and how little memory it needs."""

from __future__ import annotations

import errno
import resource
import signal
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from speclab.connectors.file import journal as journal_module
from speclab.connectors.file.journal import Journal


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    found = Journal(tmp_path / ".out.jsonl.speclab")
    yield found
    found.close()


def test_last_entry_of_a_key_has_the_position_of_the_first(journal: Journal) -> None:
    journal.add([("b", {"n": 1}), ("a", {"n": 2}), ("c", {"n": 3})])
    journal.add([("b", {"n": 4}), ("c", None), ("d", {"n": 5})])
    with journal.entries() as entries:
        assert list(entries.left()) == [{"n": 4}, {"n": 2}, {"n": 5}]
        assert [key in entries for key in "abcdx"] == [True, True, True, True, False]
        assert [entries.take(key) for key in "bcbx"] == [{"n": 4}, None, None, None]
        assert "b" in entries
        assert list(entries.left()) == [{"n": 2}, {"n": 5}]


def test_journal_memory_does_not_grow_with_entries(journal: Journal) -> None:
    journal.add((f"key-{number}", {"id": number}) for number in range(20_000))
    tracemalloc.start()
    try:
        with journal.entries() as entries:
            assert sum(1 for _ in entries.left()) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 300_000  # a dict of them would be two million
    finally:
        tracemalloc.stop()


def test_full_disk_for_the_index_is_reported_like_a_full_disk_for_the_file(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "_CACHE", 50)
    journal.add((f"key-{number}", {"id": number}) for number in range(20_000))
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"the index of \.out\.jsonl\.speclab: ") as caught, journal.entries():
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old)
    assert caught.value.errno in (errno.ENOSPC, errno.EIO)


def test_journal_is_locked_by_one_writer(journal: Journal) -> None:
    other = Journal(journal.path)
    assert journal.hold()
    assert not other.hold()
    with pytest.raises(BlockingIOError):
        other.add([("a", {"n": 1})])
    journal.add([("a", {"n": 1})])
    journal.remove()
    assert other.hold()
    assert not other.exists()
    other.close()
    assert not journal.path.exists()  # no empty journal is left behind


def test_journal_that_is_a_symbolic_link_is_not_followed(journal: Journal, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("as it was")
    journal.path.symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        journal.add([("a", {"n": 1})])
    assert (tmp_path / "precious").read_text() == "as it was"
