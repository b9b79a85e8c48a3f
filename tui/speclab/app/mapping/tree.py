"""A record as lines to read: keys in their order, small lists and objects on one line, large ones indented."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from rich.cells import cell_len

from speclab.jsonvalue import Json, Record

Parts: TypeAlias = "tuple[str | int, ...]"

_PLAIN: Final = re.compile(r"[^\s\[\]{},:#\"'&*!|>%@`-](?:[^\n\r\t,:#\[\]{}\"]|:(?=\S))*(?<! )")
_OTHER_THAN_TEXT: Final = re.compile(r"[-+]?[\d.]+(?:[eE][-+]?\d+)?|true|false|null|~", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TreeLine:
    """One line: whose value it holds (`path`), how deep, what stands before the value, and the value."""

    path: Parts
    indent: int
    label: str
    value: str


def scalar(value: Json) -> str:
    """`value` as it would be written; text in quotes only where it could be taken for something else."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and not _OTHER_THAN_TEXT.fullmatch(value):
        return value
    return json.dumps(value, ensure_ascii=False)


def flow(value: Json) -> str:
    """`value` on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{scalar(key)}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    return scalar(value)


def tree(record: Record, width: int) -> list[TreeLine]:
    """The record's lines; what does not fit into `width` cells is spread over several."""
    return list(_entries(record.items(), (), 0, width))


def _entries(items: Iterable[tuple[str, Json]], path: Parts, indent: int, width: int) -> Iterator[TreeLine]:
    for key, value in items:
        yield from _lines(value, (*path, key), indent, f"{scalar(key)}:", width)


def _lines(value: Json, path: Parts, indent: int, label: str, width: int) -> Iterator[TreeLine]:
    text = flow(value)
    if not isinstance(value, dict | list) or not value or 2 * indent + cell_len(f"{label} {text}") <= width:
        yield TreeLine(path, indent, label, text)
        return
    yield TreeLine(path, indent, label, "")
    if isinstance(value, dict):
        yield from _entries(value.items(), path, indent + 1, width)
    else:
        for index, item in enumerate(value):
            yield from _lines(item, (*path, index), indent + 1, "-", width)
