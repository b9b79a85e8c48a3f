"""YAML with positions: the tree of a text, and diagnoses of YAML that does not parse."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from speclab.spec.outline import LineSpan

if TYPE_CHECKING:
    import yaml
    from yaml import MarkedYAMLError

    from speclab.core.json import Json


_NOT_FIRST: Final = "@`%*&"
_QUOTED_OR_BRACKET: Final = re.compile(
    r"""(?<![^\s{\[,:])(?:"(?:\\.|[^"\\])*"|'(?:''|[^'])*')|(?<!\S)\#[^\r\n]*|[{}\[\]]""", re.VERBOSE | re.DOTALL
)
_BEFORE_VALUE: Final = re.compile(r"(?:^|:[ \t]|(?<!\S)-[ \t])[ \t]*")
_BEFORE_VALUE_IN_FLOW: Final = re.compile(rf"{_BEFORE_VALUE.pattern}|[,{{\[][ \t]*")
_PAIRS: Final = {"}": "{", "]": "["}
_INSIDE_QUOTES: Final = {"'": "a ' as ''", '"': 'a " as \\"'}
_LINE_END: Final = re.compile(r"[\r\n]")


# Forbidden in YAML, or a line end in YAML but not in Markdown (YAML 1.1, sections 5.1 and 5.4).
NOT_YAML: Final = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
_FIRST_SUBSTITUTE: Final = 0x100000  # the first character of the last private plane
_SUBSTITUTE: Final = re.compile("[\U00100000-\U0010ffff]")


def substitute_characters(text: str) -> str:
    """Replace each character that is `NOT_YAML` by a private one, so that YAML marks are offsets in `text`."""
    return NOT_YAML.sub(lambda match: chr(_FIRST_SUBSTITUTE + ord(match[0])), text)


def restore_characters(text: str) -> str:
    """Return `text` with its original characters instead of the substitutes."""

    def original(match: re.Match[str]) -> str:
        original_char = chr(ord(match[0]) - _FIRST_SUBSTITUTE)
        return original_char if NOT_YAML.fullmatch(original_char) else match[0]

    return _SUBSTITUTE.sub(original, text)


@dataclass(frozen=True, slots=True)
class Unquoted:
    """A value that needs quotes: its span, and the reason."""

    start: int
    end: int
    reason: str

    def mask(self, text: str) -> str:
        """Return `text` with the value replaced by as many letters, so that offsets do not change."""
        return text[: self.start] + "x" * (self.end - self.start) + text[self.end :]


def quote(value: str) -> str:
    """Return the value in double quotes, as YAML reads it."""
    return json.dumps(value, ensure_ascii=False)


def find_value_to_quote(text: str, error: MarkedYAMLError) -> Unquoted | None:
    """Return the value to quote to resolve this error, if a missing quote is its cause."""
    at = _index(error)
    if not 0 < at < len(text):
        return None
    char, before = text[at], text[at - 1]
    if before in _PAIRS and _starts_value(text, opener := _opener(text, at - 1)):
        odd, start, reason = at - 1, opener, f"without quotes, its `{text[opener]}` starts a {_what(text[opener])}"
    elif char in "{[" and not _starts_value(text, at):
        odd, start, reason = at, _value_start(text, at), f"without quotes, the `{char}` in it starts a {_what(char)}"
    elif char == ":" and text[_line_start(text, at) : _value_start(text, at)].strip():
        odd, start, reason = at, _value_start(text, at), "without quotes, the `: ` in it starts a mapping"
    elif char in _NOT_FIRST and _starts_value(text, at):
        odd, start, reason = at, at, f"without quotes, a value cannot start with {char!r}"
    elif before in _NOT_FIRST and _starts_value(text, at - 1):
        odd, start, reason = (
            at - 1,
            at - 1,
            f"without quotes, `{before}` is an {'alias' if before == '*' else 'anchor'}",
        )
    else:
        return None
    end = _value_end(text, start, flow=_open_bracket(text[:start]) is not None)
    return Unquoted(start, end, reason) if start <= odd < end and text[start] not in "\"'" else None


