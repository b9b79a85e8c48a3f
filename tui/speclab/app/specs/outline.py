"""The outline of a spec as rows: every section with what is filled, empty or wrong in it."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import ClassVar, Final

from textual.binding import BindingType

from speclab.app.actions import Action, bindings
from speclab.app.glyphs import ATTENTION, FAILED, IDLE, WELL, Mark
from speclab.app.widgets.grid import MOVES, Cell, Column, Grid, Row, Span
from speclab.outcome import Level
from speclab.spec.document import Document, Section
from speclab.spec.problem import Problem
from speclab.spec.template import is_template_text

FRONT_MATTER: Final = ""
"""The address of the outline's first row."""

OUTLINE: Final = (
    *(action for action in MOVES if action.id != "choose"),
    Action("choose", "edit", "Edit the section under the cursor.", ("enter",)),
)


class Outline(Grid):
    """The sections; a row's key is the section's address, or `FRONT_MATTER`."""

    ACTIONS = OUTLINE
    BINDINGS: ClassVar[list[BindingType]] = bindings(OUTLINE)

    def __init__(self) -> None:
        super().__init__(
            (Column("", 16, flex=1, gap=1), Column("", 2, align="right")),
            heading=False,
            empty=("No spec is open.",),
        )


def outline_rows(document: Document, problems: Iterable[Problem]) -> list[Row]:
    """A row for the front matter and each section."""
    wrong = by_address(document, problems)
    sections = document.sections
    front_mark = WELL if document.front_matter.present else IDLE
    rows = [_row(FRONT_MATTER, "Front matter", 0, front_mark, wrong[FRONT_MATTER])]
    for at, section in enumerate(sections):
        inner = _inside(sections, at)
        counts = wrong[section.address].copy()
        for other in inner:
            counts.update(wrong[other.address])
        mark = WELL if _filled(document, section, inner) else IDLE
        rows.append(_row(section.address, section.title, section.level - 2, mark, counts))
    return rows


def by_address(document: Document, problems: Iterable[Problem]) -> dict[str, Counter[Level]]:
    """How many problems of each level every section has, and the front matter."""
    found: dict[str, Counter[Level]] = {section.address: Counter() for section in document.sections}
    found[FRONT_MATTER] = Counter()
    for problem in problems:
        found[address_at(document, problem.line)][problem.level] += 1
    return found


def address_at(document: Document, line: int) -> str:
    """The address of the section that `line` stands in; `FRONT_MATTER` before the first."""
    at = bisect_right([section.line for section in document.sections], line)
    return document.sections[at - 1].address if at else FRONT_MATTER


def section_title(document: Document, line: int) -> str:
    """The title of the section that `line` stands in, for a person."""
    at = bisect_right([section.line for section in document.sections], line)
    return document.sections[at - 1].title if at else "Front matter"


def _inside(sections: Sequence[Section], at: int) -> list[Section]:
    inner = []
    for section in sections[at + 1 :]:
        if section.level <= sections[at].level:
            break
        inner.append(section)
    return inner


def _filled(document: Document, section: Section, inner: Sequence[Section]) -> bool:
    if section.empty or is_template_text(document, section):
        return bool(inner) and all(_filled(document, other, ()) for other in inner)
    return True


def _row(address: str, title: str, depth: int, mark: Mark, counts: Counter[Level]) -> Row:
    number = counts[Level.ERROR] + counts[Level.WARNING]
    if number:
        mark = FAILED if counts[Level.ERROR] else ATTENTION
    text = f"{'  ' * max(0, depth)}{mark.glyph} {title}"
    at = text.index(mark.glyph)
    style = "muted" if mark is IDLE else ""
    return Row(address, (Cell(text, style, (Span(at, at + 1, mark.style),)), Cell(str(number or ""), mark.style)))
