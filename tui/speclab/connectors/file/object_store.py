"""A store of files elsewhere, by the driver that fsspec has for its URLs; all that is asked of one goes through here.

Drivers raise what their libraries do: `asking` tells of it as `Unauthorized`, `Unreachable` or `SpecError`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast
from urllib.parse import unquote
from uuid import uuid4

from speclab.connectors.secrets.redaction import Redactor
from speclab.connectors.secrets.references import find_url_secrets
from speclab.core.errors import SpecError, SpeclabError, Unauthorized, Unreachable
from speclab.core.json import Json

if TYPE_CHECKING:
    import fsspec


_ONE_PUT: Final = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oci", "oss", "memory"})
"""Stores where an object comes to be whole, with the end of its upload, or not at all."""
_RENAMES: Final = frozenset({"sftp", "ssh", "ftp", "local"})
"""Stores where a file takes the place of another by being renamed; elsewhere drivers copy, or fail at what is there."""
_HTTP: Final = frozenset({"http", "https"})
_TIMED: Final = frozenset({"ftp", "sftp", "ssh"})
"""Stores whose driver takes a `timeout` by itself."""
_LOGIN: Final = re.compile(r"(?<=://)[^/]*@")
_CREDENTIALS: Final = re.compile(r"Credential|Authenti|Authoriz|AccessDenied|Forbidden|Token(?:Retrieval|Load)")
"""What the errors of libraries are called that refuse a login or find none to send."""
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
    """How a file is read, which is how much of it is asked for at once."""

    IN_ONE_GO = auto()  # from the start, and no server needs to know of parts
    FORWARD = auto()  # on from some place
    ANYWHERE = auto()


_OPENED: Final[Mapping[StoreAccess, Mapping[str, Any]]] = {
    StoreAccess.IN_ONE_GO: {"block_size": 0},
    StoreAccess.FORWARD: {"block_size": 8_000_000},
    StoreAccess.ANYWHERE: {"cache_type": "none"},  # what reads so asks for all it needs at a place
}


class ObjectStore:
    """The store behind one URL, connected at first use."""

    def __init__(self, url: str, options: Mapping[str, Json], timeout: float, redactor: Redactor) -> None:
        """The store of `url`, references resolved. Raises `SpecError` if there is no driver for it.

        `options` are for the driver; `timeout`, in seconds, is how long it may be silent, where one that
        is known here lets that be set.
        """
        self.protocol = url.partition(":")[0]
        self.is_http = self.protocol in _HTTP
        login = _LOGIN.search(url)
        password = login[0].removesuffix("@").partition(":")[2] if login else ""
        signature = url.partition("?")[2] if self.is_http else ""  # who has such a URL needs no login
        for secret in (password, unquote(password), signature, *find_url_secrets(url)):
            redactor.add(secret)
        if login is not None and self.protocol in _TIMED:  # whose drivers take what is encoded in a login as it is
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
        """Whether the URL stands for several files; in one of HTTP a question mark is none of a pattern."""
        return any(sign in self._url for sign in ("*[" if self.is_http else "*[?"))

    def check_writable(self) -> None:
        """Raise `SpecError` for a store where a file cannot come to be at once."""
        if not (self.protocol in _ONE_PUT or self.protocol in _RENAMES):
            raise SpecError(
                f"path: nothing is written to {self.protocol}://, where a file would be seen half written",
                hint="Write to a store of objects such as s3://, to sftp://, or to a file here.",
            )

    def look(self, path: str | None = None) -> Mapping[str, Any] | None:
        """What the store says of the file at `path`, by default that of the URL; None if there is none.

        Raises `Unauthorized` and `Unreachable`, also for a bucket that is not there.
        """
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
        """What the store says of each file that the URL stands for, by name. Raises `Unauthorized`, `Unreachable`."""
        if not self.is_pattern:
            found = self.look()
            return [] if found is None else [found]
        with self.asking():
            driver = self._connected()
            driver.invalidate_cache()
            matches = driver.glob(self._path, detail=True)
        return [found for _, found in sorted(matches.items()) if found.get("type") != "directory"]

    def url_of(self, path: str) -> str:
        """What a file at `path` is called, without who logs in."""
        before = self._url[: -len(self._path)] if self._url.endswith(self._path) else f"{self.protocol}://"
        return self._shown(before + path)

    def opened(self, path: str | None, access: StoreAccess) -> BinaryIO:
        """The file at `path`, by default that of the URL, as the driver reads it."""
        with self.asking():
            return cast("BinaryIO", self._connected().open(path or self._path, "rb", **_OPENED[access]))

    def put(self, draft: str) -> None:
        """Let the local file `draft` take the place of the file of the URL, at once."""
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
        """Tells of what a driver raises as an error of ours, secrets taken out."""
        try:
            yield
        except SpeclabError:
            raise
        except Exception as error:  # noqa: BLE001 - the libraries below share no base
            raise self._told(error) from None

    def _shown(self, url: str) -> str:
        """`url` as people may see it: what a login or a signature of HTTP would be is not in it."""
        return self._redactor.redact(_LOGIN.sub("", url.partition("?")[0] if self.is_http else url))

    def _connected(self) -> fsspec.AbstractFileSystem:
        if self._driver is None:
            import fsspec.core

            with self._installed():
                self._driver, self._path = fsspec.core.url_to_fs(self._url, **self._options)
        return self._driver

    @contextmanager
    def _installed(self) -> Iterator[None]:
        """Tells of what is not installed, or what fsspec does not know."""
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
        """`options`, and what drivers need to be told that would wait for minutes, or change what a file holds."""
        defaults: dict[str, Any] = {}
        if self.protocol in ("s3", "s3a"):
            retries = {"max_attempts": 2, "mode": "standard"}
            defaults["config_kwargs"] = {"connect_timeout": timeout, "read_timeout": timeout, "retries": retries}
        if self.is_http:
            from aiohttp import ClientTimeout

            defaults["client_kwargs"] = {
                "timeout": ClientTimeout(total=None, sock_connect=timeout, sock_read=timeout),
                "headers": {"Accept-Encoding": "identity"},
                "auto_decompress": False,  # a file that is gzipped itself comes as it is
            }
        if self.protocol in _TIMED:
            defaults["timeout"] = timeout
        given: dict[str, Any] = {**defaults, **options}
        for name, default in defaults.items():
            if isinstance(default, dict):
                given[name] = {**default, **given[name]}
        return given

    def _told(self, error: Exception) -> SpeclabError:
        """`error`, and what caused it, as an error of ours."""
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
    """What tells one content of a file from another, as far as the store says."""
    return next((str(found[name]) for name in _VERSIONS if found.get(name) is not None), "")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """`error` and what it came from, the last first."""
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
    """Whether `error` says that a file is not there; drivers say so, too, of a server that is not, or a bucket."""
    for cause in list(_chain(error))[1:]:
        status = getattr(cause, "status", None)
        elsewhere = isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError)
        if elsewhere or _refuses_login(cause) or _NO_CONTAINER.search(type(cause).__name__):
            return False
        if isinstance(status, int) and status >= 500:
            return False
    return True