def diagnose(text: str, error: MarkedYAMLError) -> tuple[int, int, str, str | None]:
    """Return start, end, message and optional fix for an error that quotes would not resolve."""
    at, problem, context = _index(error), error.problem or "", error.context or ""
    opened = error.context_mark.index if error.context_mark else at
    if "quoted scalar" in context:
        return opened, opened + 1, f"the {text[opened]} here is not closed", None
    bracket = _open_bracket(text[:at])
    if "flow" in context and bracket is not None and (at >= len(text) or _LINE_END.search(text, bracket, at)):
        return bracket, bracket + 1, f"the {text[bracket]} here is not closed", None
    if text[at : at + 1] == "\t":
        tabs = len(text[at:]) - len(text[at:].lstrip("\t"))
        return at, at + tabs, "tabs cannot be used for indentation; use spaces", "  " * tabs
    if at and text[at - 1] in "\"'":
        return at - 1, at, f"the quoted value ends here; inside it, write {_INSIDE_QUOTES[text[at - 1]]}", None
    if "simple key" in context:
        return opened, _line_end(text, opened), "expected `key: value` on this line", None
    start = _line_start(text, at)
    start += len(text[start:]) - len(text[start:].lstrip(" "))
    if problem.startswith("mapping values"):
        return start, at, "unexpected key: the line above is already a value; check the indentation", None
    if "block mapping" in context and start == at:
        return (
            at,
            _line_end(text, at),
            "indentation does not match any line above; indent all keys of a mapping equally",
            None,
        )
    return at, at + 1, problem, None


def _index(error: MarkedYAMLError) -> int:
    return int(error.problem_mark.index) if error.problem_mark else 0


def _what(char: str) -> str:
    return "mapping" if char == "{" else "list"


def _line_start(text: str, at: int) -> int:
    return max(text.rfind("\n", 0, at), text.rfind("\r", 0, at)) + 1


def _line_end(text: str, at: int) -> int:
    match = _LINE_END.search(text, at)
    return match.start() if match else len(text)


def _starts_value(text: str, at: int) -> bool:
    """Whether a value may start at `at`."""
    return _value_start(text, at) == at


def _value_start(text: str, at: int) -> int:
    """Return the start of the plain value around `at`: after the last `: `, `- ` or comma of its line."""
    line = _line_start(text, at)
    before = _BEFORE_VALUE if _open_bracket(text[:at]) is None else _BEFORE_VALUE_IN_FLOW
    return line + max(match.end() for match in before.finditer(text[line:at]))


def _value_end(text: str, start: int, *, flow: bool) -> int:
    """Return where the value from `start` would end if it were quoted; balanced brackets are part of it."""
    end, depth = _line_end(text, start), 0
    for index in range(start, end):
        char = text[index]
        if char == "#" and text[index - 1] in " \t":
            end = index
        elif char in "{[":
            depth += 1
        elif char in _PAIRS:
            depth -= 1
        if flow and (depth < 0 or (char == "," and not depth)):
            end = index
        if end == index:
            break
    return start + len(text[start:end].rstrip())


def _opener(text: str, closer: int) -> int:
    """Return the bracket on the same line that the one at `closer` closes; `closer` if there is none."""
    depth = 0
    for index in range(closer, _line_start(text, closer) - 1, -1):
        if text[index] in _PAIRS:
            depth += 1
        elif text[index] in "{[":
            depth -= 1
            if not depth:
                return index
    return closer


def _open_bracket(text: str) -> int | None:
    """Return the innermost bracket that is open at the end of `text`."""
    opened: list[int] = []
    for match in _QUOTED_OR_BRACKET.finditer(text):
        if match[0] in {"{", "["}:
            opened.append(match.start())
        elif match[0] in _PAIRS and opened:
            opened.pop()
    return opened[-1] if opened else None


