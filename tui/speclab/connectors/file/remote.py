"""Remote files: object stores and other fsspec file systems."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname
from uuid import uuid4

from speclab.connectors.file.locations import (
    LocalSourceLocation,
    LocalTargetLocation,
    SourceFile,
    SourceLocation,
    TargetLocation,
)
from speclab.connectors.file.settings import FileSystem, is_remote
from speclab.connectors.secrets.redaction import Redactor
from speclab.connectors.secrets.references import References, find_url_secrets
from speclab.core.errors import SpecError, SpeclabError, Unauthorized, Unreachable
from speclab.core.files import make_private_directory
from speclab.core.json import Json

if TYPE_CHECKING:
    import fsspec
    from _typeshed import WriteableBuffer

_ONE_PUT: Final = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oci", "oss", "memory"})
"""Stores in which an upload replaces an object atomically."""
_RENAMES: Final = frozenset({"sftp", "ssh", "ftp", "local"})
"""Stores in which a rename replaces a file atomically; other drivers copy, or fail for an existing file."""
_HTTP: Final = frozenset({"http", "https"})
_TIMED: Final = frozenset({"ftp", "sftp", "ssh"})
"""Stores whose driver has a `timeout` option."""
_LOGIN: Final = re.compile(r"(?<=://)[^/]*@")
_CREDENTIALS: Final = re.compile(r"Credential|Authenti|Authoriz|AccessDenied|Forbidden|Token(?:Retrieval|Load)")
"""Names of library errors for rejected or missing credentials."""
_NO_CONTAINER: Final = re.compile(r"NoSuchBucket|ContainerNotFound")
_VERSIONS: Final = (
    "ETag",
    "etag",
    "generation",
    "LastModified",
    "last_modified",
    "Last-Modified",
    "mtime",
    "modified",
    "updated",
)


class StoreAccess(Enum):
    """How a file is read, which decides how much is requested at once."""

    IN_ONE_GO = auto()  # from the start; needs no support for range requests
    FORWARD = auto()  # forward from any offset
    ANYWHERE = auto()


_OPENED: Final[Mapping[StoreAccess, Mapping[str, Any]]] = {
    StoreAccess.IN_ONE_GO: {"block_size": 0},
    StoreAccess.FORWARD: {"block_size": 8_000_000},
    StoreAccess.ANYWHERE: {"cache_type": "none"},  # such readers request exactly what they need
}


class ObjectStore:
    """The store of one URL, connected on first use."""

    def __init__(self, url: str, options: Mapping[str, Json], timeout: float, redactor: Redactor) -> None:
        """Create the store of `url`, references resolved. Raise `SpecError` if there is no driver for it."""
        self.protocol = url.partition(":")[0]
        self.is_http = self.protocol in _HTTP
        login = _LOGIN.search(url)
        password = login[0].removesuffix("@").partition(":")[2] if login else ""
        signature = url.partition("?")[2] if self.is_http else ""  # a signed URL needs no login
        for secret in (password, unquote(password), signature, *find_url_secrets(url)):
            redactor.add(secret)
        if login is not None and self.protocol in _TIMED:  # their drivers do not decode a login in the URL
            url = _LOGIN.sub("", url)
            user, colon, _ = login[0].removesuffix("@").partition(":")
            options = {"username": unquote(user), **({"password": unquote(password)} if colon else {}), **options}
        self._url = url
        self._redactor = redactor
        self.name = self._shown(url)
        with self._installed():
            import fsspec

            fsspec.get_filesystem_class(self.protocol)
        self._options = self._completed(options, timeout)
        self._driver: fsspec.AbstractFileSystem | None = None
        self._path = url

    @property
    def is_pattern(self) -> bool:
        """Whether the URL matches several files; in HTTP URLs a question mark is not a wildcard."""
        return any(sign in self._url for sign in ("*[" if self.is_http else "*[?"))

    def check_writable(self) -> None:
        """Raise `SpecError` for a store that cannot replace a file atomically."""
        if not (self.protocol in _ONE_PUT or self.protocol in _RENAMES):
            raise SpecError(
                f"path: {self.protocol}:// cannot be written: readers would see incomplete files",
                hint="Write to a store of objects such as s3://, to sftp://, or to a file here.",
            )

    def look(self, path: str | None = None) -> Mapping[str, Any] | None:
        """Return the store's description of the file at `path`, by default that of the URL; None if missing."""
        with self.asking():
            driver = self._connected()
            driver.invalidate_cache()
            try:
                found: Mapping[str, Any] = driver.info(path or self._path)
            except FileNotFoundError as error:
                if _is_absence(error):
                    return None
                raise
            return None if found.get("type") == "directory" else found

    def find(self) -> list[Mapping[str, Any]]:
        """Return the store's description of each file that matches the URL. Raise `Unauthorized`, `Unreachable`."""
        if not self.is_pattern:
            found = self.look()
            return [] if found is None else [found]
        with self.asking():
            driver = self._connected()
            driver.invalidate_cache()
            matches = driver.glob(self._path, detail=True)
        return [found for _, found in sorted(matches.items()) if found.get("type") != "directory"]

    def url_of(self, path: str) -> str:
        """Return the URL of the file at `path` without credentials."""
        before = self._url[: -len(self._path)] if self._url.endswith(self._path) else f"{self.protocol}://"
        return self._shown(before + path)

    def opened(self, path: str | None, access: StoreAccess) -> BinaryIO:
        """Open the file at `path`, by default that of the URL, with the driver."""
        with self.asking():
            return cast("BinaryIO", self._connected().open(path or self._path, "rb", **_OPENED[access]))

    def put(self, draft: str) -> None:
        """Replace the file of the URL atomically with the local file `draft`."""
        with self.asking():
            driver = self._connected()
            if self.protocol in _ONE_PUT:
                driver.put_file(draft, self._path)
                return
            directory, _, name = self._path.rpartition("/")
            driver.makedirs(directory, exist_ok=True)
            beside = f"{directory}/.{name}.{uuid4().hex[:8]}"
            try:
                driver.put_file(draft, beside)
                driver.mv(beside, self._path)
            except BaseException:
                if driver.exists(beside):
                    driver.rm_file(beside)
                raise

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Convert the errors of a driver, secrets redacted."""
        try:
            yield
        except SpeclabError:
            raise
        except Exception as error:  # noqa: BLE001 - the libraries below share no base
            raise self._convert_error(error) from None

    def _shown(self, url: str) -> str:
        """Return `url` without credentials and signatures."""
        return self._redactor.redact(_LOGIN.sub("", url.partition("?")[0] if self.is_http else url))

    def _connected(self) -> fsspec.AbstractFileSystem:
        if self._driver is None:
            import fsspec.core

            with self._installed():
                self._driver, self._path = fsspec.core.url_to_fs(self._url, **self._options)
        return self._driver

    @contextmanager
    def _installed(self) -> Iterator[None]:
        """Convert the errors for a driver that is not installed or unknown to fsspec."""
        try:
            yield
        except ImportError as error:
            extra = "s3" if self.protocol in ("s3", "s3a") else "remote"
            raise SpecError(
                f"path: {self.name}: the driver is not installed: {error}",
                hint=f"pip install 'speclab-tui[{extra}]' brings "
                + ("it." if extra == "s3" else "fsspec; the driver of the store may be a package of its own."),
            ) from None
        except (TypeError, ValueError) as error:
            raise SpecError(f"path: {self.name}: {self._redactor.redact(str(error))}") from None

    def _completed(self, options: Mapping[str, Json], timeout: float) -> dict[str, Any]:
        """Return `options` with defaults against waits of minutes and changed content."""
        defaults: dict[str, Any] = {}
        if self.protocol in ("s3", "s3a"):
            retries = {"max_attempts": 2, "mode": "standard"}
            defaults["config_kwargs"] = {"connect_timeout": timeout, "read_timeout": timeout, "retries": retries}
        if self.is_http:
            from aiohttp import ClientTimeout

            defaults["client_kwargs"] = {
                "timeout": ClientTimeout(total=None, sock_connect=timeout, sock_read=timeout),
                "headers": {"Accept-Encoding": "identity"},
                "auto_decompress": False,  # a gzipped file stays compressed
            }
        if self.protocol in _TIMED:
            defaults["timeout"] = timeout
        given: dict[str, Any] = {**defaults, **options}
        for name, default in defaults.items():
            if isinstance(default, dict):
                given[name] = {**default, **given[name]}
        return given

    def _convert_error(self, error: Exception) -> SpeclabError:
        """Return a speclab error for `error` and its causes."""
        chain = list(_chain(error))
        said = [text for text in map(str, chain) if text not in ("", self._path, self._url)]
        text = said[0] if said else type(error).__name__
        message = self._redactor.redact(f"{self.name}: {text}")
        if any(map(_refuses_login, chain)):
            return Unauthorized(message, hint="Check `options`, and what this login may do there.")
        if isinstance(error, TypeError):
            return SpecError(message, hint="Check `options`, which go to the driver of the store.")
        if isinstance(error, FileNotFoundError) and _is_absence(error):
            return Unreachable(f"{self.name}: there is no such file")
        return Unreachable(message, hint="The next run continues from the checkpoint.")


def get_version(found: Mapping[str, Any]) -> str:
    """Return what identifies the content of a file, as far as the store reports it."""
    return next((str(found[name]) for name in _VERSIONS if found.get(name) is not None), "")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and its causes, the last first."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)


def _refuses_login(error: BaseException) -> bool:
    status = getattr(error, "status", None) or getattr(error, "status_code", None) or getattr(error, "code", None)
    name = type(error).__name__
    return (
        isinstance(error, PermissionError)
        or status in (401, 403)
        or _CREDENTIALS.search(name) is not None
        or (name == "error_perm" and str(error).startswith("530"))  # FTP (RFC 959): not logged in
    )


def _is_absence(error: FileNotFoundError) -> bool:
    """Whether `error` means that a file is missing; some drivers also report a missing server or bucket so."""
    for cause in list(_chain(error))[1:]:
        status = getattr(cause, "status", None)
        elsewhere = isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError)
        if elsewhere or _refuses_login(cause) or _NO_CONTAINER.search(type(cause).__name__):
            return False
        if isinstance(status, int) and status >= 500:
            return False
    return True


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

    return RemoteSourceLocation(ObjectStore(system.path, system.options, system.limits.timeout, references.redactor))


def get_target_location(system: FileSystem, references: References) -> TargetLocation:
    """Return the location of the target file of `system` (references resolved).

    Raise `SpecError` if it cannot be written.
    """
    if not is_remote(system.path):
        path = _local(system.path)
        return LocalTargetLocation(path, references.base / path)

    store = ObjectStore(system.path, system.options, system.limits.timeout, references.redactor)
    place = hashlib.sha256(system.destination().encode()).hexdigest()[:16]  # one key may be in two stores
    return RemoteTargetLocation(store, references.base / ".speclab" / "files" / f"{place}.speclab")


def _local(path: str) -> str:
    return url2pathname(urlsplit(path).path) if path.startswith("file://") else path
