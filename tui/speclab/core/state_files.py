"""Files in a workspace's `.speclab` directory: private to this user, and never accessed through a symbolic link.

A cloned workspace may contain a `.speclab` with links to files of its next reader.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from speclab.core.errors import SpeclabError

STATE_DIRECTORY: Final = ".speclab"

_HINT: Final = "Delete the link. A run log that is kept elsewhere is named with --runlog."


def find_symlink(path: Path) -> Path | None:
    """Return the symbolic link on the way to `path`, from `.speclab` on; None if there is none.

    A path outside a `.speclab` directory has none: its user chose it.
    """
    parts = path.parts
    if STATE_DIRECTORY not in parts:
        return None
    at = len(parts) - parts[::-1].index(STATE_DIRECTORY)
    ways = (Path(*parts[:end]) for end in range(at, len(parts) + 1))
    return next((way for way in ways if os.path.islink(way)), None)  # noqa: PTH114 - of what is out of reach, False


def refuse_symlinks(path: Path) -> None:
    """Raise `SpeclabError` if there is a symbolic link on the way to `path`; see `find_symlink`."""
    if (link := find_symlink(path)) is not None:
        raise SpeclabError(f"{link}: is a symbolic link, and speclab follows none in {STATE_DIRECTORY}", hint=_HINT)


def make_private_directory(directory: Path) -> None:
    """Create `directory` and its parents, private to this user from `.speclab` on, and exclude `.speclab` from git.

    Raise `OSError`, and `SpeclabError` for a symbolic link.
    """
    refuse_symlinks(directory)
    state = next((one for one in (directory, *directory.parents) if one.name == STATE_DIRECTORY), None)
    if state is None:
        directory.mkdir(parents=True, exist_ok=True)
        return
    state.mkdir(0o700, parents=True, exist_ok=True)
    below = directory.relative_to(state)
    for one in reversed((below, *below.parents)):
        (state / one).mkdir(0o700, exist_ok=True)
    ignore_in_git(state)


def ignore_in_git(state: Path) -> None:
    """Write the `.gitignore` of a `.speclab` that has none. Raises `OSError`."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with suppress(FileExistsError, PermissionError):  # another user's directory
        descriptor = os.open(state / ".gitignore", flags, 0o644)
        with os.fdopen(descriptor, "wb") as file:
            file.write(b"*\n")


def open_private(path: Path, flags: int) -> int:
    """Open a file in `.speclab`, created with mode 0600. Return its descriptor.

    Raise `OSError`, and `SpeclabError` for a symbolic link on the way, or a file that is not regular.
    """
    refuse_symlinks(path)
    descriptor = os.open(
        path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600
    )  # opening a pipe would block
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise SpeclabError(f"{path}: is not a regular file", hint="Delete it.")
    return descriptor


def read_private(path: Path) -> bytes:
    """Return the content of a file in `.speclab`.

    Raise `OSError`, also for a symbolic link or a file that is not regular.
    """
    if (link := find_symlink(path)) is not None:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(link))
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", str(path))
        return file.read()
