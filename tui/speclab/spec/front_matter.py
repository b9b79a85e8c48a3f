"""The front matter: its values as python-frontmatter reads them, with the span of each.

Keys are text as written (`on` and `2024` are not a boolean and a number here). Characters that YAML forbids or treats
as line ends are replaced one for one before parsing, so that its marks are offsets in the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import takewhile
from typing import TYPE_CHECKING, Final, TypeAlias

import yaml
from frontmatter.default_handlers import SafeLoader, YAMLHandler
from yaml.composer import ComposerError
from yaml.parser import ParserError
from yaml.scanner import ScannerError

from speclab.core.outcome import Level
from speclab.spec.outline import LineSpan, TextLines
from speclab.spec.positioned_yaml import (
    NOT_YAML,
    MappingNode,
    Node,
    ScalarNode,
    SequenceNode,
    TooDeep,
    diagnose,
    find_value_to_quote,
    quote,
    read_tree,
    restore_characters,
    substitute_characters,
)
from speclab.spec.problems import Problem

if TYPE_CHECKING:
    # at run time, python-frontmatter's loader: libyaml's, or Python's if that is not installed
    from yaml import SafeLoader as Loader
else:
    Loader = SafeLoader

Settable: TypeAlias = str | bool | int | date | None
"""What a front-matter value can be set to."""

_OPEN: Final = re.compile(r"-{3,}[ \t]*")
_CLOSE: Final = re.compile(r"(?:-{3,}|\.\.\.)[ \t]*")
_OF_A_SPEC: Final = re.compile(r"(?:spec_id|type)[ \t]*:")
_MAX_DEPTH: Final = 100  # libyaml's composer overflows the stack at some thousands
# Plain text that YAML 1.1 or YAML 1.2 readers interpret as a boolean, null or number.
_AMBIGUOUS: Final = re.compile(
    r"y|n|yes|no|on|off|true|false|null|~|[-+]?(?:\.\d+|\d[\d_]*(?:\.\d*)?)(?:e[-+]?\d+)?|0o[0-7]+", re.IGNORECASE
)
_MAX_KEYS: Final = 100_000  # keys of one mapping; nested merges can exceed any memory


@dataclass(frozen=True, slots=True)
class FrontMatterEntry:
    """A key and the span of its value, which is empty, after the colon, if there is none.

    `style` is the quote or block mark of a scalar, "" for a plain one. `block` is True for a list or mapping in block
    style.
    """

    key: str
    key_span: LineSpan
    value: LineSpan
    style: str = ""
    block: bool = False


@dataclass(frozen=True, slots=True)
class FrontMatter:
    """The block between the `---` lines at the top of a file.

    `span` is the block with its marks, in whole lines, empty if there is none; `inner` is the part between the marks;
    `end` is the index of the first line after it. `entries` are all keys in file order, including repeated ones;
    `values` has the last value of each. `root` is the YAML tree; None if it is empty or cannot be parsed.
    """

    span: LineSpan
    inner: LineSpan
    end: int
    values: Mapping[str, object] = field(default_factory=dict)
    entries: tuple[FrontMatterEntry, ...] = ()
    problems: tuple[Problem, ...] = ()
    root: yaml.Node | None = None

    @property
    def present(self) -> bool:
        """Whether the file has front matter."""
        return self.end > 0

    def get(self, key: str, default: object = None) -> object:
        """Return the value of `key`."""
        return self.values.get(key, default)

    def get_text(self, key: str, text: str) -> str:
        """Return the value of `key` if it is text; a number, date or boolean as written in `text`; otherwise ""."""
        value, span = self.get(key), self.get_span(key)
        if isinstance(value, str):
            return value
        return span.of(text) if span and isinstance(value, int | float | date) else ""

    def entry(self, key: str) -> FrontMatterEntry | None:
        """Return the effective entry of `key`: the last one."""
        return next((entry for entry in reversed(self.entries) if entry.key == key), None)

    def get_span(self, key: str) -> LineSpan | None:
        """Return the span of the value of `key`."""
        entry = self.entry(key)
        return entry.value if entry else None


def read_front_matter(lines: TextLines, file: str) -> FrontMatter:
    """Read the front matter at the top of `lines`; problems refer to `file`.

    A block of plain text is not front matter but text below a thematic break. A block that is not closed is not front
    matter either, and a problem if it has the keys of a spec.
    """

    def problem(at: int, message: str, code: str = "F101", end: int | None = None) -> Problem:
        line, column = lines.position(at)
        length = 1 if end is None else max(min(end, lines.ends[line - 1]) - at, 1)
        return Problem(file, line, column, code, Level.ERROR, message, length=length)

    top = LineSpan(lines.starts[0], lines.starts[0])
    nothing = FrontMatter(top, top, 0)
    first = next((i for i in range(len(lines)) if lines.content(i).strip(" \t")), None)
    if first is None or not _OPEN.fullmatch(lines.content(first)):
        return nothing
    last = next((i for i in range(first + 1, len(lines)) if _CLOSE.fullmatch(lines.content(i))), None)
    if last is None:
        written = takewhile(str.strip, (lines.content(i) for i in range(first + 1, len(lines))))
        if not any(map(_OF_A_SPEC.match, written)):
            return nothing
        message = "the front matter is not closed; add a line with --- after it"
        return _with_problem(nothing, problem(lines.starts[first], message))
    inner = LineSpan(lines.starts[first + 1], lines.starts[last])
    block = FrontMatter(lines.span(first, last + 1), inner, last + 1)
    source = substitute_characters(inner.of(lines.text))

    try:
        tree = _read_tree(source, inner.start)
        if isinstance(tree, ScalarNode) and not tree.is_alias:
            return nothing
        root = yaml.compose(source, Loader=_Loader)
        if root is None:
            return block
        if not isinstance(root, yaml.MappingNode):
            found = "a list" if isinstance(root, yaml.SequenceNode) else "an alias"
            raise _Unreadable(f"the front matter is {found}, expected lines of `key: value`", root.start_mark.index)
        values = YAMLHandler().load(source, Loader=_Loader)
    except _Unreadable as error:
        return _with_problem(block, problem(inner.start + error.offset, error.message))
    except yaml.MarkedYAMLError as error:
        start, end, why = _diagnosis(source, error)
        message = f"the front matter is invalid YAML: {why}"
        return _with_problem(block, problem(inner.start + start, message, end=inner.start + end))
    entries = tuple(_entries(tree, lines.text))
    firsts = {entry.key: entry for entry in reversed(entries)}
    twice = [entry for entry in entries if firsts[entry.key] is not entry]
    return FrontMatter(
        block.span,
        inner,
        block.end,
        values,
        entries,
        tuple(
            problem(entry.key_span.start, f"`{entry.key}` appears twice; the last one is used", "F105")
            for entry in twice
        ),
        root,
    )


def iterate_spellings(
    text: str, front_matter: FrontMatter, key: str, value: Settable, newline: str
) -> Iterator[Splice]:
    """Yield splices that set `key` to `value`, the simplest and most similar to the existing text first.

    The edit verifies that a splice reads back as `value` and changes nothing else.
    """
    entry = front_matter.entry(key)
    for written in _format_value(value, entry.style if entry else ""):
        if not front_matter.present:
            blank = newline if text[front_matter.span.start :].strip() else ""
            yield Splice(front_matter.span, newline.join(("---", f"{_format_key(key)}: {written}", "---", blank)))
        elif entry is None:
            first = front_matter.entries[0].key_span.start if front_matter.entries else front_matter.inner.start
            indent = re.search(r"[ \t]*\Z", text[:first])
            line = f"{indent[0] if indent else ''}{_format_key(key)}: {written}{newline}"
            yield Splice(LineSpan(front_matter.inner.end, front_matter.inner.end), line)
        else:
            yield _replace_value(text, entry, written)


@dataclass(frozen=True, slots=True)
class Splice:
    """Replacement of the text at `span` by `text`."""

    span: LineSpan
    text: str


def _replace_value(text: str, entry: FrontMatterEntry, written: str) -> Splice:
    """Return the splice that replaces the entry's value and keeps a comment after the colon."""
    if entry.value.start < entry.value.end and not entry.block:
        return Splice(entry.value, written)
    colon = text.index(":", entry.key_span.end) + 1
    if entry.block:
        comment = re.compile(r"[ \t]+#[^\r\n]*").match(text, colon)
        return Splice(LineSpan(colon, entry.value.end), f" {written}{comment[0] if comment else ''}")
    if text[colon : colon + 1] in (" ", "\t"):
        return Splice(LineSpan(colon + 1, colon + 1), written)
    return Splice(LineSpan(colon, colon), f" {written}")


