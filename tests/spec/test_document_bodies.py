"""Setting a section's body: its position, and rejected edits that would change the text around it."""

from __future__ import annotations

import pytest

from speclab.core.errors import EditRejected
from speclab.spec.document import Document

SPEC = "---\nstatus: draft\n---\n\n# T\n\n## A\n\nold\n\n## Logging\n\nkept\n\n<!-- c -->\n"


def set_body(text: str, body: str, address: str = "A") -> str:
    document = Document.parse(text)
    return document.with_body(document.section(address), body).text


@pytest.mark.parametrize(
    ("body", "stands"),
    [
        ("new", "new"),
        ("\n\n  new  \n \n", "  new  "),
        ("two\n\nparagraphs", "two\n\nparagraphs"),
        ("- a\n- b", "- a\n- b"),
        ("```yaml\na: 1\n\n## no heading\n```", "```yaml\na: 1\n\n## no heading\n```"),
        ("<!-- a\n\n## no heading\n-->", "<!-- a\n\n## no heading\n-->"),
        ("<div>\n<b>\n\ntext", "<div>\n<b>\n\ntext"),
        ("| a |\n|---|\n| 1 |", "| a |\n|---|\n| 1 |"),
        ("> quote", "> quote"),
        ("text\n\n---\n\ntext", "text\n\n---\n\ntext"),
        ("\ttab", "\ttab"),
        ("\\## A", "\\## A"),
    ],
)
def test_body_replaces_the_old_one(body: str, stands: str) -> None:
    assert set_body(SPEC, body) == SPEC.replace("old", stands)


@pytest.mark.parametrize("body", ["", "\n", " \n\t\n"])
def test_empty_body_removes_its_line(body: str) -> None:
    assert set_body(SPEC, body) == SPEC.replace("old\n", "")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("## A", "## A\nnew"),
        ("## A\n", "## A\nnew\n"),
        ("## A\n\n", "## A\n\nnew\n"),
        ("## A\n## B\n", "## A\nnew\n\n## B\n"),
        ("## A\n\n## B\n", "## A\n\nnew\n\n## B\n"),
        ("## A\n\n\n## B\n", "## A\n\nnew\n\n## B\n"),
        ("## A\nB\n---\n", "## A\nnew\n\nB\n---\n"),
        ("A\n---", "A\n---\nnew"),
        ("## A\r\n\r\n## B", "## A\r\n\r\nnew\r\n\r\n## B"),
    ],
)
def test_body_is_inserted_into_an_empty_section(before: str, after: str) -> None:
    assert set_body(before, "new") == after


def test_body_before_the_next_heading_gets_a_blank_line() -> None:
    assert set_body("## A\n<!-- c -->\nB\n---\n", "new") == "## A\nnew\n\nB\n---\n"
    assert set_body("## A\nold\n## B\n", "<div>") == "## A\n<div>\n\n## B\n"
    assert set_body("## A\nold\n## B\n", "- new") == "## A\n- new\n## B\n"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("```", "an open ``` fence would swallow the section 'Logging'"),
        ("text\n\n~~~~yaml\na: 1\n~~~", "an open ~~~~ fence would swallow the section 'Logging'"),
        ("<!--", "an open <!-- would swallow the section 'Logging'"),
        ("<pre>", "an open <pre> would swallow the section 'Logging'"),
        ('<script src="x">', "an open <script would swallow the section 'Logging'"),
        ("<![CDATA[", "an open <![CDATA[ would swallow the section 'Logging'"),
        ("<?php", "an open <?php would swallow the section 'Logging'"),
        ("## New", "the text contains a heading, 'New', which would start a section"),
        ("# New", "the text contains a heading, 'New', which would start a section"),
        ("a\n\n#### New ##\n\nb", "the text contains a heading, 'New', which would start a section"),
        ("New\n---", "the text contains a heading, 'New', which would start a section"),
        ("New\n=", "the text contains a heading, 'New', which would start a section"),
        ("## New\n\n```", "an open ``` fence would swallow the section 'Logging'"),
        ("## Logging\n\nkept\n\n```", "the edit would also change the section 'Logging'"),
    ],
)
def test_body_that_would_change_other_sections_is_rejected(body: str, reason: str) -> None:
    with pytest.raises(EditRejected) as error:
        set_body(SPEC, body)
    assert error.value.message == reason


def test_body_that_would_turn_prose_into_front_matter_is_rejected() -> None:
    with pytest.raises(EditRejected, match="would turn text into front matter"):
        set_body("---\nkey: v\n\n## A\n\nold\n", "text\n\n---")


def test_body_of_the_last_section_swallows_nothing() -> None:
    assert set_body("## A\n\nold\n", "```") == "## A\n\n```\n"


def test_section_name_of_an_older_version_finds_the_current_section() -> None:
    document = Document.parse(SPEC)
    section = document.section("Logging")
    longer = document.with_body(document.section("A"), "much longer than before")
    assert longer.with_body(section, "new").text == longer.text.replace("kept\n\n<!-- c -->", "new")
    with pytest.raises(EditRejected, match="the section 'Logging' is not in this version of the file"):
        Document.parse("## A\n").with_body(section, "new")


def test_bodies_can_be_set_with_invalid_front_matter() -> None:
    text = "---\nstatus: {\n---\n## A\n\nold\n"
    assert set_body(text, "new") == text.replace("old", "new")
