"""Lint levels: missing content is a note in a draft and an error in progress; other types are ignored."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speclab.core.outcome import Level
from speclab.spec.document import Document
from speclab.spec.guide import TEMPLATE, build_spec
from speclab.spec.parser import examine, lint


def levels(spec: str) -> set[Level]:
    return {problem.level for problem in lint(Document.parse(spec))}


def test_untouched_template_has_only_missing_content() -> None:
    problems = lint(Document.parse(TEMPLATE))
    assert {problem.level for problem in problems} == {Level.INFO}
    assert {problem.code for problem in problems} == {"F102", "D102", "D201"}


def test_new_spec_has_only_missing_content() -> None:
    problems = lint(Document.parse(build_spec("crm-to-billing", date(2026, 11, 24))))
    assert {(problem.level, problem.code) for problem in problems} == {(Level.INFO, "D102"), (Level.INFO, "D201")}


@pytest.mark.parametrize(
    ("status", "level"),
    [("draft", Level.INFO), ("approved", Level.INFO), ("completed", Level.INFO), ("in-progress", Level.ERROR)],
)
def test_missing_content_is_a_note_until_the_spec_is_in_progress(status: str, level: Level) -> None:
    spec = build_spec("crm-to-billing", date(2026, 11, 24)).replace("status: draft", f"status: {status}")
    assert levels(spec) == {level}


def test_invalid_content_is_an_error_in_a_draft_too() -> None:
    spec = build_spec("a", date(2026, 11, 24)).replace("### Logging\n", "### Logging\n```yaml\nretension: 7d\n```\n")
    errors = [problem for problem in lint(Document.parse(spec)) if problem.level is Level.ERROR]
    assert [(problem.code, problem.fix) for problem in errors] == [("S202", "retention")]


@pytest.mark.parametrize("kind", ["dev", "hubspot", "{x}", "[a]"])
def test_file_of_another_type_is_not_changed(kind: str) -> None:
    spec = TEMPLATE.replace("type: integration", f"type: {kind}").replace("### Logging", "### Logging\n```yaml\n{\n```")
    assert lint(Document.parse(spec)) == []
    assert examine(Document.parse(spec)).integration is None


def test_unreadable_front_matter_is_reported_for_any_type() -> None:
    problems = lint(Document.parse("---\ntype: [dev\n---\n\n# Notes\n"))
    assert [(problem.code, problem.level) for problem in problems] == [("F101", Level.ERROR)]


def test_file_without_front_matter_has_no_problems() -> None:
    assert lint(Document.parse("# Notes\n\n## Field Mapping\n\nNone.\n")) == []


def test_problems_are_ordered_by_location_with_only_the_most_severe_of_each() -> None:
    spec = build_spec("a", date(2026, 11, 24)).replace(
        "### Logging\n", "### Logging\n```yaml\nretention: yes\nfailures: 5\n```\n"
    )
    problems = lint(Document.parse(spec))
    assert problems == sorted(problems, key=lambda problem: (problem.line, problem.column))
    reported = [(problem.code, problem.level) for problem in problems if problem.code.startswith("S")]
    assert reported == [("S203", Level.ERROR), ("S203", Level.ERROR)]  # and no S105 for the `yes`


def test_mapping_is_checked_even_without_systems() -> None:
    spec = build_spec("a", date(2026, 11, 24)).replace("source.field1", "source.email")
    reading = examine(Document.parse(spec))
    assert reading.integration is None
    assert [row.sources for row in reading.rows] == [("email",), ("field2",)]
    assert reading.mapping is not None


def test_expressions_use_only_known_names_and_functions() -> None:
    spec = build_spec("a", date(2026, 11, 24))
    spec = spec.replace(
        "### Source System\n",
        "### Source System\n```yaml\nconnector: http\nbase_url: x\nkey: id\n"
        "read: {path: /a, deleted: 'source.gone == true'}\n```\n",
    ).replace("- [ ] Criterion 1", '- [ ] All well `success_rate("1h") == 1.0`')
    found = examine(Document.parse(spec)).expressions
    assert [(spec[one.start : one.end], one.names, bool(one.functions)) for one in found] == [
        ("source.gone == true", ("source",), False),
        ('success_rate("1h") == 1.0', (), True),
    ]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_problems_of_a_mutated_spec_are_within_its_text(data: st.DataObject) -> None:
    filled = build_spec("a", date(2026, 11, 24)).replace(
        "### Source System\n", "### Source System\n```yaml\nconnector: http\nread: {path: /a/{id}}\nkey: id\n```\n"
    )
    start = data.draw(st.integers(0, len(filled)))
    end = data.draw(st.integers(start, min(start + 40, len(filled))))
    odd = data.draw(st.text(alphabet="ab:{}[]|-`#~<!>&*\"'\\,. \t\n\r\u2028é\udc80", max_size=12))
    document = Document.parse(filled[:start] + odd + filled[end:])
    for problem in lint(document):
        assert 1 <= problem.line <= len(document.lines)
        assert 1 <= problem.column <= len(document.lines.content(problem.line - 1)) + 1
        assert problem.length >= 1
