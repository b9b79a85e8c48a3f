"""Everything there is to say about a document: what the spec part finds, the mapping, and every expression in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from speclab.mapping.assembly import assemble
from speclab.mapping.cel import verify
from speclab.mapping.cel_check import ExpressionSyntaxError
from speclab.mapping.place import Findings, Heading, Place, Places
from speclab.spec import findings as spec_findings
from speclab.spec.block import read_block
from speclab.spec.document import Document
from speclab.spec.integration import MappingRow
from speclab.spec.lines import Span
from speclab.spec.lint import examine
from speclab.spec.problem import Problem
from speclab.spec.rules import Expression
from speclab.spec.sections import FIELD_MAPPING, Sections
from speclab.spec.yamltree import Fields, Scalar

if TYPE_CHECKING:
    from speclab.spec.settings import MappingSettings

_OF_LOOKUPS: Final = frozenset({"M105", "M106"})


def lint(document: Document) -> list[Problem]:
    """All problems of `document`, sorted by place."""
    reading = examine(document)
    file = str(document.path or "<spec>")
    findings = Findings(file)
    for expression in reading.expressions:
        _check_expression(document, expression, findings)
    problems = [*reading.problems, *findings.problems]
    if reading.mapping is not None:
        problems += check_mapping(reading.rows, reading.mapping, file, settings_places(document))
    elif reading.rows:  # the block is told to be broken already; what it may hold is not missing
        found = check_mapping(reading.rows, _no_settings(), file)
        problems += [problem for problem in found if problem.code not in _OF_LOOKUPS]
    return sorted(dict.fromkeys(problems), key=lambda problem: (problem.line, problem.column, problem.code))


def check_mapping(
    rows: Sequence[MappingRow], settings: MappingSettings, file: str, places: Places | None = None
) -> list[Problem]:
    """All problems of a table and its settings, sorted by place; `places` are those of the settings."""
    return list(assemble(rows, settings, file, places or Heading(1)).problems)


def settings_places(document: Document) -> Places:
    """Where the settings of the document's Field Mapping stand."""
    silent = spec_findings.Findings("", document.text, document.position)
    section = Sections(document, silent).find(FIELD_MAPPING)
    tree = read_block(section, silent) if section else None
    line = section.line if section else 1
    return Heading(line) if tree is None else _Block(document, tree)


@dataclass(frozen=True, slots=True)
class _Block:
    """The places in a settings block."""

    document: Document
    tree: Fields

    def key(self, path: Sequence[str]) -> Place:
        """Where the key at `path` stands, or the last key on the way there."""
        entry = self.tree.at(path)
        return self._place(entry.key.start, entry.key.end) if entry else self._place(self.tree.start, self.tree.start)

    def value(self, path: Sequence[str], start: int, end: int) -> Place:
        """Where characters `start` to `end` of the text at `path` stand."""
        entry = self.tree.at(path)
        if entry is None or not isinstance(entry.node, Scalar):
            return self.key(path)
        part = entry.node.part(start, end)
        return self._place(part.start, part.end)

    def _place(self, start: int, end: int) -> Place:
        line, column = self.document.position(start)
        return Place(line, column, max(1, end - start))


def _check_expression(document: Document, expression: Expression, findings: Findings) -> None:
    try:
        verify(expression.text, expression.names, expression.functions)
    except ExpressionSyntaxError as error:
        part = _within(document, expression, error)
        at = part or Span(expression.start, expression.end)
        line, column = document.position(at.start)
        place = Place(line, column, max(1, at.end - at.start))
        findings.error("C401", place, error.message, error.fix if part else None)


def _within(document: Document, expression: Expression, error: ExpressionSyntaxError) -> Span | None:
    r"""Where the error stands in the file, if that can be told; in a table every pipe has a backslash before it."""
    written = document.text[expression.start : expression.end]
    if written == expression.text:
        return Span(expression.start + error.start, expression.start + error.end)
    escaped = len(written) - len(expression.text) == expression.text.count("|")
    if not escaped:
        return None
    before, inside = (expression.text.count("|", *span) for span in ((0, error.start), (error.start, error.end)))
    start = expression.start + error.start + before
    return Span(start, start + error.end - error.start + inside)


def _no_settings() -> MappingSettings:
    from speclab.spec.settings import MappingSettings

    return MappingSettings.model_validate({})
