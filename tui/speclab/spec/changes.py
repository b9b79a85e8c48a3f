"""Files, watched: what others write is noticed as it is saved."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from watchfiles import Change

_LOOK: Final = 200
"""Milliseconds between two looks at what the kernel says about files; each wakes the processor."""
_TOGETHER: Final = 400
"""Milliseconds within which changes are told as one."""
_POLL: Final = 1_000
"""Milliseconds between two looks at the files themselves, where the kernel watches no more for this user."""

State = tuple[int, int, int]
"""What differs between two states of a file: when it was written, in nanoseconds, its bytes and its inode."""


def file_state(path: Path) -> State | None:
    """The state of the file at `path`; None where there is none, or it is out of reach."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


async def file_changes(
    directories: Iterable[Path], matters: Callable[[Change, str], bool], stop: asyncio.Event | None = None
) -> AsyncGenerator[set[Path], None]:
    """The files in `directories` that were changed, added or deleted, as it happens, until `stop`.

    An empty set comes first, once they are watched: nobody tells what changed before that, so it is for the caller to
    look now. Not told is what happens further below: a workspace may lie in the middle of a large tree. Raises
    `OSError` if they cannot be watched.
    """
    from watchfiles import awatch

    asked, polling = stop or asyncio.Event(), None
    while True:
        end = _End(asked)
        stream = awatch(
            *directories,
            watch_filter=matters,
            stop_event=end,
            recursive=False,
            debounce=_TOGETHER,
            step=_LOOK,
            force_polling=polling,
            poll_delay_ms=_POLL,
        )
        try:
            async with aclosing(stream):
                first = asyncio.ensure_future(anext(stream, None))
                try:
                    await asyncio.sleep(0)  # the stream begins: before it first waits, the kernel knows what to watch
                    if first.done() and not polling and isinstance(first.exception(), RuntimeError):
                        polling = True  # "Too many open files"
                        continue
                    if not first.done():
                        yield set()
                    changes = await first
                except BaseException:  # it was left: a stream cannot be closed while it is waited for
                    end.set()
                    await asyncio.wait([first])
                    raise
                while changes is not None:
                    yield {Path(path) for _change, path in changes}
                    changes = await anext(stream, None)
        except ExceptionGroup as errors:
            if errors.subgroup(RuntimeError) is None:
                raise
            await asyncio.sleep(_LOOK / 1000)  # a changed file's name is no UTF-8: it is for the caller to look anew
            continue
        return


def is_spec(change: Change, path: str) -> bool:
    """Whether a change is one of a file that may be a spec."""
    del change
    return path.endswith(".md")


def is_spec_or_directory(change: Change, path: str) -> bool:
    """Return whether a file that may be a spec changed, or a directory that may hold some came or went."""
    if change.name == "deleted":
        return is_spec(change, path) or not Path(path).suffix
    return is_spec(change, path) or (change.name == "added" and Path(path).is_dir())


class _End(asyncio.Event):
    """The end of watching: one that was asked for, or one of this stream alone."""

    def __init__(self, asked: asyncio.Event) -> None:
        super().__init__()
        self._asked = asked

    def is_set(self) -> bool:
        return super().is_set() or self._asked.is_set()
