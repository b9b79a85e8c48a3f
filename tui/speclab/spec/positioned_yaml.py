"""YAML with positions: the tree of a settings block, and diagnoses of YAML that does not parse."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from speclab.spec.outline import LineSpan
from speclab.spec.problems import ProblemCollector

if TYPE_CHECKING:
    import yaml
    from yaml import MarkedYAMLError

    from speclab.core.json import Json


_NO_BEGINNING: Final = "@`%*&"
_QUOTED_OR_BRACKET: Final = re.compile(
    r"""(?<![^\s{\[,:])(?:"(?:\\.|[^"\\])*"|'(?:''|[^'])*')|(?<!\S)\#[^\r\n]*|[{}\[\]]""", re.VERBOSE | re.DOTALL
)
_BEFORE_VALUE: Final = re.compile(r"(?:^|:[ \t]|(?<!\S)-[ \t])[ \t]*")
_BEFORE_VALUE_IN_FLOW: Final = re.compile(rf"{_BEFORE_VALUE.pattern}|[,{{\[][ \t]*")
_PAIRS: Final = {"}": "{", "]": "["}
_INSIDE_QUOTES: Final = {"'": "a ' as ''", '"': 'a " as \\"'}
_LINE_END: Final = re.compile(r"[\r\n]")


@dataclass(frozen=True, slots=True)
class Unquoted:
    """A value that YAML takes apart because it has no quotes: where it stands, and what in it did it."""

    start: int
    end: int
    reason: str

    def mask(self, text: str) -> str:
        """`text` with letters in place of the value, so that every offset stays."""
        return text[: self.start] + "x" * (self.end - self.start) + text[self.end :]


def quoted(value: str) -> str:
    """The value in double quotes, as YAML reads it back."""
    return json.dumps(value, ensure_ascii=False)


def value_to_quote(text: str, error: MarkedYAMLError) -> Unquoted | None:
    """The value that would have to be quoted for this error to go away, if that is what is wrong."""
    at = _index(error)
    if not 0 < at < len(text):
        return None
    char, before = text[at], text[at - 1]
    if before in _PAIRS and _begins_value(text, opener := _opener(text, at - 1)):
        odd, start, reason = at - 1, opener, f"unquoted, its `{text[opener]}` begins a {_what(text[opener])}"
    elif char in "{[" and not _begins_value(text, at):
        odd, start, reason = at, _value_start(text, at), f"unquoted, the `{char}` in it begins a {_what(char)}"
    elif char == ":" and text[_line_start(text, at) : _value_start(text, at)].strip():
        odd, start, reason = at, _value_start(text, at), "unquoted, the `: ` in it begins a mapping"
    elif char in _NO_BEGINNING and _begins_value(text, at):
        odd, start, reason = at, at, f"unquoted, no value may begin with {char!r}"
    elif before in _NO_BEGINNING and _begins_value(text, at - 1):
        odd, start, reason = at - 1, at - 1, f"unquoted, `{before}` begins an {'alias' if before == '*' else 'anchor'}"
    else:
        return None
    end = _value_end(text, start, flow=_open_bracket(text[:start]) is not None)
    return Unquoted(start, end, reason) if start <= odd < end and text[start] not in "\"'" else None


def diagnosis(text: str, error: MarkedYAMLError) -> tuple[int, int, str, str | None]:
    """Start, end, message and, where there is one, fix for any other error."""
    at, problem, context = _index(error), error.problem or "", error.context or ""
    opened = error.context_mark.index if error.context_mark else at
    if "quoted scalar" in context:
        return opened, opened + 1, f"the {text[opened]} here is never closed", None
    bracket = _open_bracket(text[:at])
    if "flow" in context and bracket is not None and (at >= len(text) or _LINE_END.search(text, bracket, at)):
        return bracket, bracket + 1, f"the {text[bracket]} here is never closed", None
    if text[at : at + 1] == "\t":
        tabs = len(text[at:]) - len(text[at:].lstrip("\t"))
        return at, at + tabs, "a tab cannot indent; use spaces", "  " * tabs
    if at and text[at - 1] in "\"'":
        return at - 1, at, f"the quoted value ends here; inside it, write {_INSIDE_QUOTES[text[at - 1]]}", None
    if "simple key" in context:
        return opened, _line_end(text, opened), "expected `key: value` on this line", None
    start = _line_start(text, at)
    start += len(text[start:]) - len(text[start:].lstrip(" "))
    if problem.startswith("mapping values"):
        return start, at, "a key cannot stand here: the line above already is a value; check the indent", None
    if "block mapping" in context and start == at:
        return at, _line_end(text, at), "this line fits none above; keys of one mapping are indented alike", None
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


