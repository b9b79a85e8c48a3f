"""Everything there is to say about a document, but for the cells of its mapping: what `read` finds, and its CEL."""

from __future__ import annotations

from speclab.outcome import Level
from speclab.spec.document import Document
from speclab.spec.findings import Findings
from speclab.spec.header import is_other
from speclab.spec.problem import Problem
from speclab.spec.read import findings_of, read
from speclab.spec.rules import Expression, read_criteria
from speclab.spec.sections import CRITERIA, Sections


def lint(document: Document) -> list[Problem]:
    """The problems of `document` by place, those of the mapping's cells not among them.

    What is not filled in yet is a note, and an error once the spec is in progress. A file of another type has no
    problems but a front matter that cannot be read.
    """
    front_matter = document.front_matter
    if is_other(document) or not front_matter.present:
        return list(front_matter.problems)
    findings = findings_of(document, Level.ERROR if front_matter.get("status") == "in-progress" else Level.INFO)
    expressions = [*read(document, findings).expressions, *_criteria(document)]
    if expressions:
        _check(expressions, findings)
    return findings.in_order()


def _criteria(document: Document) -> list[Expression]:
    section = Sections(document, findings_of(document, Level.INFO)).find(CRITERIA)
    criteria = read_criteria(document, section) if section else ()
    return [criterion.expression for criterion in criteria if criterion.expression]


def _check(expressions: list[Expression], findings: Findings) -> None:
    """Tell of every expression that CEL cannot read (C401)."""
    import cel  # takes half a second, so only where there is something to read

    for expression in expressions:
        try:
            cel.compile(expression.text)
        except ValueError as error:
            findings.error("C401", expression, f"this is no CEL expression: {error}")
