"""The text of a document: every byte survives, line ends are recognized, and locations count from 1."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from speclab.core.errors import EditRejected, UsageError
from speclab.spec.document import Document
from speclab.spec.guide import TEMPLATE, is_template_text

MEGABYTE = 1_000_000
BYTES = {
    "the template": TEMPLATE.encode(),
    "the template in CRLF": TEMPLATE.replace("\n", "\r\n").encode(),
    "the template in CR": TEMPLATE.replace("\n", "\r").encode(),
    "all line ends in one file": b"---\r\nstatus: draft\n---\r# T\r\n## A\n\rtext\r\n\n## B\r",
    "a byte order mark and front matter": b"\xef\xbb\xbf---\nstatus: draft\n---\n# T\n## A\n",
    "a byte order mark alone": b"\xef\xbb\xbf",
    "no final newline": b"## A\n\ntext",
    "many final newlines": b"## A\n\ntext\n\n\n\n",
    "trailing blanks": b"## A  \t\ntext  \n\t\n",
    "other line separators": "## A\n\na\x0bb\x0cc\x85d\u2028e\u2029f\n".encode(),
    "invalid UTF-8": b"## A\n\n\xff\xfe \xc3( \xed\xa0\x80\n",
    "NUL bytes": b"## A\0\n\n\0\n## B\n",
    "an empty file": b"",
    "one newline": b"\n",
    "1 MB": b"## A\n\n" + b"word " * (MEGABYTE // 5 - 2),
    "50,000 brackets": b"## A\n\n" + b"[" * 50_000,
    "50,000 lines of brackets": b"## A\n\n" + b"[\n" * 50_000,
    "a 2,000-column table": b"## A\n\n"
    + b"\n".join(b"|" + cell * 2000 for cell in (b"a|", b"-|", b"b|", b"c|"))
    + b"\n",
}


@pytest.mark.parametrize("data", BYTES.values(), ids=BYTES)
def test_file_is_read_and_kept_byte_for_byte(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "spec.md"
    path.write_bytes(data)
    document = Document.load(path)
    assert document.to_bytes() == data
    assert document.hash == hashlib.sha256(data).hexdigest()
    for section in document.sections:
        assert document.with_body(section, document.body(section)) is document


@pytest.mark.parametrize("name", [name for name, data in BYTES.items() if b"## A" in data])
def test_new_body_leaves_the_bytes_around_it(name: str) -> None:
    document = Document.parse(BYTES[name].decode("utf-8", "surrogateescape"))
    section = next(section for section in document.sections if section.title.startswith("A"))
    after = document.with_body(section, "new")
    assert after.body(after.section(section.address)) == "new"
    assert after.text.startswith(document.text[: section.heading.end])
    assert after.text.endswith(document.text[section.own.end :])


def test_missing_file_is_reported() -> None:
    with pytest.raises(UsageError, match=r"nowhere\.md: cannot be read: No such file"):
        Document.load(Path("nowhere.md"))


def test_only_real_line_ends_end_a_line() -> None:
    document = Document.parse("a\x0bb\x0cc\x85d\u2028e\u2029f\r\n## A\n\rx\n")
    (section,) = document.sections
    assert section.line == 2
    assert document.position(document.text.index("f")) == (1, 11)
    assert document.position(document.text.index("x")) == (4, 1)
    assert document.position(len(document.text)) == (5, 1)


def test_byte_order_mark_is_not_a_column() -> None:
    document = Document.parse("\ufeff## A\n")
    assert document.position(document.sections[0].heading.start) == (1, 1)
    assert document.sections[0].title == "A"


@pytest.mark.parametrize(
    ("text", "newline"),
    [("", "\n"), ("a", "\n"), ("a\r\nb\r\nc\n", "\r\n"), ("a\rb\rc\r\n", "\r"), ("a\nb\nc\r\n", "\n")],
)
def test_line_end_of_the_file_is_that_of_most_lines(text: str, newline: str) -> None:
    assert Document.parse(text).newline == newline


def test_pasted_body_gets_the_line_ends_of_the_file() -> None:
    document = Document.parse("## A\n\nold\n\n## B\n")
    assert (
        document.with_body(document.section("A"), "one\r\ntwo\rthree\r\n").text == "## A\n\none\ntwo\nthree\n\n## B\n"
    )
    document = Document.parse("## A\r\n\r\nold\r\n")
    assert document.with_body(document.section("A"), "one\ntwo").text == "## A\r\n\r\none\r\ntwo\r\n"


def test_unchanged_line_keeps_its_line_end() -> None:
    document = Document.parse("## A\n\none\r\ntwo\rthree\nfour\n\n## B\n")
    after = document.with_body(document.section("A"), "one\ntwo\nand a half\nthree\nfour")
    assert after.text == "## A\n\none\r\ntwo\rand a half\nthree\nfour\n\n## B\n"


def test_unpaired_surrogate_is_rejected() -> None:
    document = Document.parse("## A\n")
    with pytest.raises(EditRejected, match="unpaired surrogate"):
        document.with_body(document.section("A"), "\ud800")
    document = Document.parse("## A\n\n\udcc3\n")
    with pytest.raises(EditRejected, match="unpaired surrogate"):
        document.with_body(document.section("A"), "\udcc3\udca9")


def test_untouched_template_is_empty_except_for_its_examples() -> None:
    document = Document.parse(TEMPLATE)
    filled = [section.title for section in document.sections if not section.empty]
    assert filled == ["Field Mapping", "Acceptance Criteria"]
    assert all(is_template_text(document, section) for section in document.sections)
    assert document.mapping is not None
    after = document.with_cell(document.mapping, 0, "Notes", "x")
    assert not is_template_text(after, after.section("Field Mapping"))


def test_template_has_the_keys_and_headings_known_to_other_tools() -> None:
    document = Document.parse(TEMPLATE)
    assert list(document.front_matter.values) == ["spec_id", "type", "status", "created", "updated", "ctm_task"]
    assert document.title == "Spec: {Title}"
    assert [section.address for section in document.sections] == [
        "Problem Statement",
        "Integration Overview",
        "Integration Overview > Source System",
        "Integration Overview > Target System",
        "Integration Overview > Integration Type",
        "Data Flow",
        "Data Flow > Direction",
        "Data Flow > Frequency",
        "Data Flow > Volume",
        "Field Mapping",
        "Authentication",
        "Authentication > Source System Auth",
        "Authentication > Target System Auth",
        "Authentication > Credential Management",
        "Error Handling & Retry Strategy",
        "Error Handling & Retry Strategy > Error Types",
        "Error Handling & Retry Strategy > Retry Logic",
        "Error Handling & Retry Strategy > Error Notifications",
        "Monitoring & Alerting",
        "Monitoring & Alerting > Metrics",
        "Monitoring & Alerting > Alerts",
        "Monitoring & Alerting > Logging",
        "Technical Approach",
        "Architecture Decisions",
        "Implementation Phases",
        "Implementation Phases > Phase 1: MVP",
        "Implementation Phases > Phase 2: Enhancement",
        "Implementation Phases > Future",
        "Dependencies & Risks",
        "Dependencies & Risks > API Dependencies",
        "Dependencies & Risks > Data Dependencies",
        "Dependencies & Risks > Technical Risks",
        "Acceptance Criteria",
        "Out of Scope",
        "Tasks Created",
    ]
