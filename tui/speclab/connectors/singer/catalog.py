"""The catalog of a tap: its streams with their fields, and the selection of the one that is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from speclab.jsonvalue import Json, Record
from speclab.spec.names import meant
from speclab.spec.systems.singer import Replication

_METHODS: Final = {"full_table": "FULL_TABLE", "incremental": "INCREMENTAL", "log_based": "LOG_BASED"}


class NoStream(Exception):
    """A catalog without the stream that is asked for, or no catalog at all; says what there is."""


def stream_of(catalog: Json, name: str) -> Record:
    """The entry of the stream `name`, by its `tap_stream_id` or its `stream`. Raises `NoStream`."""
    streams = list(_streams(catalog))
    for by in ("tap_stream_id", "stream"):
        for entry in streams:
            if entry.get(by) == name:
                return entry
    names = [_name(entry) for entry in streams]
    raise NoStream(f"has no stream '{name}', but {', '.join(names) or 'none at all'}{meant(name, names)}")


def names_of(entry: Record) -> set[str]:
    """What the stream of an entry is called in messages: by its `stream`, or else by its `tap_stream_id`."""
    return {str(entry[by]) for by in ("tap_stream_id", "stream") if entry.get(by)}


def selected(catalog: Json, name: str, replication: Replication | None, *, own: bool = False) -> dict[str, Json]:
    """`catalog` with the stream `name` selected, all its fields with it, and no other stream. Raises `NoStream`.

    Selection is metadata as the Singer specification has it (discovery mode, section "Metadata"): `selected` at the
    empty breadcrumb for a stream and at `["properties", NAME]` for a field, where `inclusion: unsupported` rules a
    field out. Taps older than that look for `selected` in the schema. In a catalog of the user's `own`, what else is
    selected is left alone: its fields, and such streams as a tap wants to read the parents of records from.
    """
    chosen = stream_of(catalog, name)
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
    told = _told(entry)
    told[()] = told.get((), {}) | {"selected": False}
    return {**entry, "schema": {**_dict(entry.get("schema")), "selected": False}, **_metadata(told)}


def _selected(entry: Record, replication: Replication | None, *, own: bool) -> Record:
    schema = _dict(entry.get("schema"))
    properties = _dict(schema.get("properties"))
    told = _told(entry)
    legacy = not told
    whole: Record = {"selected": True}
    if replication is not None:
        whole["replication-method"] = _METHODS[replication.method]
        if replication.key is not None:
            whole["replication-key"] = replication.key
    told[()] = told.get((), {}) | whole
    if not own:
        for field in properties:
            told.setdefault(("properties", field), {})
        for breadcrumb, metadata in told.items():
            if breadcrumb:
                told[breadcrumb] = metadata | {"selected": metadata.get("inclusion") != "unsupported"}
        if legacy:
            properties = {field: {**_dict(inner), "selected": True} for field, inner in properties.items()}
    changed: Record = {"schema": {**schema, "properties": properties, "selected": True}}
    if replication is not None:  # taps made with the SDK look for it here
        changed["replication_method"] = _METHODS[replication.method]
        if replication.key is not None:
            changed["replication_key"] = replication.key
    return {**entry, **changed, **_metadata(told)}


def _told(entry: Record) -> dict[tuple[str, ...], Record]:
    """The metadata of a stream, by breadcrumb."""
    metadata = entry.get("metadata")
    found: dict[tuple[str, ...], Record] = {}
    for one in metadata if isinstance(metadata, list) else ():
        match one:
            case {"breadcrumb": [*breadcrumb], "metadata": dict(inner)}:
                found[tuple(map(str, breadcrumb))] = inner
    return found


def _metadata(told: Mapping[tuple[str, ...], Record]) -> Record:
    return {"metadata": [{"breadcrumb": [*crumbs], "metadata": metadata} for crumbs, metadata in told.items()]}


def _dict(value: Json) -> Record:
    return value if isinstance(value, dict) else {}
