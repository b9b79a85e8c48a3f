r"""A section's body as a text editor can hold it, and the way back into the bytes it came from.

Apart because Textual's TextArea makes every line end alike and splits lines at characters that end none in a spec
(`\x0b`, `\x85`, U+2028 and others). Here lines that were not touched keep every byte, line ends included.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Final

from speclab.errors import EditRefused

_LINE_END: Final = re.compile(r"\r\n|\n|\r")
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")

_PICTURES: Final = {
    **{chr(code): chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\t\n\r"},
    "\x7f": "\u2421",
    "\x85": "\u2424",
    "\u2028": "\u21b5",
    "\u2029": "\u00b6",
}
"""Characters an editor would split lines at or swallow, and the picture that stands for each."""


@dataclass(frozen=True, slots=True)
class EditableBody:
    r"""`shown` is `body` with every line end a `\n` and control characters as pictures of themselves.

    `newline` is what a line that is new ends in.
    """

    body: str
    newline: str
    shown: str

    @classmethod
    def of(cls, body: str, newline: str) -> EditableBody:
        """The body as an editor may hold it.

        Raises `EditRefused` where something in it would not come back as it is: bytes that are no UTF-8, or a
        picture next to the very character it stands for.
        """
        if _SURROGATE.search(body):
            raise EditRefused(
                "this section holds bytes that are no UTF-8; the editor here would change them",
                hint="F4 opens it in $EDITOR, which can keep them",
            )
        pictures = {char: picture for char, picture in _PICTURES.items() if char in body}
        if clash := next((char for char, picture in pictures.items() if picture in body), None):
            raise EditRefused(
                f"this section holds both U+{ord(clash):04X} and {pictures[clash]!r}, which would stand for it",
                hint="F4 opens it in $EDITOR",
            )
        shown = "\n".join(_LINE_END.split(body)).translate({ord(char): picture for char, picture in pictures.items()})
        return cls(body, newline, shown)

    def woven(self, edited: str) -> str:
        """The body after `shown` became `edited`: what was not touched is as it was, byte for byte."""
        if edited == self.shown:
            return self.body
        back = {ord(picture): char for char, picture in _PICTURES.items() if char in self.body}
        old, new = self.shown.split("\n"), edited.split("\n")
        ends = _LINE_END.findall(self.body)  # one fewer than lines
        kept = _line_ends(old, new, ends, self.newline)
        return "".join(line.translate(back) + end for line, end in zip(new, [*kept, ""], strict=True))


def _line_ends(old: list[str], new: list[str], ends: list[str], newline: str) -> list[str]:
    """The line end after each of `new` but the last: the old one where the line was there before."""
    result = [newline] * (len(new) - 1)
    for before, after in _pairs(old, new):
        if before < len(ends) and after < len(result):
            result[after] = ends[before]
    return result


def _pairs(old: list[str], new: list[str]) -> Iterator[tuple[int, int]]:
    """Which of `old` became which of `new`, by index.

    What is alike at both ends goes first: an edit in one place is then exact, however often a line repeats.
    """
    shorter = min(len(old), len(new))
    head = next((n for n in range(shorter) if old[n] != new[n]), shorter)
    tail = next((n for n in range(shorter - head) if old[-1 - n] != new[-1 - n]), shorter - head)
    yield from ((n, n) for n in range(head))
    yield from ((len(old) - 1 - n, len(new) - 1 - n) for n in range(tail))
    matcher = SequenceMatcher(None, old[head : len(old) - tail], new[head : len(new) - tail], autojunk=False)
    for _, old_from, old_to, new_from, new_to in matcher.get_opcodes():
        yield from zip(range(head + old_from, head + old_to), range(head + new_from, head + new_to), strict=False)