def _format_value(value: Settable, style: str) -> Sequence[str]:
    """Return YAML for `value`, in the order to try: in the existing quotes, otherwise with as few as possible."""
    if not isinstance(value, str):
        return [value.isoformat() if isinstance(value, date) else json.dumps(value)]
    single = "'" + value.replace("'", "''") + "'"
    # JSON's strings are YAML's double-quoted ones, except for characters that YAML escapes.
    double = NOT_YAML.sub(_escape, json.dumps(value, ensure_ascii=False))
    if style == '"' or NOT_YAML.search(value) or "\n" in value or "\r" in value or "\t" in value:
        return [double]
    return [single, double] if style == "'" or _AMBIGUOUS.fullmatch(value) else [value, single, double]


def _escape(match: re.Match[str]) -> str:
    # A byte that is not UTF-8 has no escape and is kept.
    return match[0] if "\udc80" <= match[0] <= "\udcff" else f"\\u{ord(match[0]):04x}"


def _format_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z_][\w-]*", key) and not _AMBIGUOUS.fullmatch(key) else json.dumps(key)


def _diagnosis(source: str, error: yaml.MarkedYAMLError) -> tuple[int, int, str]:
    """Return start and end of the error in `source`, and the message."""
    if not isinstance(error, ScannerError | ParserError | ComposerError):  # valid syntax with an invalid tag
        at = error.problem_mark.index if error.problem_mark else 0
        return at, at + 1, restore_characters(error.problem or "")
    if (unquoted := find_value_to_quote(source, error)) is not None:
        value = quote(restore_characters(source[unquoted.start : unquoted.end]))
        return unquoted.start, unquoted.end, f"quote this value: {value}; {unquoted.reason}"
    start, end, why, _ = diagnose(source, error)
    return start, end, restore_characters(why)


