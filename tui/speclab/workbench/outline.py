"""The outline of a spec: which section a line belongs to, the problems of each section, and fixing one."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from speclab.core.errors import EditRejected
from speclab.core.outcome import Level
from speclab.spec.document import Document, Section
from speclab.spec.problems import Problem
from speclab.spec.template import is_template_text

FRONT_MATTER: Final = ""
"""The address of the front matter, the first row of the outline."""


def count_problems(document: Document, problems: Iterable[Problem]) -> dict[str, Counter[Level]]:
    """Count the problems of each level in every section and in the front matter."""
    found: dict[str, Counter[Level]] = {section.address: Counter() for section in document.sections}
    found[FRONT_MATTER] = Counter()
    for problem in problems:
        found[find_section_address(document, problem.line)][problem.level] += 1
    return found


def find_section_address(document: Document, line: int) -> str:
    """Return the address of the section that contains `line`; `FRONT_MATTER` before the first."""
    at = bisect_right([section.line for section in document.sections], line)
    return document.sections[at - 1].address if at else FRONT_MATTER


def find_section_title(document: Document, line: int) -> str:
    """Return the title of the section that contains `line`."""
    at = bisect_right([section.line for section in document.sections], line)
    return document.sections[at - 1].title if at else "Front matter"


def get_subsections(sections: Sequence[Section], at: int) -> list[Section]:
    """Return the sections below the one at index `at`."""
    inner = []
    for section in sections[at + 1 :]:
        if section.level <= sections[at].level:
            break
        inner.append(section)
    return inner


def is_filled(document: Document, section: Section, inner: Sequence[Section]) -> bool:
    """Return whether the section has text of its own, or all of its subsections have."""
    if section.empty or is_template_text(document, section):
        return bool(inner) and all(is_filled(document, other, ()) for other in inner)
    return True


def apply_fix(document: Document, problem: Problem) -> Document:
    """Return `document` with the fix of `problem`. Raises `EditRejected` if that is not safe."""
    start = document.lines.starts[problem.line - 1] + problem.column - 1
    end, fix = start + problem.length, problem.fix or ""
    for section in document.sections:
        if section.body.start <= start and end <= section.body.end:
            body, at = document.body(section), section.body.start
            return document.with_body(section, body[: start - at] + fix + body[end - at :])
    for entry in document.front_matter.entries:
        if entry.value.start <= start and end <= max(entry.value.end, start + 1):
            return document.with_front_matter(entry.key, fix)
    raise EditRejected("this must be fixed by hand", hint=problem.message)
