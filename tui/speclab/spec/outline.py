"""Lines, blocks and headings of a Markdown text, with their exact spans."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

_LINE_END: Final = re.compile(r"\r\n|\n|\r")
BOM: Final = "\ufeff"


@dataclass(frozen=True, slots=True)
class LineSpan:
    """Characters `start` up to, not including, `end` of a text."""

    start: int
    end: int

    def of(self, text: str) -> str:
        """What stands there in `text`."""
        return text[self.start : self.end]


@dataclass(frozen=True, slots=True)
class TextLines:
    """Where each line of `text` begins and where it ends, its line end not counted. Indices count from 0."""

    text: str
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    @classmethod
    def of(cls, text: str) -> TextLines:
        """The lines of `text`; there is always a last one, empty if the text ends in a line end."""
        return cls._from(text, 0)

    @classmethod
    def of_file(cls, text: str) -> TextLines:
        """The lines of a whole file's text; a byte order mark at its start is in none."""
        return cls._from(text, len(BOM) if text.startswith(BOM) else 0)

    @classmethod
    def _from(cls, text: str, start: int) -> TextLines:
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

    def span(self, first: int, end: int) -> LineSpan:
        """From the start of line `first` to the end of the line before `end`, its line end not counted."""
        return (
            LineSpan(self.starts[first], self.ends[end - 1])
            if end > first
            else LineSpan(self.starts[first], self.starts[first])
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


_MARKDOWN: Final = MarkdownIt("commonmark").enable("table")
_UNREADABLE: Final = re.compile("[\0\ud800-\udfff]")  # NUL, and bytes that are no UTF-8
_COMMENT: Final = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_BLANK_LINES: Final = re.compile(r"\A(?:[ \t]*(?:\r\n|\n|\r))*")
_MARKS: Final = re.compile(r"[*_`{\[\]]")
_ATTRIBUTES: Final = re.compile(r"\{[#.:][^{}]*\}\s*$")
_LINK: Final = re.compile(r"\[([^\[\]]*)\]\([^()]*\)")
_FENCE_END: Final = re.compile(r" {0,3}(`{3,}|~{3,})[ \t]*")


class BlockKind(StrEnum):
    """What a block of a section is."""

    HEADING = "heading"
    PARAGRAPH = "paragraph"
    FENCE = "fence"
    CODE = "code"
    HTML = "html"
    RULE = "rule"
    LIST = "list"
    QUOTE = "quote"
    TABLE = "table"


_KINDS: Final = {
    "heading_open": BlockKind.HEADING,
    "paragraph_open": BlockKind.PARAGRAPH,
    "fence": BlockKind.FENCE,
    "code_block": BlockKind.CODE,
    "html_block": BlockKind.HTML,
    "hr": BlockKind.RULE,
    "bullet_list_open": BlockKind.LIST,
    "ordered_list_open": BlockKind.LIST,
    "blockquote_open": BlockKind.QUOTE,
    "table_open": BlockKind.TABLE,
}


@dataclass(frozen=True, slots=True)
class Block:
    """One block that stands in no other.

    `first` and `end` are line indices, from 0, end not included; `line` counts from 1. `span` has whole lines, without
    the last line end. `info` is a heading's title or what stands after a fence's opening marks; `content` is what
    stands between a fence's marks, whole lines without the last line end.
    """

    kind: BlockKind
    first: int
    end: int
    span: LineSpan
    info: str = ""
    level: int = 0
    content: LineSpan | None = None

    @property
    def line(self) -> int:
        """Its first line, from 1."""
        return self.first + 1


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and the text that is its own, up to the next heading of any level.

    `path` is the titles from the outermost section to this one; `index` counts sections of the same path from 0.
    `own` is everything between this heading's line and the next heading; `body` is the same without the blank lines
    around it. `heading` is the heading's lines, without the last line end; `line` is the heading's, from 1.
    `empty` is True where the body is blank or only comments.
    """

    title: str
    level: int
    path: tuple[str, ...]
    index: int
    heading: LineSpan
    own: LineSpan
    body: LineSpan
    line: int
    empty: bool
    blocks: tuple[Block, ...]

    @property
    def address(self) -> str:
        """`Data Flow > Direction`; with `[1]` behind the second of the same path."""
        return " > ".join(self.path) + (f"[{self.index}]" if self.index else "")


@dataclass(frozen=True, slots=True)
class Outline:
    """All headings in file order, the title among them; `preamble` is the text before the first.

    `by_path` and `by_title` have the sections by what their titles are compared by. The title is the first heading of
    level 1; its path is empty. `title` is "" where there is none.
    """

    title: str
    preamble: LineSpan
    headings: tuple[Section, ...]
    by_path: Mapping[tuple[str, ...], Sequence[Section]] = field(repr=False, compare=False)
    by_title: Mapping[str, Sequence[Section]] = field(repr=False, compare=False)

    def at(self, address: str) -> tuple[Section, ...]:
        """The sections at `address`, else wherever those of its title stand; those that say something come first."""
        path = comparable_path(address)
        found = self.by_path.get(path) or self.by_title.get(path[-1], ())
        return tuple(sorted(found, key=lambda section: section.empty))

    @property
    def sections(self) -> tuple[Section, ...]:
        """The headings without the title."""
        return tuple(section for section in self.headings if section.path)


def read_outline(lines: TextLines, first: int) -> Outline:
    """The outline of the lines from index `first` (the one after the front matter) to the end."""
    blocks = tuple(read_blocks(lines, first))
    at = [index for index, block in enumerate(blocks) if block.kind is BlockKind.HEADING]
    start = lines.starts[first] if first < len(lines) else len(lines.text)
    preamble = LineSpan(start, lines.starts[blocks[at[0]].first] if at else len(lines.text))

    title: str | None = None
    path: list[tuple[int, str, str]] = []  # level, title and what it is compared by, of the sections around this one
    by_path: dict[tuple[str, ...], list[Section]] = {}
    by_title: dict[str, list[Section]] = {}
    headings = []
    for index, following in zip(at, [*at, len(blocks)][1:], strict=True):
        block = blocks[index]
        while path and path[-1][0] >= block.level:
            path.pop()
        if block.level == 1 and title is None:
            title = block.info
            names: tuple[str, ...] = ()
            key: tuple[str, ...] = ()
        else:
            path.append((block.level, block.info, comparable(block.info)))
            names = tuple(name for _, name, _ in path)
            key = tuple(name for _, _, name in path)
        end = lines.starts[blocks[following].first] if following < len(blocks) else len(lines.text)
        own = LineSpan(lines.starts[block.end] if block.end < len(lines) else len(lines.text), end)
        body = _without_blank_lines(lines, own)
        section = Section(
            title=block.info,
            level=block.level,
            path=names,
            index=len(by_path.get(key, ())),
            heading=block.span,
            own=own,
            body=body,
            line=block.line,
            empty=not _COMMENT.sub("", body.of(lines.text)).strip(),
            blocks=blocks[index + 1 : following],
        )
        headings.append(section)
        if key:
            by_path.setdefault(key, []).append(section)
            by_title.setdefault(key[-1], []).append(section)
    return Outline(title or "", preamble, tuple(headings), by_path, by_title)


def read_blocks(lines: TextLines, first: int) -> Iterator[Block]:
    """The blocks that stand in no other, from line index `first` on."""
    source = _UNREADABLE.sub("\ufffd", "\n".join(lines.contents(first, len(lines))))
    tokens: list[Token] = []
    _MARKDOWN.block.parse(source, _MARKDOWN, {}, tokens)
    for at, token in enumerate(tokens):
        if token.level or token.map is None or token.type not in _KINDS:
            continue
        kind, begin, end = _KINDS[token.type], token.map[0] + first, token.map[1] + first
        while end - 1 > begin and kind is not BlockKind.FENCE and not lines.content(end - 1).strip(" \t"):
            end -= 1  # a list's range takes in the blank lines after it
        if kind is BlockKind.HEADING:
            title = " ".join(tokens[at + 1].content.split())
            yield Block(kind, begin, end, lines.span(begin, end), title, level=int(token.tag[1:]))
        elif kind is BlockKind.FENCE:
            content = _fence_content(lines, begin, end, token.markup)
            yield Block(kind, begin, end, lines.span(begin, end), token.info.strip(), content=content)
        else:
            yield Block(kind, begin, end, lines.span(begin, end))


def comparable(title: str) -> str:
    """A title as it is compared: without case, marks of emphasis and code, link targets, `{#id}` and double blanks."""
    if _MARKS.search(title):
        title = _MARKS.sub("", _LINK.sub(r"\1", _ATTRIBUTES.sub("", title)))
    return " ".join(title.casefold().split())


def comparable_path(address: str) -> tuple[str, ...]:
    """The titles in an address such as `Data Flow > Volume`, as they are compared."""
    return tuple(map(comparable, address.split(">")))


def _fence_content(lines: TextLines, begin: int, end: int, marks: str) -> LineSpan:
    closing = _FENCE_END.fullmatch(lines.content(end - 1)) if end - 1 > begin else None
    closed = closing is not None and closing[1].startswith(marks)
    if begin + 1 >= len(lines):
        return LineSpan(len(lines.text), len(lines.text))
    return lines.span(begin + 1, max(end - 1 if closed else end, begin + 1))


def _without_blank_lines(lines: TextLines, own: LineSpan) -> LineSpan:
    """`own` without the blank lines around it; empty, at its start, where there is nothing else."""
    text = own.of(lines.text)
    start = own.end - len(_BLANK_LINES.sub("", text))
    end = own.start + len(text.rstrip(" \t\r\n"))
    if start >= end:
        return LineSpan(own.start, own.start)
    return LineSpan(start, lines.ends[lines.index(end - 1)])