_MAX_DEPTH: Final = 20
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,300}")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,3})?")
_BASED: Final = re.compile(r"0o[0-7]{1,100}|0x[0-9a-fA-F]{1,100}")
_CONSTANTS: Final = {
    "": None,
    "~": None,
    **dict.fromkeys(("null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


@dataclass(frozen=True, slots=True)
class ScalarNode:
    """A value as written, without quotes; `plain` if it has none and may be a number, a boolean or null.

    `style` is its quote or block mark, empty for a plain one.
    """

    text: str
    plain: bool
    start: int
    end: int
    style: str = ""

    @property
    def is_alias(self) -> bool:
        """Whether it is an alias of another value, such as `*name`."""
        return not self.plain and not self.style

    @property
    def value(self) -> bool | float | str | None:
        """The value by YAML 1.2's core schema, limited to what JSON can represent."""
        text = self.text
        if not self.plain:
            return text
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if _INTEGER.fullmatch(text):
            return int(text)
        if _BASED.fullmatch(text):
            return int(text[2:], 8 if text[1] == "o" else 16)
        if _FLOAT.fullmatch(text) and abs(number := float(text)) != float("inf"):
            return number
        return text

    def part(self, start: int, end: int) -> LineSpan:
        """Return the span of `text[start:end]`; of the whole value if it has escapes or line ends."""
        quote = not self.plain
        if self.end - self.start != len(self.text) + 2 * quote:
            return LineSpan(self.start, self.end)
        return LineSpan(self.start + quote + start, self.start + quote + end)


@dataclass(frozen=True, slots=True)
class SequenceNode:
    """A list. `flow` if it is written in brackets."""

    nodes: tuple[Node, ...]
    start: int
    end: int
    flow: bool = False

    @property
    def value(self) -> list[Json]:
        """The list's values."""
        return [node.value for node in self.nodes]


@dataclass(frozen=True, slots=True)
class MappingEntry:
    """A key of a mapping, and its value."""

    key: ScalarNode
    node: Node

    @property
    def start(self) -> int:
        """Offset where the key starts."""
        return self.key.start

    @property
    def end(self) -> int:
        """Offset where the value ends."""
        return self.node.end


@dataclass(frozen=True, slots=True)
class MappingNode:
    """A mapping; keys are text, as written. `flow` if it is written in braces."""

    entries: tuple[MappingEntry, ...]
    start: int
    end: int
    flow: bool = False
    _by_key: dict[str, MappingEntry] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        for entry in self.entries:
            self._by_key.setdefault(entry.key.text, entry)

    def get(self, key: str) -> MappingEntry | None:
        """Return the entry with that key; the first one of a repeated key."""
        return self._by_key.get(key)

    def at(self, path: Sequence[str]) -> MappingEntry | None:
        """Return the entry at `path`, or the deepest one on the path that exists; None if there is none."""
        entry = self.get(path[0]) if path else None
        if entry is None or len(path) == 1 or not isinstance(entry.node, MappingNode):
            return entry
        return entry.node.at(path[1:]) or entry

    @property
    def value(self) -> dict[str, Json]:
        """The values by key; the first one of a repeated key."""
        return {key: entry.node.value for key, entry in self._by_key.items()}


Node: TypeAlias = ScalarNode | SequenceNode | MappingNode


def iterate_scalars(node: Node) -> Iterator[ScalarNode]:
    """Yield every scalar in `node`, without keys, in the order of the file."""
    if isinstance(node, ScalarNode):
        yield node
    else:
        for child in node.nodes if isinstance(node, SequenceNode) else [entry.node for entry in node.entries]:
            yield from iterate_scalars(child)


def read_tree(text: str, offset: int, max_depth: int) -> Node | None:
    """Return the tree of `text`, YAML of any kind that starts at `offset` in its file.

    Aliases are not resolved; a key that is not a scalar is left out. Raises `MarkedYAMLError`, and `TooDeep` for a
    value nested deeper than `max_depth`.
    """
    builder = TreeBuilder(text, text, offset, max_depth)
    root = builder.build()
    if builder.too_deep is not None:
        raise builder.too_deep
    return root


class TooDeep(Exception):
    """A value, at `span`, is nested too deep: the tree is not built."""

    def __init__(self, span: LineSpan) -> None:
        super().__init__()
        self.span = span


class TreeBuilder:
    """Builds a tree from PyYAML's events. `readable` is `text`, with odd characters replaced and some values masked."""

    def __init__(self, text: str, readable: str, offset: int, max_depth: int = _MAX_DEPTH) -> None:
        import yaml

        self._yaml = yaml
        self._events: Iterator[yaml.Event] = yaml.parse(readable, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        self._masked = readable != text
        self._text = text
        self._offset = offset
        self._max_depth = max_depth
        self.too_deep: TooDeep | None = None
        self.problems: list[tuple[str, LineSpan, str]] = []

    def build(self) -> Node | None:
        """Return the tree; None, with a problem reported, if it is not supported. Raises `MarkedYAMLError`."""
        next(self._events)  # stream start
        if isinstance(next(self._events), self._yaml.StreamEndEvent):
            return MappingNode((), self._offset, self._offset)
        try:
            root = self._node(next(self._events), 0)
        except TooDeep as error:
            self.too_deep = error
            self.problems.append(("S108", error.span, f"nested deeper than {self._max_depth} levels"))
            return None
        next(self._events)  # document end
        after = next(self._events)
        if isinstance(after, self._yaml.StreamEndEvent):
            return root
        self.problems.append(("S104", self._span(after), "a settings block is one YAML document; remove this `---`"))
        return None

    def _node(self, event: yaml.Event, depth: int) -> Node:
        at = self._span(event)
        if depth > self._max_depth:
            raise TooDeep(at)
        if isinstance(event, self._yaml.AliasEvent):
            self.problems.append(("S106", at, f"`*{event.anchor}` is a YAML alias; write the value out, or quote it"))
            return ScalarNode(f"*{event.anchor}", plain=False, start=at.start, end=at.end)
        if isinstance(event, self._yaml.ScalarEvent):
            self._reject_extras(event, at)
            if self._masked and not event.style:
                text = self._text[at.start - self._offset : at.end - self._offset]
            else:
                text = restore_characters(event.value)
            return ScalarNode(text, not event.style, at.start, at.end, event.style or "")
        if isinstance(event, self._yaml.SequenceStartEvent):
            self._reject_extras(event, at)
            nodes = []
            while not isinstance(inner := next(self._events), self._yaml.SequenceEndEvent):
                nodes.append(self._node(inner, depth + 1))
            return SequenceNode(tuple(nodes), at.start, self._span(inner).end, flow=bool(event.flow_style))
        assert isinstance(event, self._yaml.MappingStartEvent)  # noqa: S101 - the only other event that starts a node
        self._reject_extras(event, at)
        entries = []
        while not isinstance(inner := next(self._events), self._yaml.MappingEndEvent):
            key = self._node(inner, depth + 1)
            value = self._node(next(self._events), depth + 1)
            if isinstance(key, ScalarNode):
                entries.append(MappingEntry(key, value))
            else:
                self.problems.append(("S104", LineSpan(key.start, key.end), "a key must be text"))
        return MappingNode(tuple(entries), at.start, self._span(inner).end, flow=bool(event.flow_style))

    def _reject_extras(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent, at: LineSpan) -> None:
        if event.anchor is not None:
            self.problems.append(("S106", at, f"`&{event.anchor}` is a YAML anchor; write the value out, or quote it"))
        if event.tag not in {None, "!"}:
            self.problems.append(("S106", at, "remove this YAML tag; every setting has a fixed type"))

    def _span(self, event: yaml.Event) -> LineSpan:
        start = event.start_mark.index if event.start_mark else 0
        end = event.end_mark.index if event.end_mark else start
        return LineSpan(self._offset + start, self._offset + end)