def _begins_value(text: str, at: int) -> bool:
    """Whether a value may begin at `at`."""
    return _value_start(text, at) == at


def _value_start(text: str, at: int) -> int:
    """Where the plain value around `at` begins: after the last `: ` or `- ` of its line; in brackets, a comma too."""
    line = _line_start(text, at)
    before = _BEFORE_VALUE if _open_bracket(text[:at]) is None else _BEFORE_VALUE_IN_FLOW
    return line + max(match.end() for match in before.finditer(text[line:at]))


def _value_end(text: str, start: int, *, flow: bool) -> int:
    """Where the value from `start` would end if it were quoted: brackets in it are its own if they pair up."""
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
    """The bracket that the one at `closer` closes, on the same line; `closer` itself if there is none."""
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
    """The innermost bracket that is still open where `text` ends."""
    opened: list[int] = []
    for match in _QUOTED_OR_BRACKET.finditer(text):
        if match[0] in {"{", "["}:
            opened.append(match.start())
        elif match[0] in _PAIRS and opened:
            opened.pop()
    return opened[-1] if opened else None


_DEEPEST: Final = 20
_MOST_UNQUOTED: Final = 50  # values that only lack quotes; the block is read anew for each
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
_AMBIGUOUS: Final = re.compile(
    r"(?P<true>yes|Yes|YES|on|On|ON)|(?P<false>no|No|NO|off|Off|OFF)"
    r"|(?P<octal>[-+]?0[0-7]+)|(?P<sixties>[-+]?[1-9][0-9]*(?::[0-5]?[0-9])+)"
)
# Line ends to YAML 1.1, but to no editor: private characters stand in for them, one for one, while it reads.
_STAND_INS: Final = {0x85: "\U0010fff0", 0x2028: "\U0010fff1", 0x2029: "\U0010fff2"}
_STOOD_FOR: Final = {ord(stand_in): chr(odd) for odd, stand_in in _STAND_INS.items()}
_UNPRINTABLE: Final = re.compile("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class ScalarNode:
    """One value as written, without its quotes; `plain` if it has none, so that it may be more than text."""

    text: str
    plain: bool
    start: int
    end: int

    @property
    def value(self) -> bool | float | str | None:
        """What the text means by YAML 1.2's core schema, as far as JSON can say it."""
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
        """Where characters `start` to `end` of the text stand; all of it, where escapes or line ends are between."""
        quote = not self.plain
        if self.end - self.start != len(self.text) + 2 * quote:
            return LineSpan(self.start, self.end)
        return LineSpan(self.start + quote + start, self.start + quote + end)


@dataclass(frozen=True, slots=True)
class SequenceNode:
    """A list."""

    nodes: tuple[Node, ...]
    start: int
    end: int

    @property
    def value(self) -> list[Json]:
        """The list's values."""
        return [node.value for node in self.nodes]


@dataclass(frozen=True, slots=True)
class MappingEntry:
    """One key of a mapping with what it holds."""

    key: ScalarNode
    node: Node

    @property
    def start(self) -> int:
        """Where the key begins."""
        return self.key.start

    @property
    def end(self) -> int:
        """Where the value ends."""
        return self.node.end


@dataclass(frozen=True, slots=True)
class MappingNode:
    """A mapping; keys are text, as written. `flow` if it stands in braces."""

    entries: tuple[MappingEntry, ...]
    start: int
    end: int
    flow: bool = False
    _by_key: dict[str, MappingEntry] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        for entry in self.entries:
            self._by_key.setdefault(entry.key.text, entry)

    def get(self, key: str) -> MappingEntry | None:
        """Return the entry with that key; the first one if the key is written twice."""
        return self._by_key.get(key)

    def at(self, path: Sequence[str]) -> MappingEntry | None:
        """The entry at `path`, or the last that is there on the way; None if not even the first is."""
        entry = self.get(path[0]) if path else None
        if entry is None or len(path) == 1 or not isinstance(entry.node, MappingNode):
            return entry
        return entry.node.at(path[1:]) or entry

    @property
    def value(self) -> dict[str, Json]:
        """The mapping's values by their keys; of one that is written twice the first."""
        return {key: entry.node.value for key, entry in self._by_key.items()}


Node: TypeAlias = ScalarNode | SequenceNode | MappingNode


def scalars(node: Node) -> Iterator[ScalarNode]:
    """Every value in `node` that is neither list nor mapping, in the order of the file; keys not among them."""
    if isinstance(node, ScalarNode):
        yield node
    else:
        for child in node.nodes if isinstance(node, SequenceNode) else [entry.node for entry in node.entries]:
            yield from scalars(child)


def parse(text: str, offset: int, findings: ProblemCollector) -> MappingNode | None:
    """The mapping that `text`, which stands at `offset` in its file, writes; an empty text is an empty one.

    Whatever is wrong goes to `findings` (S101 to S106, S108). None if nothing can be made of it; where only quotes
    are missing, the tree is made as if they were there, so that what else is wrong is found in the same go.
    """
    from yaml import MarkedYAMLError

    if odd := _UNPRINTABLE.search(text):
        what = "a byte that is not UTF-8" if "\udc80" <= odd[0] <= "\udcff" else f"the character U+{ord(odd[0]):04X}"
        findings.error(
            "S101", LineSpan(offset + odd.start(), offset + odd.end()), f"broken YAML: {what} cannot stand here"
        )
        return None
    readable = text.translate(_STAND_INS)
    for _ in range(_MOST_UNQUOTED):
        builder = _Builder(text, readable, offset)
        try:
            root = builder.build()
        except MarkedYAMLError as error:
            unquoted = value_to_quote(readable, error)
            if unquoted is None:
                start, end, message, fix = diagnosis(readable, error)
                findings.error("S101", LineSpan(offset + start, offset + end), f"broken YAML: {message}", fix)
                return None
            at = LineSpan(offset + unquoted.start, offset + unquoted.end)
            value = text[unquoted.start : unquoted.end]
            findings.error("S102", at, f"quote this value: {quoted(value)}; {unquoted.reason}", quoted(value))
            readable = unquoted.mask(readable)
        else:
            for code, part, message in builder.told:
                findings.error(code, part, message)
            if isinstance(root, MappingNode):
                _inspect(root, findings)
                return root
            if root is not None:
                findings.error("S104", root, "expected lines of `key: value`")
            return None
    return None


class _TooDeep(Exception):
    """Ends the building; what is wrong is told already."""


class _Builder:
    """Builds a tree from PyYAML's events. `readable` is `text` itself, or `text` with some values masked."""

    def __init__(self, text: str, readable: str, offset: int) -> None:
        import yaml

        self._yaml = yaml
        self._events: Iterator[yaml.Event] = yaml.parse(readable, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        self._masked = readable != text
        self._text = text
        self._offset = offset
        self.told: list[tuple[str, LineSpan, str]] = []

    def build(self) -> Node | None:
        """The tree; None, and something told, if it cannot be made. Raises `MarkedYAMLError` for broken YAML."""
        next(self._events)  # the stream begins
        if isinstance(next(self._events), self._yaml.StreamEndEvent):
            return MappingNode((), self._offset, self._offset)
        try:
            root = self._node(next(self._events), 0)
        except _TooDeep:
            return None
        next(self._events)  # the document ends
        after = next(self._events)
        if isinstance(after, self._yaml.StreamEndEvent):
            return root
        self.told.append(("S104", self._span(after), "a settings block is one YAML document; take out this `---`"))
        return None

    def _node(self, event: yaml.Event, depth: int) -> Node:
        at = self._span(event)
        if depth > _DEEPEST:
            self.told.append(("S108", at, f"nested more than {_DEEPEST} levels deep"))
            raise _TooDeep
        if isinstance(event, self._yaml.AliasEvent):
            self.told.append(("S106", at, f"`*{event.anchor}` is an alias in YAML; write the value out, or quote it"))
            return ScalarNode(f"*{event.anchor}", plain=False, start=at.start, end=at.end)
        if isinstance(event, self._yaml.ScalarEvent):
            self._refuse_extras(event, at)
            if self._masked and not event.style:
                text = self._text[at.start - self._offset : at.end - self._offset]
            else:
                text = event.value.translate(_STOOD_FOR)
            return ScalarNode(text, not event.style, at.start, at.end)
        if isinstance(event, self._yaml.SequenceStartEvent):
            self._refuse_extras(event, at)
            nodes = []
            while not isinstance(inner := next(self._events), self._yaml.SequenceEndEvent):
                nodes.append(self._node(inner, depth + 1))
            return SequenceNode(tuple(nodes), at.start, self._span(inner).end)
        assert isinstance(event, self._yaml.MappingStartEvent)  # noqa: S101 - there is no other event a node begins with
        self._refuse_extras(event, at)
        entries = []
        while not isinstance(inner := next(self._events), self._yaml.MappingEndEvent):
            key = self._node(inner, depth + 1)
            value = self._node(next(self._events), depth + 1)
            if isinstance(key, ScalarNode):
                entries.append(MappingEntry(key, value))
            else:
                self.told.append(("S104", LineSpan(key.start, key.end), "a key must be text"))
        return MappingNode(tuple(entries), at.start, self._span(inner).end, flow=bool(event.flow_style))

    def _refuse_extras(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent, at: LineSpan) -> None:
        if event.anchor is not None:
            self.told.append(("S106", at, f"`&{event.anchor}` is an anchor in YAML; write the value out, or quote it"))
        if event.tag not in {None, "!"}:
            self.told.append(("S106", at, "a YAML tag; take it out, each setting knows its own type"))

    def _span(self, event: yaml.Event) -> LineSpan:
        start = event.start_mark.index if event.start_mark else 0
        end = event.end_mark.index if event.end_mark else start
        return LineSpan(self._offset + start, self._offset + end)


def _inspect(node: Node, findings: ProblemCollector) -> None:
    """Tell of keys written twice, and of plain values that other readers take for something else."""
    if isinstance(node, ScalarNode):
        _inspect_scalar(node, findings)
    elif isinstance(node, SequenceNode):
        for item in node.nodes:
            _inspect(item, findings)
    else:
        seen: set[str] = set()
        for entry in node.entries:
            key = entry.key
            if key.text in seen:
                findings.error("S103", key, f"{key.text!r} is written twice; keep one of the two")
            elif key.text == "<<" and key.plain:
                findings.error("S106", key, "`<<` merges mappings in YAML 1.1 alone; write the settings out")
            seen.add(key.text)
            _inspect(key, findings)
            _inspect(entry.node, findings)


def _inspect_scalar(scalar: ScalarNode, findings: ProblemCollector) -> None:
    if not scalar.plain or not (match := _AMBIGUOUS.fullmatch(scalar.text)):
        return
    text, kind = scalar.text, match.lastgroup
    if kind in {"true", "false"}:
        message = f"{text!r} is text here, but {kind} to older YAML readers; write {kind}, or quote it"
    elif kind == "octal":
        message = f"{text!r} is {int(text)} here, but {int(text, 8)} to older YAML readers; quote it"
    else:
        message = f"{text!r} is text here, but a number to the base of sixty to older YAML readers; quote it"
    findings.warning("S105", scalar, message, quoted(text))
