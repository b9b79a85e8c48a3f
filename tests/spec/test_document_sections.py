"""Headings and sections: recognizing and finding them."""

from __future__ import annotations

import pytest

from speclab.core.errors import UsageError
from speclab.spec.document import BlockKind, Document


@pytest.mark.parametrize(
    "inside",
    [
        "```\n## no\n```",
        "~~~\n## no\n~~~",
        "````\n```\n## no\n```\n````",
        "```yaml\n## no\n~~~\n```",
        "- item\n\n  ```\n  ## no\n  ```",
        "- ## no",
        "1. ## no",
        "> ## no",
        "<!--\n## no\n-->",
        "<!-- a\n\n## no\n\n-->",
        "<pre>\n\n## no\n</pre>",
        "<script>\n\n## no\n</script>",
        "<![CDATA[\n\n## no\n]]>",
        "<div>\n## no\n\n</div>",
        "    ## no",
        "text\n    ## no",
        "\t## no",
        "##no",
        "####### no",
        "\\## no",
        "```\n## no, never closed",
    ],
)
def test_text_that_only_looks_like_a_heading_is_not_a_heading(inside: str) -> None:
    document = Document.parse(f"# T\n\n## A\n\n{inside}\n")
    assert [section.title for section in document.sections] == ["A"]
    assert document.body(document.sections[0]) == inside


@pytest.mark.parametrize(
    ("heading", "title", "level"),
    [
        ("## H", "H", 2),
        ("## H ##", "H", 2),
        ("## H #", "H", 2),
        ("## H#", "H#", 2),
        ("##\tH", "H", 2),
        ("   ### H", "H", 3),
        ("##    H   with   blanks  ", "H with blanks", 2),
        ("##", "", 2),
        ("## #", "", 2),
        ("H\n---", "H", 2),
        ("H\nover two\n  lines\n-", "H over two lines", 2),
        ("## `code` *and* [link](x) {#id}", "`code` *and* [link](x) {#id}", 2),
        ("###### H", "H", 6),
    ],
)
def test_heading_has_its_title_and_level(heading: str, title: str, level: int) -> None:
    for newline in ("\n", "\r\n", "\r"):
        document = Document.parse(f"# T\n\n{heading}\n\nbody\n".replace("\n", newline))
        (section,) = document.sections
        assert (section.title, section.level) == (title, level)
        assert section.heading.of(document.text) == heading.replace("\n", newline)
        assert document.body(section) == "body"


def test_title_is_the_first_heading_of_level_1_and_not_a_section() -> None:
    document = Document.parse("before\n\n# One\n\n## A\n\n# Two\n\n## B\n")
    assert document.title == "One"
    assert [section.path for section in document.sections] == [("A",), ("Two",), ("Two", "B")]
    assert Document.parse("T\n===\n\n## A").title == "T"
    assert Document.parse("## A").title == ""


def test_sections_have_paths_also_where_a_level_is_skipped() -> None:
    document = Document.parse("## A\n\n#### A1\n\n### A2\n\n## B\n\n### A2\n")
    assert [section.address for section in document.sections] == ["A", "A > A1", "A > A2", "B", "B > A2"]


def test_repeated_title_has_an_index() -> None:
    document = Document.parse("## A\n### X\n## A\n### X\n## a\n")
    assert [section.address for section in document.sections] == ["A", "A > X", "A[1]", "A > X[1]", "a[2]"]
    assert document.section("A > X[1]") is document.sections[3]
    assert document.section("a[2]").line == 5


@pytest.mark.parametrize(
    "address",
    [
        "Error Handling > Retry Logic",
        "error handling>retry logic",
        "Error  Handling  >  Retry  Logic",
        "Retry Logic",
        "retry `logic`",
        "Error Handling > *Retry* Logic",
    ],
)
def test_section_is_found_in_any_case_spacing_and_markup(address: str) -> None:
    document = Document.parse("## Error  Handling\n\n### **Retry** [Logic](x) {#retry}\n\n## Retry\n")
    assert document.section(address) is document.sections[1]


def test_title_with_an_arrow_is_found() -> None:
    document = Document.parse("## Source > Target\n")
    assert document.section("source>target") is document.sections[0]


def test_missing_section_is_reported_with_similar_names() -> None:
    document = Document.parse("## Data Flow\n\n### Volume\n\n## Phase\n\n### Risks\n\n## Other\n\n### Risks\n")
    with pytest.raises(UsageError, match="no section 'Data Flow > Volum'") as error:
        document.section("Data Flow > Volum")
    assert error.value.hint == "did you mean 'Data Flow > Volume' or 'Data Flow'?"
    with pytest.raises(UsageError, match="2 sections are called 'Risks': 'Phase > Risks' and 'Other > Risks'"):
        document.section("Risks")
    with pytest.raises(UsageError) as error:
        document.section("zzz")
    assert error.value.hint.startswith("its sections are 'Data Flow',")


@pytest.mark.parametrize(
    ("body", "empty"),
    [
        ("", True),
        ("  \n\t\n", True),
        ("<!-- a -->", True),
        ("<!-- a\n\nb -->\n\n<!-- c -->", True),
        ("<!-- never closed\n\ntext", True),
        ("<!-- half --> replaced", False),
        ("<!-- half\nreplaced -->text", False),
        ("text", False),
        ("```\n```", False),
    ],
)
def test_section_of_blanks_and_comments_is_empty(body: str, empty: bool) -> None:  # noqa: FBT001 - a case
    document = Document.parse(f"## A\n\n{body}\n")
    assert document.sections[0].empty is empty


def test_section_has_its_blocks_in_order() -> None:
    text = (
        "## A\nHourly\nor so\n\n- one\n\n- two\n\n\n> quote\n\n```yaml title\nkey: 1\n\nb: 2\n```\n"
        "    no code: it continues nothing\n\n| a |\n|---|\n| 1 |\n\n<!-- c -->\n\n***\n### B\n"
    )
    document = Document.parse(text)
    blocks = document.sections[0].blocks
    assert [(block.kind, block.line, block.span.of(text)) for block in blocks] == [
        (BlockKind.PARAGRAPH, 2, "Hourly\nor so"),
        (BlockKind.LIST, 5, "- one\n\n- two"),
        (BlockKind.QUOTE, 10, "> quote"),
        (BlockKind.FENCE, 12, "```yaml title\nkey: 1\n\nb: 2\n```"),
        (BlockKind.CODE, 17, "    no code: it continues nothing"),
        (BlockKind.TABLE, 19, "| a |\n|---|\n| 1 |"),
        (BlockKind.HTML, 23, "<!-- c -->"),
        (BlockKind.RULE, 25, "***"),
    ]
    fence = blocks[3]
    assert fence.info == "yaml title"
    assert fence.content is not None
    assert fence.content.of(text) == "key: 1\n\nb: 2"


@pytest.mark.parametrize(
    ("fence", "content"),
    [
        ("```\na\n```", "a"),
        ("```\r\na\r\nb\r\n```", "a\r\nb"),
        ("```\n```", ""),
        ("```", ""),
        ("```\na", "a"),
        ("```\na\n", "a"),
        ("````\n```\n````", "```"),
        ("```\na\n    ```", "a\n    ```"),
        ("~~~\na\n```", "a\n```"),
        ("   ```\n   a\n  ```  ", "   a"),
    ],
)
def test_content_of_a_fence_is_between_its_marks(fence: str, content: str) -> None:
    document = Document.parse(f"## A\n\n{fence}")
    (block,) = document.sections[0].blocks
    assert block.content is not None
    assert block.content.of(document.text) == content
