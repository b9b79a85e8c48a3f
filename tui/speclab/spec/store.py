"""Specs on disk: saved atomically, merged with external changes, recovered after a crash."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from speclab.core.atomic_file import replace_file
from speclab.core.errors import SpeclabError, UsageError
from speclab.core.file_lock import locked_directory
from speclab.core.files import MAX_SPEC_SIZE, read_regular_file, resolve_path, too_large
from speclab.core.state_files import STATE_DIRECTORY, find_symlink, make_private_directory, refuse_symlinks
from speclab.core.text import format_count
from speclab.spec.document import Document
from speclab.spec.merge import SaveConflict, merge
from speclab.spec.workspace import workspace_of

_REASONS: Final = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would be larger than this system allows",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "no permission to write in its directory",
    errno.EPERM: "it belongs to another user in a directory such as /tmp, or is immutable",
}


_LARGEST_RECOVERY: Final = 16 * MAX_SPEC_SIZE
"""Maximum bytes of unsaved text; more than a spec may have, because a large paste is kept too."""


@dataclass(frozen=True, slots=True)
class Saved:
    """The document on disk after a save; `merged` if it includes external changes."""

    document: Document
    merged: bool


def save(document: Document, base: Document) -> Saved:
    """Write `document`, which was edited from `base`, to its path, merged with external changes to the file.

    A deleted file is created again. Raises `SaveConflict` if both changed the same lines, and `SpeclabError` if the
    file cannot be written; then nothing was written.
    """
    if document.path is None:
        raise UsageError("the document has no path")
    path = document.path
    _refuse_too_large(document)
    with _writing(path):
        try:
            theirs = Document.parse(read_regular_file(path).decode("utf-8", "surrogateescape"), path)
        except FileNotFoundError:
            theirs = None
        except PermissionError as error:
            reason = "no permission to read the current file"
            raise SpeclabError(f"{path}: cannot be saved: {reason}", hint="nothing was written") from error
        if theirs is None or theirs.hash == base.hash:
            if theirs is None or document.hash != base.hash:
                _replace(path, document.to_bytes())
            return Saved(document, merged=False)
        if document.hash in (base.hash, theirs.hash):
            return Saved(theirs, merged=document.hash == base.hash)
        merged = merge(base, document, theirs)
        if merged.conflicts:
            raise SaveConflict(
                f"{path}: someone else changed the same lines, in {format_count(len(merged.conflicts), 'place')}",
                merge=merged,
                theirs=theirs,
                hint="nothing was written; reload the file and repeat the change",
            )
        result = Document.parse(merged.resolved(), path)
        _refuse_too_large(result)
        _replace(path, result.to_bytes())
        return Saved(result, merged=True)


def _refuse_too_large(document: Document) -> None:
    size = len(document.to_bytes())
    if size > MAX_SPEC_SIZE:
        raise too_large(document.path, size)


def create(path: Path, text: str) -> None:
    """Write a new file, and create its directory if necessary. Raises `UsageError` if the file exists."""
    _make(path.parent)
    with _writing(path):
        if os.path.lexists(path):
            raise UsageError(f"{path} is already there", hint="choose another name")
        _replace(path, text.encode("utf-8", "surrogateescape"))


@dataclass(frozen=True, slots=True)
class Recovery:
    """Unsaved text, and the time when it was stored."""

    text: str
    at: datetime


def write_recovery(path: Path, text: str, *, durable: bool = True) -> None:
    """Store the unsaved `text` of the spec at `path` in its workspace's `.speclab/recovery`.

    Unless `durable`, the text survives the end of the process but not a power failure: waiting for the disk at every
    key would make typing slow.
    """
    aside, data = recovery_path(path), text.encode("utf-8", "surrogateescape")
    if len(data) > _LARGEST_RECOVERY:
        raise too_large(path, len(data), _LARGEST_RECOVERY)
    _make(aside.parent)
    refuse_symlinks(aside)
    with _writing(aside):
        _replace(aside, data, durable=durable)


def find_recovery(path: Path) -> Recovery | None:
    """Return the unsaved text of the spec at `path`; None if there is none of this user, or it equals the file."""
    aside = recovery_path(path)
    if find_symlink(aside) is not None:
        return None  # no recovery file is written through a link
    try:
        data, at = read_regular_file(aside, _LARGEST_RECOVERY), aside.stat().st_mtime
    except (OSError, UsageError):  # a pipe, or anything else that `write_recovery` did not write
        return None
    try:
        if read_regular_file(path) == data:
            return None
    except (OSError, UsageError):
        pass  # the file is deleted or unreadable: the recovery text is the only copy
    return Recovery(data.decode("utf-8", "surrogateescape"), datetime.fromtimestamp(at, UTC))


def drop_recovery(path: Path) -> None:
    """Delete the unsaved text of the spec at `path`."""
    recovery_path(path).unlink(missing_ok=True)


def recovery_path(path: Path) -> Path:
    """Return the path of the recovery file of the spec at `path`, which may not exist."""
    whole = resolve_path(path)
    name = f"{whole.stem}-{hashlib.sha256(os.fsencode(whole)).hexdigest()[:12]}{whole.suffix}"
    return workspace_of(whole.parent) / ".speclab" / "recovery" / name


def _make(directory: Path) -> None:
    try:
        make_private_directory(directory)
    except OSError as error:
        raise SpeclabError(f"{directory}: cannot be created: {error.strerror or error}") from error


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Hold the directory of `path` for the block, among speclab's writers. Raise `SpeclabError` for an `OSError`."""
    try:
        # Some network file systems have no locks. The file on the disk is compared with the base in any case.
        with locked_directory(resolve_path(path).parent, required=False):
            yield
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
        raise SpeclabError(f"{path}: cannot be saved: {reason}", hint="nothing was written") from error


def _replace(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace the file atomically, unless it is read-only. With `durable`, wait until it is on the disk."""
    target = resolve_path(path)
    if target.exists() and not (target.stat().st_mode & 0o222 and os.access(target, os.W_OK)):
        raise SpeclabError(f"{path}: cannot be saved: the file is read-only", hint="nothing was written")
    replace_file(target, data, mode=0o600 if STATE_DIRECTORY in path.parts else 0o666, durable=durable)
