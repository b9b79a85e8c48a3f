r"""Lines of a text and places in it: only `\r\n`, `\n` and `\r` end a line, and a byte order mark is in none.

Apart from the document because YAML, Markdown and Python each have their own idea of what ends a line.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import Final

_LINE_END: Final = re.compile(r"\r\n|\n|\r")
BOM: Final = "\ufeff"


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` up to, not including, `end` of a text."""

    start: int
    end: int

    def of(self, text: str) -> str:
        """What stands there in `text`."""
        return text[self.start : self.end]


@dataclass(frozen=True, slots=True)
class Lines:
    """Where each line of `text` begins and where it ends, its line end not counted. Indices count from 0."""

    text: str
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    @classmethod
    def of(cls, text: str) -> Lines:
        """The lines of `text`; there is always a last one, empty if the text ends in a line end."""
        return cls._from(text, 0)

    @classmethod
    def of_file(cls, text: str) -> Lines:
        """The lines of a whole file's text; a byte order mark at its start is in none."""
        return cls._from(text, len(BOM) if text.startswith(BOM) else 0)

    @classmethod
    def _from(cls, text: str, start: int) -> Lines:
        starts, ends = [start], []
        for match in _LINE_END.finditer(text):
            ends.append(match.start())
            starts.append(match.end())
        ends.append(len(text))
        return cls(text, tuple(starts), tuple(ends))

    def __len__(self) -> int:
        """How many there are."""
        return len(self.starts)

    def content(self, index: int) -> str:
        """The line at `index`, without its line end."""
        return self.text[self.starts[index] : self.ends[index]]

    def contents(self, first: int, end: int) -> list[str]:
        """The lines from `first` up to, not including, `end`, without their line ends."""
        text = self.text
        return [text[a:b] for a, b in zip(self.starts[first:end], self.ends[first:end], strict=True)]

    def span(self, first: int, end: int) -> Span:
        """From the start of line `first` to the end of the line before `end`, its line end not counted."""
        return (
            Span(self.starts[first], self.ends[end - 1])
            if end > first
            else Span(self.starts[first], self.starts[first])
        )

    def index(self, offset: int) -> int:
        """Index of the line that holds `offset`; a line end belongs to the line it ends."""
        return max(bisect_right(self.starts, offset) - 1, 0)

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column of `offset`, both from 1."""
        index = self.index(offset)
        return index + 1, max(offset - self.starts[index], 0) + 1


def split_line_ends(text: str) -> list[str]:
    """The lines of `text`, each with its line end; joined they are `text` again."""
    out, at = [], 0
    for match in _LINE_END.finditer(text):
        out.append(text[at : match.end()])
        at = match.end()
    return [*out, text[at:]] if at < len(text) else out


def dominant_newline(text: str) -> str:
    r"""The line end most lines of `text` have; `\n` where there is none."""
    crlf = text.count("\r\n")
    counts = {"\n": text.count("\n") - crlf, "\r\n": crlf, "\r": text.count("\r") - crlf}
    return max(counts, key=lambda newline: counts[newline])
