"""Properties of any document and edit: only the edited part changes, or the edit is rejected."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from speclab.core.errors import EditRejected
from speclab.spec.document import Document
from speclab.spec.outline import split_line_ends
from speclab.spec.store import merge

modestly = settings(deadline=None, max_examples=100)

LINES = [
    "",
    "  ",
    "\t",
    "text",
    "text  ",
    "    indented",
    "## Alpha",
    "### Beta ###",
    "## Alpha",
    "#### `code` *and* [link](x) {#id}",
    "##No heading",
    " # Title",
    "Setext",
    "===",
    "---",
    "...",
    "```yaml",
    "```",
    "~~~~",
    "- item",
    "  continued",
    "- ```",
    "1. one",
    "> quote",
    "> ## in a quote",
    "<!-- comment -->",
    "<!-- open",
    "-->",
    "<pre>",
    "</pre>",
    "<div>",
    "<script>",
    "<![CDATA[",
    "| a | b |",
    "|---|---|",
    "| 1 | 2 |",
    "a | b",
    "--- | ---",
    "x | y | z",
    "| Source Field | Target | Transformation | Notes |",
    "|---|:--|--:|:-:|",
    r"| source.x | target.y | a\|b | \\| |",
    "| | target.z | | |",
    "status: draft",
    "key : 'it''s' # why",
    "list:",
    "  - a: {b: [1, 2]}",
    "[ref]: /url",
    "\x0b\x0c\x85\u2028\u2029",
    "\0 and \udcff",
    "é 漢字 👩\u200d👩\u200d👧 \u00a0",
    "[" * 30,
]
line_ends = st.sampled_from(["\n", "\n", "\n", "\r\n", "\r"])
prose = st.lists(st.tuples(st.sampled_from(LINES), line_ends), max_size=12).map(
    lambda pairs: "".join(line + end for line, end in pairs)
)
any_text = st.text(max_size=12) | st.sampled_from(LINES) | prose
FRONT = [
    "",
    '---\nstatus: draft # now\nowner: "me"\n---\n',
    "\ufeff---\r\nstatus:   'x'\r\nlist:\r\n- a\r\n...\r\n",
    "---\n",
]
documents = st.builds(
    lambda front, heading, text, end: Document.parse(front + heading + text.removesuffix(end)),
    st.sampled_from(FRONT),
    st.sampled_from(["", "# Title\n\n## Start\n\n"]),
    prose,
    st.sampled_from(["", "\n"]),
)
MAPPING = "## Field Mapping\n\n| Source Field | Target Field | Transformation | Notes |\n|---|---|---|---|\n"
TABLES = [
    MAPPING + "| source.a | target.a | Trim | |\n| source.b | target.b | | x |\n\nafter\n\n## Next\n",
    MAPPING.replace("\n", "\r\n") + "| source.a | target.a   | Trim           | |\r\n|source.b|target.b||\r\n| c |",
    "## S\n\nSource | Target\n--- | ---\na | b\n c | d | surplus\ne\n\n# T\n## Next\n",
    "\ufeff## S\n| One |\n|---|\n| 1 |\n2\n",
]
tables = st.sampled_from(TABLES)


def changed_or_refused(edit: Callable[[], Document], before: Document) -> Document | None:
    """Return the edited document, or None if the edit was rejected. The outline stays the same."""
    try:
        after = edit()
    except EditRejected:
        return None
    titles = [[(h.level, h.title) for h in document.outline.headings] for document in (before, after)]
    assert titles[0] == titles[1]
    assert Document.parse(after.to_bytes().decode("utf-8", "surrogateescape")) == after
    return after


def contents(text: str) -> list[str]:
    """Return the lines without line ends and without surrounding blank lines."""
    lines = [line.rstrip("\r\n") for line in split_line_ends(text)]
    filled = [at for at, line in enumerate(lines) if line.strip(" \t")]
    return lines[filled[0] : filled[-1] + 1] if filled else []


@modestly
@given(st.binary())
def test_any_bytes_survive_a_round_trip(data: bytes) -> None:
    assert Document.parse(data.decode("utf-8", "surrogateescape")).to_bytes() == data


@modestly
@given(documents)
def test_preamble_headings_and_own_texts_tile_the_text(document: Document) -> None:
    outline, text = document.outline, document.text
    pieces = [text[: outline.preamble.start], outline.preamble.of(text)]
    for heading in outline.headings:
        pieces += [text[heading.heading.start : heading.own.start], heading.own.of(text)]
    assert "".join(pieces) == text


@modestly
@given(documents)
def test_every_section_is_found_by_its_address(document: Document) -> None:
    for section in document.sections:
        found = document.section(section.address)
        assert found.address.casefold() == section.address.casefold() or found == section


@modestly
@given(documents)
def test_setting_the_current_value_changes_nothing(document: Document) -> None:
    for section in document.sections:
        assert document.with_body(section, document.body(section)) is document
        for table in document.tables(section):
            for row in range(len(table.rows)):
                for column in table.columns:
                    text = table.cell(row, column).text
                    assert document.with_cell(table, row, column, text).text == document.text


@modestly
@given(documents, any_text, st.data())
def test_body_edit_changes_its_own_section_only(document: Document, body: str, data: st.DataObject) -> None:
    if not document.sections:
        return
    at = data.draw(st.integers(0, len(document.sections) - 1))
    section = document.sections[at]
    after = changed_or_refused(lambda: document.with_body(section, body), document)
    if after is None:
        return
    assert contents(after.body(after.sections[at])) == contents(body)
    assert after.front_matter.span.of(after.text) == document.front_matter.span.of(document.text)
    for other in range(len(document.sections)):
        if other != at:
            old, new = document.sections[other], after.sections[other]
            assert new.own.of(after.text) == old.own.of(document.text)
    assert after.text.startswith(document.text[: section.heading.end])
    assert after.text.endswith(document.text[section.own.end :])


@modestly
@given(documents, any_text)
def test_front_matter_value_is_read_back_and_nothing_else_changes(document: Document, value: str) -> None:
    after = changed_or_refused(lambda: document.with_front_matter("status", value), document)
    if after is None:
        return
    assert after.front_matter.get("status") == value
    others = {key: v for key, v in after.front_matter.values.items() if key != "status"}
    assert others == {key: v for key, v in document.front_matter.values.items() if key != "status"}
    old = document.front_matter
    if span := old.get_span("status"):
        assert after.text.startswith(document.text[: span.start])
        assert after.text.endswith(document.text[span.end :])
    else:
        assert after.text.endswith(document.text[old.inner.end :])


@modestly
@given(tables, any_text, st.data())
def test_cell_is_read_back_and_no_other_line_changes(text: str, value: str, data: st.DataObject) -> None:
    document = Document.parse(text)
    table = document.tables(document.sections[0])[0]
    row = data.draw(st.integers(0, len(table.rows) - 1))
    column = data.draw(st.sampled_from(sorted(table.columns)))
    after = changed_or_refused(lambda: document.with_cell(table, row, column, value), document)
    if after is None:
        assert "\n" in value or "\r" in value
        return
    line = table.rows[row].span
    assert after.text.startswith(document.text[: line.start])
    assert after.text.endswith(document.text[line.end :])
    now = after.tables(after.sections[0])[0]
    expected = [list(other.texts) for other in table.rows]
    expected[row][table.column(column)] = value.strip()
    assert [list(other.texts) for other in now.rows] == expected


@modestly
@given(tables, st.data())
def test_any_sequence_of_row_edits_keeps_the_other_rows(text: str, data: st.DataObject) -> None:
    document = Document.parse(text)
    before = document
    model = [list(row.texts) for row in document.tables(document.sections[0])[0].rows]
    for _ in range(data.draw(st.integers(1, 6))):
        table = document.tables(document.sections[0])[0]
        edits = ["add", "delete", "move", "duplicate"] if model else ["add"]
        row = data.draw(st.integers(0, max(len(model) - 1, 0)))
        match data.draw(st.sampled_from(edits)):
            case "add":
                cells = {name: data.draw(st.sampled_from(["", "- x", "a|b", "漢", "\\"])) for name in table.columns}
                document = document.with_row_added(table, row, cells)
                model.insert(row, list(cells.values()))
            case "delete":
                document = document.with_row_deleted(table, row)
                del model[row]
            case "move":
                to = data.draw(st.integers(0, len(model) - 1))
                document = document.with_row_moved(table, row, to)
                model.insert(to, model.pop(row))
            case "duplicate":
                document = document.with_row_duplicated(table, row)
                model.insert(row, model[row])
        now = document.tables(document.sections[0])[0]
        assert [list(row.texts) for row in now.rows] == model
    start, end = (before.tables(before.sections[0])[0].rows[at].span for at in (0, -1))
    assert document.text.startswith(before.text[: start.start].rstrip("\r\n"))
    assert document.text.endswith(before.text[end.end :].lstrip("\r\n"))


@modestly
@given(documents, documents)
def test_merge_with_an_unchanged_version_returns_the_other(base: Document, other: Document) -> None:
    assert merge(base, other, base).resolved() == other.text
    assert merge(base, base, other).resolved() == other.text
    assert merge(base, other, other).resolved() == other.text
