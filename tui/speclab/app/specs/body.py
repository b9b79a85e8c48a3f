r"""A section's body as a text editor can hold it, and the way back.

Apart because Textual's TextArea splits lines at characters that end none in a spec (`\x0b`, `\x85`, U+2028 and others)
and makes line ends alike. Line ends are put back by `Document.with_body`, the characters here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from speclab.app.widgets.cells import printable
from speclab.errors import EditRefused

_LINE_END: Final = re.compile(r"\r\n|\n|\r")
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")

_PICTURES: Final = {
    **{chr(code): chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\t\n\r"},
    "\x7f": "\u2421",
    **{chr(code): chr(0x2800 + code) for code in range(0x80, 0xA0)},
    "\x85": "\u2424",
    "\u2028": "\u21b5",
    "\u2029": "\u00b6",
    **dict(zip("\u202a\u202b\u202c\u202d\u202e", "\u21c9\u21c7\u21c5\u21d2\u21d0", strict=True)),
    **dict(zip("\u2066\u2067\u2068\u2069", "\u21e5\u21e4\u21c6\u21f5", strict=True)),
}
"""Characters an editor would split lines at or swallow, or a terminal obey, and the picture that stands for each.

Of C1 controls it is a Braille pattern, of bidirectional controls an arrow: each its own, so that it can be put back.
"""


@dataclass(frozen=True, slots=True)
class EditableBody:
    r"""`shown` is `body` with every line end a `\n` and control characters as pictures of themselves."""

    body: str
    shown: str

    @classmethod
    def of(cls, body: str) -> EditableBody:
        """The body as an editor may hold it.

        Raises `EditRefused` where something in it would not come back as it is: bytes that are no UTF-8, or a
        picture next to the very character it stands for.
        """
        if _SURROGATE.search(body):
            raise EditRefused(
                "this section holds bytes that are no UTF-8; the editor here would change them",
                hint="F4 opens it in $EDITOR, which can keep them",
            )
        pictures = {ord(char): picture for char, picture in _PICTURES.items() if char in body}
        if clash := next((char for char, picture in pictures.items() if picture in body), None):
            raise EditRefused(
                f"this section holds both U+{clash:04X} and {pictures[clash]!r}, which would stand for it",
                hint="F4 opens it in $EDITOR",
            )
        return cls(body, "\n".join(_LINE_END.split(body)).translate(pictures))

    @classmethod
    def to_look_at(cls, body: str) -> EditableBody:
        """The body with a picture for all that cannot be shown: not to be edited."""
        return cls(body, "\n".join(printable(line) for line in _LINE_END.split(body)))

    def written(self, edited: str) -> str:
        """The body that `shown`, edited, stands for."""
        if edited == self.shown:
            return self.body
        return edited.translate({ord(picture): char for char, picture in _PICTURES.items() if char in self.body})
