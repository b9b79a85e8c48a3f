"""Files: read with bounds and a location, replaced in one step, and kept private to the user in `.speclab`."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final, cast

from speclab.core.errors import SpeclabError, TooLarge, UsageError


@contextmanager
def replacing_file(path: Path, *, mode: int = 0o666, durable: bool = True) -> Iterator[BinaryIO]:
    """Yield a stream whose content replaces the file at `path` when the block ends; after an error nothing changes.

    The content is written to a draft in the same directory. A symbolic link stays, and the file that it names is
    replaced. The new file has the owner, mode, access list and attributes of the old one as far as the system permits;
    a file that did not exist gets `mode`, less the umask. With `durable`, the content and the directory are on the disk
    before this returns. Raise `OSError`.
    """
    target = Path(os.path.realpath(path))
    draft = target.with_name(f".speclab-{secrets.token_hex(8)}.tmp")
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "w+b") as stream:
            if target.exists():
                _copy_permissions(descriptor, target)
            yield cast("BinaryIO", stream)
            stream.flush()
            if durable:
                os.fsync(descriptor)
            draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    if durable:
        sync_directory(target.parent)


def replace_file(path: Path, data: bytes, *, mode: int = 0o666, durable: bool = True) -> None:
    """Replace the content of the file at `path` with `data`, as `replacing_file` does. Raise `OSError`."""
    with replacing_file(path, mode=mode, durable=durable) as stream:
        stream.write(data)


def rename_durably(draft: Path, path: Path) -> None:
    """Rename `draft` to `path`, in the same directory, and wait until the new name is on the disk. Raise `OSError`."""
    draft.replace(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Wait until the names of the files in `directory` are on the disk. Raise `OSError`."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy_permissions(descriptor: int, target: Path) -> None:
    """Give an open file the owner, mode, access list and attributes of `target`, as far as the system permits."""
    old = target.stat()
    for owner in (old.st_uid, -1):  # only root may change the owner; every user may set one of their own groups
        with suppress(PermissionError):
            os.fchown(descriptor, owner, old.st_gid)
            break
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
    if hasattr(os, "listxattr"):  # Python has no access to extended attributes on macOS
        with suppress(OSError):  # and some file systems have none
            _copy_attributes(descriptor, target)


def _copy_attributes(descriptor: int, target: Path) -> None:
    attributes = {name: os.getxattr(target, name) for name in os.listxattr(target)}
    for name in set(os.listxattr(descriptor)) - attributes.keys():  # such as the default access list of a directory
        with suppress(PermissionError):
            os.removexattr(descriptor, name)
    for name, value in attributes.items():
        with suppress(PermissionError):  # some are reserved for the system
            os.setxattr(descriptor, name, value)


MAX_SPEC_SIZE: Final = 1_000_000
"""Maximum size of a spec in bytes: 50 times a long one, and about two seconds to parse."""

_KINDS: Final = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_regular_file(path: Path, largest: int = MAX_SPEC_SIZE) -> bytes:
    """Return the content of the file at `path`, without waiting for a writer.

    Raise `OSError` if it cannot be opened, `UsageError` if it is not a regular file (reading a pipe or a terminal would
    block), and `TooLarge` if it has more than `largest` bytes.
    """
    data, size = read_head(path, largest + 1)
    if len(data) > largest:
        raise too_large(path, max(len(data), size), largest)
    return data


def read_head(path: Path, most: int) -> tuple[bytes, int]:
    """Return the first `most` bytes of the file at `path`, and its size. Raises as `read_regular_file` does."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
            raise UsageError(f"{path}: cannot be read: expected a file, got {kind}")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(most), status.st_size
    finally:
        os.close(descriptor)


def too_large(path: Path | None, size: int, largest: int = MAX_SPEC_SIZE) -> TooLarge:
    """Return the error for a spec of `size` bytes."""
    return TooLarge(
        f"{path or 'the spec'}: too large: {size / 1e6:,.1f} MB, and a spec has at most {largest / 1e6:,.0f} MB",
        hint="Split the spec, or move unrelated text to another file.",
    )


def resolve_path(path: Path) -> Path:
    """Return `path` without symbolic links; a link loop is returned unchanged (`Path.resolve` raises there)."""
    return Path(os.path.realpath(path))


STATE_DIRECTORY: Final = ".speclab"

_HINT: Final = "Delete the link. A run log that is kept elsewhere is named with --runlog."


def find_symlink(path: Path) -> Path | None:
    """Return the symbolic link on the way to `path`, from `.speclab` on, or None.

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
