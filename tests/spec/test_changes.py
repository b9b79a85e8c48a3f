"""Watching files: no change is missed between the first scan and the start of watching."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from watchfiles._rust_notify import RustNotify

from speclab.spec.workspace import file_changes, is_spec, is_spec_or_directory


async def test_changes_right_after_the_first_empty_set_are_reported(tmp_path: Path) -> None:
    async with aclosing(file_changes([tmp_path], is_spec)) as changes:
        assert await anext(changes) == set()
        (tmp_path / "orders.txt").write_text("no spec")
        (tmp_path / "orders.md").write_text("a spec")
        assert await anext(changes) == {tmp_path / "orders.md"}
        (tmp_path / "orders.md").unlink()
        assert await anext(changes) == {tmp_path / "orders.md"}


async def test_watching_can_end_at_any_time(tmp_path: Path) -> None:
    stop = asyncio.Event()
    async with aclosing(file_changes([tmp_path], is_spec, stop)) as changes:
        assert await anext(changes) == set()
    assert not stop.is_set()
    reported: list[set[Path]] = []
    waiting = asyncio.create_task(_follow(file_changes([tmp_path], is_spec, stop), reported))
    await _until(lambda: reported)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not stop.is_set()


async def test_watching_continues_until_stopped(tmp_path: Path) -> None:
    stop = asyncio.Event()
    reported: list[set[Path]] = []
    waiting = asyncio.create_task(_follow(file_changes([tmp_path], is_spec_or_directory, stop), reported))
    await _until(lambda: reported)
    (tmp_path / "below").mkdir()
    await _until(lambda: len(reported) > 1)
    stop.set()
    await waiting
    assert reported == [set(), {tmp_path / "below"}]


async def test_files_are_polled_when_the_kernel_limit_is_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def crowded(paths: list[str], debug: bool, polling: bool, *others: Any) -> Any:  # noqa: FBT001
        if not polling:
            raise RuntimeError("Error creating recommended watcher: Too many open files (os error 24)")
        return RustNotify(paths, debug, polling, *others)

    monkeypatch.setattr("watchfiles.main.RustNotify", crowded)
    async with aclosing(file_changes([tmp_path], is_spec)) as changes:
        assert await anext(changes) == set()
        (tmp_path / "orders.md").write_text("a spec")
        assert await anext(changes) == {tmp_path / "orders.md"}


async def test_file_with_an_undecodable_name_causes_a_new_scan(tmp_path: Path) -> None:
    async with aclosing(file_changes([tmp_path], is_spec)) as changes:
        assert await anext(changes) == set()
        (tmp_path / os.fsdecode(b"caf\xe9.md")).write_text("a spec")
        assert await anext(changes) == set()
        (tmp_path / "orders.md").write_text("a spec")
        assert await anext(changes) in (set(), {tmp_path / "orders.md"})


async def test_directory_that_does_not_exist_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await anext(file_changes([tmp_path / "gone"], is_spec))


async def _follow(changes: AsyncIterable[set[Path]], reported: list[set[Path]]) -> None:
    async for paths in changes:
        reported.append(paths)  # noqa: PERF401 - they are checked as they arrive


async def _until(holds: Callable[[], object]) -> None:
    while not holds():  # noqa: ASYNC110 - another task makes it true
        await asyncio.sleep(0.01)
