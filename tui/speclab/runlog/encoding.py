"""How text and JSON are put so that SQLite can store them, whatever a source sends."""

from __future__ import annotations

import json
from typing import overload

from speclab.jsonvalue import JsonView


def as_json(value: JsonView) -> str:
    """`value` as JSON text that SQLite can store, lone surrogates and all."""
    return text(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


@overload
def text(value: str) -> str: ...
@overload
def text(value: None) -> None: ...
@overload
def text(value: str | None) -> str | None: ...
def text(value: str | None) -> str | None:
    r"""`value` as SQLite can store it: a lone surrogate, which UTF-8 cannot say, as `\udXXX`.

    Inside JSON text that is the very escape that reads back as the same surrogate.
    """
    if value is None or value.isascii():
        return value
    return value.encode("utf-8", "backslashreplace").decode("utf-8")
