"""Field paths such as `name.given`, `tags[0]` and `["odd key"].x`: parsing, formatting and lookup."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

from speclab.core.json import Json

_STEP: Final = re.compile(
    r"""(?P<name>[^\s.\[\]"',|]+)            # a plain name
      | \[(?P<index>\d{1,9})\]               # a list index
      | \[(?P<quoted>"(?:[^"\\]|\\.)*")\]    # an odd key, as JSON writes a string
    """,
    re.VERBOSE,
)


class PathSyntaxError(ValueError):
    """A path is invalid; `offset` is the position in it, from 0."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


@dataclass(frozen=True, slots=True)
class FieldPath:
    """Keys (`str`) and list indices (`int`) from a record to a value in it; the empty path is the record itself."""

    parts: tuple[str | int, ...]

    @classmethod
    def parse(cls, text: str) -> FieldPath:
        """Parse a path.

        Raise `PathSyntaxError` with the offset of the first invalid character.
        """
        parts: list[str | int] = []
        at = 0
        while at < len(text):
            if parts and text[at] == ".":
                at += 1
            elif parts and text[at] != "[":
                raise PathSyntaxError(f"unexpected {text[at]!r}", at)
            step = _STEP.match(text, at)
            if step is None:
                where = f"unexpected {text[at]!r}" if at < len(text) else "a name is missing at the end"
                raise PathSyntaxError(where, at)
            if step["name"] is not None:
                parts.append(step["name"])
            elif step["index"] is not None:
                parts.append(int(step["index"]))
            else:
                parts.append(_unquoted(step["quoted"], step.start("quoted")))
            at = step.end()
        if not parts:
            raise PathSyntaxError("a path is empty", 0)
        return cls(tuple(parts))

    def __str__(self) -> str:
        """Return the path as text with odd keys quoted; `parse` returns the same path."""
        out = ""
        for part in self.parts:
            if isinstance(part, int):
                out += f"[{part}]"
            elif (match := _STEP.fullmatch(part)) and match["name"] is not None:
                out += f".{part}" if out else part
            else:
                out += f"[{json.dumps(part, ensure_ascii=False)}]"
        return out

    def get(self, value: Json) -> Json:
        """Return the value at this path in `value`.

        Raise `KeyError` (with this path as its argument) if a key, an index or a level is missing.
        """
        for part in self.parts:
            if isinstance(value, str):  # the characters of a text are not its elements
                raise KeyError(str(self))
            try:
                value = value[part]  # type: ignore[index]
            except (KeyError, IndexError, TypeError):
                raise KeyError(str(self)) from None
        return value


def _unquoted(text: str, at: int) -> str:
    try:
        return str(json.loads(text))
    except json.JSONDecodeError as error:
        reason = r"in quotes a backslash is written \\ and a tab \t, as in JSON"
        raise PathSyntaxError(reason, at + error.pos) from None
