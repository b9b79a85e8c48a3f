"""Remote files, and choosing the location for a path."""

from __future__ import annotations

import hashlib
import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast
from urllib.parse import urlsplit
from urllib.request import url2pathname

from speclab.connectors.file.locations import (
    LocalSourceLocation,
    LocalTargetLocation,
    SourceFile,
    SourceLocation,
    TargetLocation,
)
from speclab.connectors.file.object_store import ObjectStore, StoreAccess, get_version
from speclab.connectors.file.settings import FileSystem, is_remote
from speclab.connectors.secrets.references import References
from speclab.core.errors import Unreachable
from speclab.core.state_files import make_private_directory

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


_BUFFER: Final = 1 << 18


class RemoteSourceLocation:
    """Files in a store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def find(self) -> list[SourceFile]:
        """Return the files sorted by name. Raise `Unreachable` and `Unauthorized`."""
        found = [
            SourceFile(self._store.url_of(each["name"]), each["name"], each.get("size") or 0, get_version(each))
            for each in self._store.find()
        ]
        if not found:
            raise Unreachable(f"{self._store.name}: there is no such file")
        return found

    def opened(self, file: SourceFile, *, seeking: bool) -> BinaryIO:
        """Open a file; without range requests, a file that needs seeking is downloaded whole."""
        return open_remote(self._store, file.where, seeking=seeking)


class RemoteTargetLocation:
    """A target file in a store. Records are in the local journal and a draft until it is replaced."""

    def __init__(self, store: ObjectStore, journal: Path) -> None:
        """Create a location for the URL of `store`. Raise `SpecError` if it cannot replace a file atomically."""
        store.check_writable()
        self._store = store
        self._merged: str | None = None
        self.name = store.name
        self.journal = journal

    def exists(self) -> bool:
        """Whether the file exists. Raise `Unauthorized` and `Unreachable`, also for a missing bucket."""
        return self._store.look() is not None

    def opened(self, *, seeking: bool) -> BinaryIO:
        """Open the existing file, to merge it into its replacement."""
        self._merged = self._version()
        return open_remote(self._store, None, seeking=seeking)

    @contextmanager
    def replacing(self) -> Iterator[BinaryIO]:
        """Yield a stream whose content replaces the file when the block ends; after an error nothing changes.

        Raise `Unauthorized` and `Unreachable`, also if the file has changed since it was `opened`.
        """
        make_private_directory(self.journal.parent)
        with tempfile.NamedTemporaryFile(dir=self.journal.parent, suffix=".draft") as draft:
            yield cast("BinaryIO", draft)
            draft.flush()
            if self._merged is not None and self._version() != self._merged:
                raise Unreachable(f"{self.name}: it has been changed by another while it was merged")
            self._store.put(draft.name)

    def _version(self) -> str | None:
        found = self._store.look()
        return None if found is None else f"{found.get('size')} {get_version(found)}"


def open_remote(store: ObjectStore, path: str | None, *, seeking: bool) -> BinaryIO:
    """Open the file at `path` of `store`, for reading forward, or with `seeking` at any offset."""
    if not seeking:
        access = StoreAccess.IN_ONE_GO if store.is_http else StoreAccess.FORWARD
        return cast("BinaryIO", io.BufferedReader(_RemoteFile(store, path, access), _BUFFER))
    file = _RemoteFile(store, path, StoreAccess.ANYWHERE)
    try:
        file.seek(-1, io.SEEK_END)
        file.read(1)
        file.seek(0)
    except (Unreachable, OSError):  # such as a server without range requests, or an empty file
        file.close()
        return _fetched(store, path)
    return cast("BinaryIO", file)


def _fetched(store: ObjectStore, path: str | None) -> BinaryIO:
    """Download the whole file to a temporary file."""
    whole = tempfile.TemporaryFile()  # noqa: SIM115 - who reads it closes it
    with _RemoteFile(store, path, StoreAccess.IN_ONE_GO) as file:
        shutil.copyfileobj(file, whole)
    whole.seek(0)
    return cast("BinaryIO", whole)


class _RemoteFile(io.RawIOBase):
    """A file in a store; errors are converted to speclab's.

    Not every server supports range requests: without them, a file is read from its start and unneeded bytes are
    skipped.
    """

    def __init__(self, store: ObjectStore, path: str | None, access: StoreAccess) -> None:
        self._store = store
        self._path = path
        self._access = access
        self._file = store.opened(path, access)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Seek to `offset`. Raise `Unreachable` where that is impossible."""
        if self._access is not StoreAccess.IN_ONE_GO:
            with self._store.asking():
                self._file.seek(offset, whence)
                self._at = self._file.tell()
            return self._at
        if whence != io.SEEK_SET:
            raise io.UnsupportedOperation("only from the start")
        if offset < self._at:
            self._file.close()
            self._file, self._at = self._store.opened(self._path, self._access), 0
        while self._at < offset and (passed := self.read(min(_BUFFER, offset - self._at))):
            del passed
        return self._at

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        with self._store.asking():
            text = self._file.read(len(view))
        view[: len(text)] = text
        self._at += len(text)
        return len(text)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def get_source_location(system: FileSystem, references: References) -> SourceLocation:
    """Return the location of the source files of `system` (references resolved). Raise `SpecError` without a driver."""
    if not is_remote(system.path):
        return LocalSourceLocation(_local(system.path), references.base)
    from speclab.connectors.file.object_store import ObjectStore

    return RemoteSourceLocation(ObjectStore(system.path, system.options, system.limits.timeout, references.redactor))


def get_target_location(system: FileSystem, references: References) -> TargetLocation:
    """Return the location of the target file of `system` (references resolved).

    Raise `SpecError` if it cannot be written.
    """
    if not is_remote(system.path):
        path = _local(system.path)
        return LocalTargetLocation(path, references.base / path)
    from speclab.connectors.file.object_store import ObjectStore

    store = ObjectStore(system.path, system.options, system.limits.timeout, references.redactor)
    place = hashlib.sha256(system.destination().encode()).hexdigest()[:16]  # one key may be in two stores
    return RemoteTargetLocation(store, references.base / ".speclab" / "files" / f"{place}.speclab")


def _local(path: str) -> str:
    return url2pathname(urlsplit(path).path) if path.startswith("file://") else path
