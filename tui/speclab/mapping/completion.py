"""Completion in the cells of the Field Mapping."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from speclab.core.paths import FieldPath
from speclab.mapping import steps
from speclab.mapping.cel.functions import BUILT_IN, FUNCTIONS, TokenKind, find_expression_end, is_value_end, tokenize
from speclab.mapping.language import quote
from speclab.mapping.types import Parameter, ParameterType, Step

_WORD: Final = re.compile(r"\w*$")
_FIELD: Final = re.compile(r"""\bs(?:o|ou|our|ourc|ource)?$|\bsource(?:\.\w*|\[\d+\]|\["[^"]*"\])*\.?$""")
_COMMA: Final = re.compile(r"""\["(?:[^"\\]|\\.)*(?:"|$)|(?P<comma>,)""")
_CALL: Final = re.compile(r"(\w+)\s*\($")
_PLAIN: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_WORDS: Final = ("true", "false", "null")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A replacement `text` for characters `start` to `end` of the cell; `about` describes it in one line."""

    text: str
    start: int
    end: int
    about: str


def complete_step(
    cell: str, cursor: int, *, fields: Sequence[FieldPath] = (), lookups: Iterable[str] = ()
) -> tuple[Candidate, ...]:
    """Return candidates at `cursor` in a Transformation cell, best first: steps, arguments, fields of expressions."""
    before = cell[:cursor]
    opening = len(cell) - len(cell.lstrip())
    if cell[opening : opening + 1] == "=" and opening < cursor <= find_expression_end(cell, opening + 1):
        return _in_expression(before, opening + 1, fields)
    inside = _open_call(before)
    if inside is not None:
        name, index, start = inside
        step = steps.find_step(name)
        if step is None or index >= len(step.parameters):
            return ()
        return _arguments(step, step.parameters[index], before[start:], start, cursor, lookups)
    start = _start(before, _WORD)
    typed = before[start:].lower()
    earlier = before[:start].rstrip()
    if earlier and not earlier.endswith(","):
        return ()
    first = not earlier
    offered = [step for step in steps.STEPS.values() if first or not step.starts]
    named = [step for step in offered if step.name.lower().startswith(typed)]
    called = [step for step in offered if typed and step not in named and _has_similar_name(step, typed)]
    return tuple(
        Candidate(step.name + "(" * (step.required > 0), start, cursor, f"{step.signature}: {step.summary}")
        for step in named + called
    )


def complete_source(cell: str, cursor: int, fields: Sequence[FieldPath]) -> tuple[Candidate, ...]:
    """Return candidates at `cursor` in a Source Field cell."""
    start = max((found.end() for found in _COMMA.finditer(cell, 0, cursor) if found["comma"]), default=0)
    start += len(cell[start:cursor]) - len(cell[start:cursor].lstrip())
    return _fields(cell[start:cursor], "source", map(str, fields), start, cursor)


def complete_target(cell: str, cursor: int, targets: Sequence[str]) -> tuple[Candidate, ...]:
    """Return candidates at `cursor` in a Target Field cell."""
    return _fields(cell[:cursor], "target", targets, 0, cursor)


def qualify_path(system: str, path: str) -> str:
    """Return `path` with its system, as in the table: `source.name`."""
    return f"{system}{path}" if path.startswith("[") else f"{system}.{path}"


def _fields(typed: str, system: str, paths: Iterable[str], start: int, cursor: int) -> tuple[Candidate, ...]:
    """Return the fields that match `typed`; an exact match comes first."""
    offered = [qualify_path(system, path) for path in paths]
    whole = {typed, qualify_path(system, typed)}
    if not whole.isdisjoint(offered):
        offered = [typed, *(text for text in offered if text not in whole)]
    return _matching(typed, offered, start, cursor)


def _in_expression(before: str, begin: int, fields: Sequence[FieldPath]) -> tuple[Candidate, ...]:
    found = _FIELD.search(before)
    start = found.start() if found else _start(before, _WORD)
    earlier = list(tokenize(before[:start], begin))
    if any(token.kind is TokenKind.BROKEN for token in earlier) or (earlier and is_value_end(earlier[-1])):
        return ()
    typed = before[start:]
    names = [_in_cel(path) for path in fields] if before[start - 1 : start] != "." else []
    candidates = _matching(typed, names, start, len(before)) if found or not typed else ()
    if typed and "." not in typed:
        calls = sorted({*BUILT_IN, *FUNCTIONS})
        candidates += tuple(
            Candidate(f"{name}(", start, len(before), "a function") for name in calls if name.startswith(typed)
        )
    return candidates


def _in_cel(path: FieldPath) -> str:
    return "source" + "".join(
        f"[{part}]"
        if isinstance(part, int)
        else f".{part}"
        if _PLAIN.fullmatch(part)
        else f"[{json.dumps(part, ensure_ascii=False)}]"
        for part in path.parts
    )


def _open_call(before: str) -> tuple[str, int, int] | None:
    """Return the call that is open at the end of `before`: its name, the argument's index, and its start."""
    opened, index, start, quote, at = -1, 0, 0, "", 0
    while at < len(before):
        character = before[at]
        if quote:
            at += character == "\\"
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character == "(":
            opened, index, start = at, 0, at + 1
        elif character == ")":
            opened = -1
        elif character == "," and opened >= 0:
            index, start = index + 1, at + 1
        at += 1
    call = _CALL.search(before[: opened + 1]) if opened >= 0 else None
    return (call[1], index, start + len(before[start:]) - len(before[start:].lstrip())) if call else None


def _arguments(
    step: Step, parameter: Parameter, typed: str, start: int, cursor: int, lookups: Iterable[str]
) -> tuple[Candidate, ...]:
    if parameter.type is ParameterType.LOOKUP:
        return _matching(typed, list(lookups), start, cursor, lambda _: "a lookup of this section")
    offered = [quote(choice) for choice in parameter.choices]
    if parameter.type is ParameterType.LITERAL:
        offered = list(_WORDS[:2])
    return _matching(typed, offered, start, cursor, lambda _: f"{parameter.name} of {step.signature}")


def _matching(
    typed: str, offered: Sequence[str], start: int, cursor: int, about: Callable[[str], str] | None = None
) -> tuple[Candidate, ...]:
    """Return the `offered` texts that start with `typed`, then those that contain it."""
    wanted = typed.lower()
    begin = [text for text in offered if text.lower().startswith(wanted)]
    hold = [text for text in offered if text not in begin and wanted.rpartition(".")[2] in text.lower()]
    return tuple(Candidate(text, start, cursor, about(text) if about else "") for text in begin + hold)


def _start(before: str, pattern: re.Pattern[str]) -> int:
    found = pattern.search(before)
    return found.start() if found else len(before)


def _has_similar_name(step: Step, typed: str) -> bool:
    return typed in step.name.lower() or any(name.startswith(typed) for name in step.other_names)
