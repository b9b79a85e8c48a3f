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
    """The characters from `start` to `end` of a text, end excluded."""

    start: int
    end: int

    def of(self, text: str) -> str:
        """Return this part of `text`."""
        return text[self.start : self.end]


@dataclass(frozen=True, slots=True)
class TextLines:
    """Offsets of the start and end of each line of `text`, without its line end. Indices count from 0."""

    text: str
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    @classmethod
    def of(cls, text: str) -> TextLines:
        """Return the lines of `text`; the last one is empty if the text ends with a line end."""
        return cls._from(text, 0)

    @classmethod
    def of_file(cls, text: str) -> TextLines:
        """Return the lines of a whole file's text, without a byte order mark at its start."""
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
        """Return the number of lines."""
        return len(self.starts)

    def content(self, index: int) -> str:
        """Return the line at `index`, without its line end."""
        return self.text[self.starts[index] : self.ends[index]]

    def contents(self, first: int, end: int) -> list[str]:
        """Return the lines from `first` to `end`, end excluded, without their line ends."""
        text = self.text
        return [text[a:b] for a, b in zip(self.starts[first:end], self.ends[first:end], strict=True)]

    def span(self, first: int, end: int) -> LineSpan:
        """Return the span from the start of line `first` to the end of the line before `end`, without its line end."""
        return (
            LineSpan(self.starts[first], self.ends[end - 1])
            if end > first
            else LineSpan(self.starts[first], self.starts[first])
        )

    def index(self, offset: int) -> int:
        """Return the index of the line with `offset`; a line end belongs to the line it ends."""
        return max(bisect_right(self.starts, offset) - 1, 0)

    def position(self, offset: int) -> tuple[int, int]:
        """Return line and column of `offset`, both from 1."""
        index = self.index(offset)
        return index + 1, max(offset - self.starts[index], 0) + 1


def split_line_ends(text: str) -> list[str]:
    """Split `text` into lines that include their line ends."""
    out, at = [], 0
    for match in _LINE_END.finditer(text):
        out.append(text[at : match.end()])
        at = match.end()
    return [*out, text[at:]] if at < len(text) else out


def dominant_newline(text: str) -> str:
    r"""Return the most frequent line end of `text`; `\n` if there is none."""
    crlf = text.count("\r\n")
    counts = {"\n": text.count("\n") - crlf, "\r\n": crlf, "\r": text.count("\r") - crlf}
    return max(counts, key=lambda newline: counts[newline])


_MARKDOWN: Final = MarkdownIt("commonmark").enable("table")
_UNREADABLE: Final = re.compile("[\0\ud800-\udfff]")  # NUL, and bytes that are not UTF-8
_COMMENT: Final = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_BLANK_LINES: Final = re.compile(r"\A(?:[ \t]*(?:\r\n|\n|\r))*")
_MARKS: Final = re.compile(r"[*_`{\[\]]")
_ATTRIBUTES: Final = re.compile(r"\{[#.:][^{}]*\}\s*$")
_LINK: Final = re.compile(r"\[([^\[\]]*)\]\([^()]*\)")
_FENCE_END: Final = re.compile(r" {0,3}(`{3,}|~{3,})[ \t]*")