def _with_problem(block: FrontMatter, problem: Problem) -> FrontMatter:
    return FrontMatter(block.span, block.inner, block.end, problems=(problem,))


class _Unreadable(Exception):
    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset


class _Loader(Loader):
    """python-frontmatter's loader, except that keys, and invalid dates and numbers, are text as written."""

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict[object, object]:  # noqa: FBT001, FBT002 - PyYAML's own signature
        if not isinstance(node, yaml.MappingNode):  # any node may have the tag of a mapping
            raise yaml.MarkedYAMLError(problem="expected a mapping", problem_mark=node.start_mark)
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                key.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > _MAX_KEYS:
            raise yaml.MarkedYAMLError(problem=f"more than {_MAX_KEYS} keys in a mapping", problem_mark=node.start_mark)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> str:
        return restore_characters(super().construct_scalar(node))


def _or_text(construct: Callable[[Loader, yaml.ScalarNode], object]) -> Callable[[Loader, yaml.ScalarNode], object]:
    def constructed(loader: Loader, node: yaml.ScalarNode) -> object:
        try:
            return construct(loader, node)
        except (
            ValueError,
            LookupError,
            AttributeError,
        ):  # 2026-13-45 looks like a date, `!!bool x` has the tag of a boolean
            return loader.construct_scalar(node)

    return constructed


for _tag in ("bool", "int", "float", "timestamp"):
    _name = f"tag:yaml.org,2002:{_tag}"
    _Loader.add_constructor(_name, _or_text(_Loader.yaml_constructors[_name]))


def _read_tree(source: str, offset: int) -> Node | None:
    """Return the tree of the front matter, which starts at `offset`. Raise `_Unreadable` if it is nested too deep."""
    try:
        return read_tree(source, offset, _MAX_DEPTH - 1)
    except TooDeep as error:
        message = f"the front matter is nested deeper than {_MAX_DEPTH} levels"
        raise _Unreadable(message, error.span.start - offset) from None


def _entries(tree: Node | None, text: str) -> Iterator[FrontMatterEntry]:
    for entry in tree.entries if isinstance(tree, MappingNode) else ():
        yield FrontMatterEntry(
            entry.key.text,
            _written_span(entry.key, text),
            _written_span(entry.node, text),
            style=entry.node.style if isinstance(entry.node, ScalarNode) else "",
            block=not isinstance(entry.node, ScalarNode) and not entry.node.flow,
        )


def _written_span(node: Node, text: str) -> LineSpan:
    """Return the span of the written text, without line ends after it."""
    written = text[node.start : _find_written_end(node)].rstrip("\r\n")
    return LineSpan(node.start, node.start + len(written))


def _find_written_end(node: Node) -> int:
    """Return where the text of `node` ends; a block itself ends after the comments that follow it."""
    if isinstance(node, ScalarNode) or node.flow:
        return node.end
    children = (
        node.nodes if isinstance(node, SequenceNode) else [part for e in node.entries for part in (e.key, e.node)]
    )
    return max([end for child in children if (end := _find_written_end(child)) > child.start], default=node.start)
