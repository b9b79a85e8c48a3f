"""Singer messages on stdout, and the program's log on stderr."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from speclab.connectors.api import Report
from speclab.connectors.secrets.redaction import Redactor
from speclab.connectors.unreadable import check_readable
from speclab.core.json import Json, Record, decode_leniently
from speclab.core.outcome import Level


@dataclass(frozen=True, slots=True)
class RecordMessage:
    """A record of a stream."""

    stream: str
    record: Record


@dataclass(frozen=True, slots=True)
class SchemaMessage:
    """The JSON Schema of the following records of a stream, and the fields of its key."""

    stream: str
    schema: Record
    key: Sequence[str]


@dataclass(frozen=True, slots=True)
class StateMessage:
    """The position from which a tap can continue after all preceding messages."""

    value: Json


@dataclass(frozen=True, slots=True)
class OtherMessage:
    """A message of another type, such as ACTIVATE_VERSION or BATCH."""

    kind: str
    stream: str


Message: TypeAlias = RecordMessage | SchemaMessage | StateMessage | OtherMessage


class NoMessage(Exception):
    """A line is not a Singer message; the error says why."""


_EXPECTED: Final = 'expected a Singer message such as {"type": "RECORD", ...}'


def parse_message(line: bytes) -> Message:
    """Parse one line. Raise `NoMessage`."""
    try:
        found = decode_leniently(line)
    except ValueError:
        raise NoMessage(f"is not JSON; {_EXPECTED}") from None
    match found.value:
        case {"type": "RECORD", "stream": str(stream), "record": dict(record)}:
            return RecordMessage(stream, record if found.is_clean else check_readable(record, line))
        case {"type": "STATE", "value": state}:
            return StateMessage(state)
        case {"type": "SCHEMA", "stream": str(stream), "schema": dict(schema), **rest}:
            key = rest.get("key_properties")
            return SchemaMessage(stream, schema, [str(name) for name in key] if isinstance(key, list) else [])
        case {"type": "RECORD" | "STATE" | "SCHEMA" as kind}:
            wanted = {"RECORD": "`stream` and `record`", "STATE": "`value`", "SCHEMA": "`stream` and `schema`"}
            raise NoMessage(f"is a {kind} message without its {wanted[kind]}")
        case {"type": str(kind), **rest}:
            return OtherMessage(kind, str(rest.get("stream", "")))
    raise NoMessage(f"is not a message; {_EXPECTED}")


_LINE: Final = 2_000
_TOLD: Final = 500
_KEPT: Final = 20
_LEVEL: Final = re.compile(
    r"^[\d:.,TZ+\s-]*[\s|\[]*(?:level=)?(?P<level>DEBUG|INFO|WARN(?:ING)?|ERROR|CRITICAL|FATAL)\b"
    r"(?:\s*\|\s*[\w.-]+\s*\|)?[\s|\]:]*",
    re.IGNORECASE,
)
"""Formats of singer-python (`INFO text`), its SDK (`time | INFO | name | text`) and structlog (`time [info] text`)."""
_LEVELS: Final = {"debug": None, "info": Level.INFO, "warn": Level.WARNING, "warning": Level.WARNING}
_UNPRINTABLE: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_TRACEBACK: Final = "Traceback (most recent call last):"


class ProgramLog:
    """The log of a connector's processes: secrets are redacted, and the number of lines is limited.

    A line without a level has the level of the line before: it continues it. `DEBUG` is not reported.
    """

    def __init__(self, name: str, redactor: Redactor, report: Report) -> None:
        self._name = name
        self._redactor = redactor
        self._report = report
        self._level: Level | None = Level.INFO
        self._counts: Counter[Level] = Counter()
        self._last: deque[str] = deque(maxlen=_KEPT)
        self._cause = ""
        self._in_traceback = False

    def begin(self) -> None:
        """Start the log of another process."""
        self._last.clear()
        self._level = Level.INFO
        self._cause = ""
        self._in_traceback = False

    def add(self, raw: bytes) -> None:
        """Add a line."""
        line = _UNPRINTABLE.sub("", self._redactor.excerpt(raw, _LINE)).rstrip()
        if not line.strip():
            return
        self._last.append(line)
        if match := _LEVEL.match(line):
            self._level = _LEVELS.get(match["level"].lower(), Level.ERROR)
            line = line[match.end() :]
            if self._level is Level.ERROR:
                self._cause = line
        elif line == _TRACEBACK:
            self._level = Level.ERROR
            self._in_traceback = True
        elif self._in_traceback and not line[0].isspace():
            self._cause = line
            self._in_traceback = False
        if self._level is not None:
            self._tell(self._level, f"{self._name}: {line}")

    @property
    def cause(self) -> str:
        """Return the last error, or else the last line; empty if nothing was logged."""
        return self._cause or (self._last[-1].strip() if self._last else "")

    @property
    def tail(self) -> str:
        """Return the last lines as they were written."""
        return "\n".join(self._last)

    def _tell(self, level: Level, message: str) -> None:
        self._counts[level] += 1
        if self._counts[level] <= _TOLD:
            self._report(level, message)
        elif self._counts[level] == _TOLD + 1:
            self._report(Level.WARNING, f"{self._name}: more lines of level {level} are not kept")
