"""Singer messages, and the catalog of a tap."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from speclab.connectors.api import Report, check_readable
from speclab.connectors.secrets.redaction import Redactor
from speclab.connectors.singer.settings import Replication
from speclab.core.json import Json, Record, decode_leniently
from speclab.core.outcome import Level
from speclab.core.paths import FieldPath
from speclab.core.text import format_suggestion
from speclab.mapping.fields import Field, collect_fields
from speclab.mapping.types import ValueKind

_METHODS: Final = {"full_table": "FULL_TABLE", "incremental": "INCREMENTAL", "log_based": "LOG_BASED"}


class NoStream(Exception):
    """A catalog is missing, or does not contain the requested stream; the message lists its streams."""


def find_stream(catalog: Json, name: str) -> Record:
    """Return the entry of the stream `name`, found by `tap_stream_id` or `stream`. Raise `NoStream`."""
    streams = list(_streams(catalog))
    for by in ("tap_stream_id", "stream"):
        for entry in streams:
            if entry.get(by) == name:
                return entry
    names = [_name(entry) for entry in streams]
    raise NoStream(f"has no stream '{name}', but {', '.join(names) or 'none at all'}{format_suggestion(name, names)}")


def get_stream_names(entry: Record) -> set[str]:
    """Return the names that messages use for a stream: its `stream`, or else its `tap_stream_id`."""
    return {str(entry[by]) for by in ("tap_stream_id", "stream") if entry.get(by)}


def select_stream(catalog: Json, name: str, replication: Replication | None, *, own: bool = False) -> dict[str, Json]:
    """Return `catalog` with only the stream `name` selected, with all its fields. Raise `NoStream`.

    Selection is metadata (Singer specification, discovery mode, section "Metadata"): `selected` at the empty breadcrumb
    for a stream and at `["properties", NAME]` for a field, where `inclusion: unsupported` excludes a field. Older taps
    look for `selected` in the schema. In a catalog of the user's `own`, other selections stay: its fields, and streams
    that a tap reads for the parents of records.
    """
    chosen = find_stream(catalog, name)
    streams: list[Json] = [
        _selected(entry, replication, own=own) if entry is chosen else entry if own else _deselected(entry)
        for entry in _streams(catalog)
    ]
    rest = catalog if isinstance(catalog, dict) else {}
    return {**rest, "streams": streams}


def _streams(catalog: Json) -> Iterator[Record]:
    streams = catalog.get("streams") if isinstance(catalog, dict) else None
    if not isinstance(streams, list):
        raise NoStream('has no catalog with a list of "streams"')
    for entry in streams:
        if isinstance(entry, dict):
            yield entry


def _name(entry: Record) -> str:
    return str(entry.get("tap_stream_id") or entry.get("stream") or "?")


def _deselected(entry: Record) -> Record:
    metadata_by_breadcrumb = _read_metadata(entry)
    metadata_by_breadcrumb[()] = metadata_by_breadcrumb.get((), {}) | {"selected": False}
    return {**entry, "schema": {**_dict(entry.get("schema")), "selected": False}, **_metadata(metadata_by_breadcrumb)}


def _selected(entry: Record, replication: Replication | None, *, own: bool) -> Record:
    schema = _dict(entry.get("schema"))
    properties = _dict(schema.get("properties"))
    metadata_by_breadcrumb = _read_metadata(entry)
    legacy = not metadata_by_breadcrumb
    whole: Record = {"selected": True}
    if replication is not None:
        whole["replication-method"] = _METHODS[replication.method]
        if replication.key is not None:
            whole["replication-key"] = replication.key
    metadata_by_breadcrumb[()] = metadata_by_breadcrumb.get((), {}) | whole
    if not own:
        for field in properties:
            metadata_by_breadcrumb.setdefault(("properties", field), {})
        for breadcrumb, metadata in metadata_by_breadcrumb.items():
            if breadcrumb:
                metadata_by_breadcrumb[breadcrumb] = metadata | {"selected": metadata.get("inclusion") != "unsupported"}
        if legacy:
            properties = {field: {**_dict(inner), "selected": True} for field, inner in properties.items()}
    changed: Record = {"schema": {**schema, "properties": properties, "selected": True}}
    if replication is not None:  # taps built with the SDK read it here
        changed["replication_method"] = _METHODS[replication.method]
        if replication.key is not None:
            changed["replication_key"] = replication.key
    return {**entry, **changed, **_metadata(metadata_by_breadcrumb)}


def _read_metadata(entry: Record) -> dict[tuple[str, ...], Record]:
    """Return the metadata of a stream by breadcrumb."""
    metadata = entry.get("metadata")
    found: dict[tuple[str, ...], Record] = {}
    for one in metadata if isinstance(metadata, list) else ():
        match one:
            case {"breadcrumb": [*breadcrumb], "metadata": dict(inner)}:
                found[tuple(map(str, breadcrumb))] = inner
    return found


def _metadata(metadata_by_breadcrumb: Mapping[tuple[str, ...], Record]) -> Record:
    return {
        "metadata": [
            {"breadcrumb": [*crumbs], "metadata": metadata} for crumbs, metadata in metadata_by_breadcrumb.items()
        ]
    }


def _dict(value: Json) -> Record:
    return value if isinstance(value, dict) else {}


_TYPES: Final = (
    (ValueKind.BOOLEAN, "boolean"),
    (ValueKind.INTEGER, "integer"),
    (ValueKind.NUMBER | ValueKind.DECIMAL, "number"),
    (ValueKind.ANY_TEXT, "string"),
    (ValueKind.LIST, "array"),
    (ValueKind.OBJECT, "object"),
)
_FORMATS: Final[Mapping[ValueKind, str]] = {ValueKind.DATE: "date", ValueKind.DATETIME: "date-time"}

_Tree: TypeAlias = "dict[str, _Tree | ValueKind]"


class StreamSchema:
    """The fields of the records for a target: their types as the mapping declares them, or else as observed.

    Observed types are only added to, so the columns of a target do not change back from batch to batch.
    """

    def __init__(self) -> None:
        self._declared: dict[FieldPath, ValueKind] = {}
        self._seen: dict[FieldPath, ValueKind] = {}

    def declare(self, fields: Iterable[Field]) -> None:
        """Set the types that the mapping declares. A field that may have several types is typed by its values."""
        self._declared = {field.path: field.kind for field in fields if len(_types(field.kind)) == 1}

    def see(self, records: Iterable[Record]) -> None:
        """Add the types observed in `records`."""
        for field in collect_fields(records):
            self._seen[field.path] = self._seen.get(field.path, ValueKind(0)) | field.kind

    def schema(self, key: Sequence[str]) -> dict[str, Json]:
        """Return the schema of a record. Any field except its `key` may be null; one that was always null is text."""
        tree: _Tree = {}
        for path, kind in (self._seen | self._declared).items():
            _put(tree, path, kind)
        described: dict[str, Json] = {name: _described(inner, nullable=name not in key) for name, inner in tree.items()}
        return {"type": "object", "properties": described, "required": [*key]}


def _put(tree: _Tree, path: FieldPath, kind: ValueKind) -> None:
    """Add a field to the tree. The elements of a list are typed with the list."""
    for at, part in enumerate(path.parts[:-1]):
        if isinstance(path.parts[at + 1], int):
            tree[str(part)] = ValueKind.LIST
            return
        inner = tree.get(str(part))
        if not isinstance(inner, dict):  # missing, empty or null in the records so far
            inner = tree[str(part)] = {}
        tree = inner
    tree.setdefault(str(path.parts[-1]), kind)


def _described(node: _Tree | ValueKind, *, nullable: bool) -> dict[str, Json]:
    null: list[Json] = ["null"] if nullable else []
    if isinstance(node, dict):
        properties: dict[str, Json] = {name: _described(inner, nullable=True) for name, inner in node.items()}
        return {"type": ["object", *null], "properties": properties}
    types: list[Json] = [*(_types(node) or ["string"])]
    described: dict[str, Json] = {"type": [*types, *null]}
    if node in _FORMATS:
        described["format"] = _FORMATS[node]
    return described


def _types(kind: ValueKind) -> list[str]:
    """Return the JSON types of values of `kind`; numbers with and without a fraction are one type."""
    found = [name for one, name in _TYPES if kind & one]
    return [name for name in found if name != "integer" or "number" not in found]


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