class BlockKind(StrEnum):
    """The kind of a block."""

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
    """A top-level block.

    `first` and `end` are line indices, from 0, end excluded; `line` counts from 1. `span` has whole lines, without
    the last line end. `info` is a heading's title, or a fence's info string; `content` is the text between a fence's
    marks, in whole lines without the last line end.
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
        """The first line, from 1."""
        return self.first + 1


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and its own text, up to the next heading of any level.

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
        """The path as text: `Data Flow > Direction`; the second section of a path has the suffix `[1]`."""
        return " > ".join(self.path) + (f"[{self.index}]" if self.index else "")


@dataclass(frozen=True, slots=True)
class Outline:
    """All headings in file order, including the title; `preamble` is the text before the first.

    `by_path` and `by_title` have the sections by their normalized titles. The title is the first heading of level 1;
    its path is empty. `title` is "" if there is none.
    """

    title: str
    preamble: LineSpan
    headings: tuple[Section, ...]
    by_path: Mapping[tuple[str, ...], Sequence[Section]] = field(repr=False, compare=False)
    by_title: Mapping[str, Sequence[Section]] = field(repr=False, compare=False)

    def at(self, address: str) -> tuple[Section, ...]:
        """Return the sections at `address`, or else those with its title; sections that are not empty first."""
        path = comparable_path(address)
        found = self.by_path.get(path) or self.by_title.get(path[-1], ())
        return tuple(sorted(found, key=lambda section: section.empty))

    @property
    def sections(self) -> tuple[Section, ...]:
        """The headings without the title."""
        return tuple(section for section in self.headings if section.path)


def read_outline(lines: TextLines, first: int) -> Outline:
    """Read the outline of the lines from index `first`, the one after the front matter, to the end."""
    blocks = tuple(read_blocks(lines, first))
    at = [index for index, block in enumerate(blocks) if block.kind is BlockKind.HEADING]
    start = lines.starts[first] if first < len(lines) else len(lines.text)
    preamble = LineSpan(start, lines.starts[blocks[at[0]].first] if at else len(lines.text))

    title: str | None = None
    path: list[tuple[int, str, str]] = []  # level, title and normalized title of the enclosing sections
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
    """Yield the top-level blocks from line index `first` on."""
    source = _UNREADABLE.sub("\ufffd", "\n".join(lines.contents(first, len(lines))))
    tokens: list[Token] = []
    _MARKDOWN.block.parse(source, _MARKDOWN, {}, tokens)
    for at, token in enumerate(tokens):
        if token.level or token.map is None or token.type not in _KINDS:
            continue
        kind, begin, end = _KINDS[token.type], token.map[0] + first, token.map[1] + first
        while end - 1 > begin and kind is not BlockKind.FENCE and not lines.content(end - 1).strip(" \t"):
            end -= 1  # the range of a list includes the blank lines after it
        if kind is BlockKind.HEADING:
            title = " ".join(tokens[at + 1].content.split())
            yield Block(kind, begin, end, lines.span(begin, end), title, level=int(token.tag[1:]))
        elif kind is BlockKind.FENCE:
            content = _fence_content(lines, begin, end, token.markup)
            yield Block(kind, begin, end, lines.span(begin, end), token.info.strip(), content=content)
        else:
            yield Block(kind, begin, end, lines.span(begin, end))


def comparable(title: str) -> str:
    """Normalize a title: without case, emphasis and code marks, link targets, `{#id}` and repeated spaces."""
    if _MARKS.search(title):
        title = _MARKS.sub("", _LINK.sub(r"\1", _ATTRIBUTES.sub("", title)))
    return " ".join(title.casefold().split())


def comparable_path(address: str) -> tuple[str, ...]:
    """Return the normalized titles in an address such as `Data Flow > Volume`."""
    return tuple(map(comparable, address.split(">")))


def _fence_content(lines: TextLines, begin: int, end: int, marks: str) -> LineSpan:
    closing = _FENCE_END.fullmatch(lines.content(end - 1)) if end - 1 > begin else None
    closed = closing is not None and closing[1].startswith(marks)
    if begin + 1 >= len(lines):
        return LineSpan(len(lines.text), len(lines.text))
    return lines.span(begin + 1, max(end - 1 if closed else end, begin + 1))


def _without_blank_lines(lines: TextLines, own: LineSpan) -> LineSpan:
    """Return `own` without the blank lines around it; an empty span at its start if there is nothing else."""
    text = own.of(lines.text)
    start = own.end - len(_BLANK_LINES.sub("", text))
    end = own.start + len(text.rstrip(" \t\r\n"))
    if start >= end:
        return LineSpan(own.start, own.start)
    return LineSpan(start, lines.ends[lines.index(end - 1)])
