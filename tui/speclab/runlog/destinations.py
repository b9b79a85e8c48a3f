"""Destinations of events besides the run log: a file with rotation, standard error, or the systemd journal."""

from __future__ import annotations

import array
import errno
import fcntl
import json
import logging
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote

from speclab.core.errors import SpeclabError
from speclab.core.files import make_private_directory, open_private
from speclab.core.outcome import Level
from speclab.core.processes import LOG_DESCRIPTOR
from speclab.runlog.rows import EventRow, event_json, format_event

JOURNAL: Final = "/run/systemd/journal/socket"
"""Socket of the native protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/)."""

_LEVELS: Final = {Level.INFO: logging.INFO, Level.WARNING: logging.WARNING, Level.ERROR: logging.ERROR}
_PRIORITIES: Final = {logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}  # of syslog, RFC 5424

Write = Callable[[str], None]
"""Writes one line."""


@dataclass(frozen=True, slots=True)
class LogDestination:
    """Where the events of an integration are sent, from which level on, and how.

    A file is `SPEC_ID.log` in `directory`; it is rotated at `size` bytes, and `keep` older ones are kept.
    """

    kind: Literal["file", "stderr", "journald"]
    level: Level
    format: Literal["text", "json"]
    directory: Path
    size: int
    keep: int


class EventForwarder:
    """Sends committed events to the destination of their integration.

    `report` is called with an integration and a message when its destination cannot be written, once until it works
    again. Nothing else happens then: the events are in the run log.
    """

    def __init__(self, report: Callable[[str, str], None]) -> None:
        self._report = report
        self._handlers: dict[str, logging.Handler] = {}
        self._levels: dict[str, int] = {}
        self._failing: set[str] = set()
        self._uncommitted: list[EventRow] = []

    def open(self, spec_id: str, destination: LogDestination, write: Write | None = None) -> None:
        """Send the events of an integration to `destination` from now on; `write` prints to standard error."""
        if (old := self._handlers.pop(spec_id, None)) is not None:
            _close(old)
        try:
            handler = _build_handler(spec_id, destination, write)
        except (OSError, SpeclabError) as error:
            self._fail(spec_id, error)
            return
        self._handlers[spec_id] = handler
        self._levels[spec_id] = destination.level.severity

    def add(self, event: EventRow) -> None:
        """Add an event of the transaction in progress."""
        if event.spec_id in self._handlers and event.level.severity >= self._levels[event.spec_id]:
            self._uncommitted.append(event)

    def discard(self) -> None:
        """Drop the events of a transaction that is rolled back."""
        self._uncommitted.clear()

    def send(self) -> None:
        """Send the events of a transaction that is committed."""
        events, self._uncommitted = self._uncommitted, []
        for event in events:
            record = logging.LogRecord("speclab", _LEVELS[event.level], "", 0, event.message, None, None)
            record.event = event
            try:
                self._handlers[event.spec_id].handle(record)
            except (OSError, SpeclabError) as error:
                self._fail(event.spec_id, error)
            else:
                self._failing.discard(event.spec_id)

    def close(self) -> None:
        """Close all destinations."""
        for handler in self._handlers.values():
            _close(handler)
        self._handlers.clear()

    def _fail(self, spec_id: str, error: OSError | SpeclabError) -> None:
        if spec_id not in self._failing:
            self._failing.add(spec_id)
            reason = (
                error.message
                if isinstance(error, SpeclabError)
                else f"{error.filename or 'standard error'}: {error.strerror}"
            )
            self._report(spec_id, f"events are only in the run log: {reason}")


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return format_event(record.__dict__["event"])


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(event_json(record.__dict__["event"]))


