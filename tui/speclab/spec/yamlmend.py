"""What to say of broken YAML: the parser's complaint, turned into the place and the words of what to do.

Most of it in specs is a value that wants quotes, such as `{upsert: PUT /a/{id}}`; such a value is found whole, and
masked, so that reading can go on behind it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from yaml import MarkedYAMLError

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
