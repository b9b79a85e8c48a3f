"""What the characters of a section are, for colouring: comments, fences, settings, references, code, tables.

Line by line with a state carried from above, so that a key costs the lines on screen and not a parse of the section.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Final, NamedTuple


class Kind(StrEnum):
    """What a run of characters is."""

    COMMENT = "comment"
    FENCE = "fence"
    KEY = "key"
    REFERENCE = "reference"  # ${env:NAME}
    CODE = "code"
    MARK = "mark"  # list bullets, check boxes, the pipes of a table


class Token(NamedTuple):
    """`kind` from `start` to before `end`, in characters of the line."""

    start: int
    end: int
    kind: Kind


class State(NamedTuple):
    """What a line begins in: an open fence (as written, with its language), or an open HTML comment."""

    fence: str = ""
    language: str = ""
    comment: bool = False


_FENCE: Final = re.compile(r" {0,3}(?P<fence>`{3,}|~{3,})\s*(?P<language>[\w-]*)")
_SETTING: Final = re.compile(r"\s*(?:- +)?(?P<key>[\w.\"'-]+)\s*:(?=\s|$)")
_FLOW_KEY: Final = re.compile(r"[{,]\s*(?P<key>[\w.\"'-]+)\s*:(?=\s)")
_REFERENCE: Final = re.compile(r"\$\{[^}\s]*\}")
_YAML_COMMENT: Final = re.compile(r"(?:^|\s)(?P<comment>#.*)")
_CODE: Final = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)")
_MARK: Final = re.compile(r"\s*(?P<mark>(?:[-*+]|\d+[.)])(?: \[[ xX]\])?)(?= )")
_PIPE: Final = re.compile(r"(?<!\\)\|")


def states(lines: Iterable[str]) -> list[State]:
    """The state each line begins in."""
    result, state = [], State()
    for line in lines:
        result.append(state)
        state = _after(line, state)
    return result


def tokens(line: str, state: State) -> list[Token]:
    """What stands in `line`, which begins in `state`; what is prose has no token."""
    if state.fence:
        if not _after(line, state).fence:
            return [Token(0, len(line), Kind.FENCE)]
        return list(_yaml(line)) if state.language in ("yaml", "yml") else [Token(0, len(line), Kind.CODE)]
    if not state.comment and _FENCE.match(line):
        return [Token(0, len(line), Kind.FENCE)]
    return list(_markdown(line, state))


def _after(line: str, state: State) -> State:
    match = _FENCE.match(line)
    if state.fence:
        closes = match and match["fence"].startswith(state.fence) and not line[match.end("fence") :].strip()
        return State() if closes else state
    if match and not state.comment:
        return State(fence=match["fence"], language=match["language"].lower())
    opened = line.rfind("<!--")
    closed = line.rfind("-->")
    return State(comment=opened > closed or (state.comment and closed < 0))


def _yaml(line: str) -> Iterator[Token]:
    for pattern, kind, group in (
        (_SETTING, Kind.KEY, "key"),
        (_FLOW_KEY, Kind.KEY, "key"),
        (_REFERENCE, Kind.REFERENCE, 0),
        (_YAML_COMMENT, Kind.COMMENT, "comment"),
    ):
        found = [pattern.match(line)] if pattern is _SETTING else pattern.finditer(line)
        yield from (Token(match.start(group), match.end(group), kind) for match in found if match)


def _markdown(line: str, state: State) -> Iterator[Token]:
    if mark := _MARK.match(line):
        yield Token(mark.start("mark"), mark.end("mark"), Kind.MARK)
    if "|" in line:
        yield from (Token(pipe.start(), pipe.end(), Kind.MARK) for pipe in _PIPE.finditer(line))
    yield from (Token(code.start(), code.end(), Kind.CODE) for code in _CODE.finditer(line))
    at = 0
    inside = state.comment
    while at < len(line):
        start = at if inside else line.find("<!--", at)
        if start < 0:
            return
        close = line.find("-->", start)
        end = len(line) if close < 0 else close + 3
        yield Token(start, end, Kind.COMMENT)
        at, inside = end, False