class _RaisingHandler(logging.Handler):
    """A handler whose errors reach the forwarder, instead of being printed."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - the signature of logging
        error = sys.exc_info()[1]
        if error is not None:
            raise error


class _SharedFileHandler(_RaisingHandler, RotatingFileHandler):
    """A rotated file that several processes write, private to this user."""

    def __init__(self, path: Path, size: int, keep: int) -> None:
        make_private_directory(path.parent)
        self._lock_file = os.fdopen(open_private(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT), "rb+")
        try:
            super().__init__(path, maxBytes=size, backupCount=keep, encoding="utf-8", errors="backslashreplace")
        except BaseException:
            self._lock_file.close()
            raise

    def _open(self) -> TextIOWrapper:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        descriptor = open_private(Path(self.baseFilename), flags)
        return os.fdopen(descriptor, "a", encoding=self.encoding, errors=self.errors)

    def emit(self, record: logging.LogRecord) -> None:
        fcntl.flock(self._lock_file, fcntl.LOCK_EX)
        try:
            self._follow_rotation()
            super().emit(record)
        finally:
            fcntl.flock(self._lock_file, fcntl.LOCK_UN)

    def _follow_rotation(self) -> None:
        """Open the file again if another process has rotated or someone has deleted it."""
        if self.stream is None:
            return
        opened = os.fstat(self.stream.fileno())
        with suppress(FileNotFoundError):
            found = Path(self.baseFilename).stat()
            if (opened.st_dev, opened.st_ino) == (found.st_dev, found.st_ino):
                return
        self.stream.close()
        self.stream = self._open()

    def close(self) -> None:
        super().close()
        self._lock_file.close()


class _StderrHandler(_RaisingHandler):
    """Standard error of this process, or of the `speclab up` that started it."""

    def __init__(self, write: Write | None) -> None:
        super().__init__()
        self._write = write or _write_stderr
        if (descriptor := os.environ.get(LOG_DESCRIPTOR, "")).isdigit():
            number = int(descriptor)
            os.fstat(number)  # raises if it is not open
            self._write = lambda line: _write_all(number, f"{line}\n".encode("utf-8", "backslashreplace"))

    def emit(self, record: logging.LogRecord) -> None:
        self._write(self.format(record))


class _JournalHandler(_RaisingHandler):
    """The systemd journal, through its socket."""

    def __init__(self) -> None:
        super().__init__()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._address = JOURNAL

    def emit(self, record: logging.LogRecord) -> None:
        event: EventRow = record.__dict__["event"]
        fields = {
            "MESSAGE": f"{event.spec_id}: {event.message}",
            "PRIORITY": str(_PRIORITIES[record.levelno]),
            "SYSLOG_IDENTIFIER": "speclab",
            "SPECLAB_SPEC": event.spec_id,
            "SPECLAB_RUN": event.run or "",
            "SPECLAB_KIND": event.kind,
            "SPECLAB_FIELDS": json.dumps(dict(event.fields)),
        }
        data = b"".join(_encode_field(name, value) for name, value in fields.items() if value)
        try:
            self._send(data)
        except OSError as error:
            error.filename = self._address
            raise

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendto(data, self._address)
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            self._send_large(data)

    def _send_large(self, data: bytes) -> None:
        """Pass a datagram that is too large as a sealed file in memory."""
        descriptor = os.memfd_create("speclab-event", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            _write_all(descriptor, data)
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
            passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
            self._socket.sendmsg([], passed, 0, self._address)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        self._socket.close()
        super().close()


def _build_handler(spec_id: str, destination: LogDestination, write: Write | None) -> logging.Handler:
    if destination.kind == "journald":
        return _JournalHandler()
    handler: logging.Handler
    if destination.kind == "stderr":
        handler = _StderrHandler(write)
    else:
        path = destination.directory / f"{quote(spec_id, safe=' ')}.log"
        handler = _SharedFileHandler(path, destination.size, destination.keep)
    handler.setFormatter(_JsonFormatter() if destination.format == "json" else _TextFormatter())
    return handler


def _close(handler: logging.Handler) -> None:
    with suppress(OSError):  # the last events could not be written, which was reported
        handler.close()


def _write_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _encode_field(name: str, value: str) -> bytes:
    """Return a field of the journal's protocol; a value of several lines is preceded by its length."""
    data = value.encode("utf-8", "backslashreplace")
    if b"\n" not in data:
        return f"{name}=".encode() + data + b"\n"
    return f"{name}\n".encode() + len(data).to_bytes(8, "little") + data + b"\n"
