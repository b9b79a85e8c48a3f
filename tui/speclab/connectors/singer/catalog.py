"""Singer catalogs and schemas: the stream to read, its fields, the schema of a target."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from speclab.connectors.singer.settings import Replication
from speclab.core.json import Json, Record
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
