"""Replacing a file atomically: readers see the old content or the new, also after a crash or a power failure."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast


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
