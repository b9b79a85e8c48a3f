"""Front matter: recognizing and reading it, and setting single values."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from speclab.core.errors import EditRejected
from speclab.spec.document import Document
from speclab.spec.edit import verify_entries
from speclab.spec.guide import TEMPLATE
from speclab.spec.parser import lint


def front(text: str) -> Document:
    return Document.parse(f"---\n{text}\n---\n\n# Title\n")


def set_status(line: str, value: str) -> str:
    """Return the front matter `line` with `status` set to `value`."""
    before = front(line)
    after = before.with_front_matter("status", value)
    assert after.front_matter.get("status") == value
    return after.front_matter.inner.of(after.text).removesuffix("\n")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("draft", "draft"),
        ("'draft'", "draft"),
        ('"draft"', "draft"),
        ("it's", "it's"),
        ("'it''s'", "it's"),
        ('"\\U0001F600 \\u00e9"', "😀 é"),
        ("😀", "😀"),
        ("~", None),
        ("null", None),
        ("", None),
        ("TRUE", True),
        ("yes", True),
        ("017", 15),
        ("0x1F", 31),
        ("1.10", 1.1),
        ("12:30:00", 45000),
        ("2026-11-24", date(2026, 11, 24)),
        ("2026-11-24T10:00:00Z", datetime(2026, 11, 24, 10, tzinfo=UTC)),
        ("{name}", {"name": None}),
        ("|\n  one\n  two", "one\ntwo\n"),
        (">\n  one\n  two", "one two\n"),
        ("{a: [1,\n  2]}", {"a": [1, 2]}),
        ("\n-   a\n-   - b", ["a", ["b"]]),
        ("2026-13-45", "2026-13-45"),
        ("!!timestamp soon", "soon"),
        ("!!bool perhaps", "perhaps"),
        ('!!int ""', ""),
        ('!!float "-"', "-"),
        ("a\u2028b\x85c", "a\u2028b\x85c"),
        ("a\0b\udcff", "a\0b\udcff"),
    ],
)
def test_value_is_read_as_in_yaml(written: str, value: object) -> None:
    document = front(f"before: 1\nkey: {written}\nafter: 2")
    assert document.front_matter.problems == ()
    assert document.front_matter.get("key") == value
    assert document.front_matter.get("after") == 2


@pytest.mark.parametrize("key", ["on", "content", "2024", "no", "null", "a b", "ключ"])
def test_key_is_text_as_written(key: str) -> None:
    for written in (key, f"'{key}'", f'"{key}"'):
        assert front(f"{written}: x").front_matter.values == {key: "x"}


def test_anchors_and_aliases_are_followed_and_each_value_has_its_own_location() -> None:
    document = front("a: &x [1, 2]\nb: *x\nc: 3")
    assert document.front_matter.values == {"a": [1, 2], "b": [1, 2], "c": 3}
    spans = {entry.key: entry.value.of(document.text) for entry in document.front_matter.entries}
    assert spans == {"a": "&x [1, 2]", "b": "*x", "c": "3"}


@pytest.mark.parametrize("opening", ["---", "---  ", "---\t", "\n---", "\ufeff---", "----"])
@pytest.mark.parametrize("closing", ["---", "---\t ", "...", "-----"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_front_matter_is_between_two_delimiters(opening: str, closing: str, newline: str) -> None:
    text = f"{opening}\nkey: v\n{closing}\n# Title".replace("\n", newline)
    document = Document.parse(text)
    assert document.front_matter.values == {"key": "v"}
    assert document.title == "Title"
    assert document.to_bytes() == text.encode()


@pytest.mark.parametrize(
    "text",
    [
        "---\nkey: v\n\n# Title\n",
        "---\n\nProse under a thematic break.\n\n---\n\n# Title\n",
        "text\n\n---\nkey: v\n---\n\n# Title\n",
        "# Title\n",
        "",
    ],
)
def test_thematic_break_is_not_a_front_matter(text: str) -> None:
    document = Document.parse(text)
    assert not document.front_matter.present
    assert document.front_matter.values == {}
    assert document.title == ("Title" if text else "")


@pytest.mark.parametrize("inner", ["", "# only a comment\n", "\n\n", "# a\n\n# b\n"])
def test_first_key_can_be_set_in_empty_front_matter(inner: str) -> None:
    document = Document.parse(f"---\n{inner}---\n\n## S\n")
    assert document.front_matter.present
    after = document.with_front_matter("status", "draft")
    assert after.text == f"---\n{inner}status: draft\n---\n\n## S\n"


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("a: 1\nb: {x: 1\nc: 2", 3, 4, "invalid YAML: the { here is not closed"),
        (
            "title: CRM: the new one",
            2,
            8,
            'quote this value: "CRM: the new one"; without quotes, the `: ` in it starts a',
        ),
        ("owner: @crm", 2, 8, 'quote this value: "@crm"; without quotes, a value cannot start with'),
        ("a: *b", 2, 4, "without quotes, a value cannot start with"),
        ('a: "b\nc: 1', 2, 4, 'the " here is not closed'),
        ("a: 1\n  b: 2", 3, 3, "unexpected key: the line above is already a value; check the indentation"),
        ("- a\n- b", 2, 1, "a list, expected lines of `key: value`"),
        ("a: " + "[" * 50_000, 2, 103, "nested deeper"),
        ("a: !!python/name:os.system x", 2, 4, "invalid YAML"),
        ("a: !!map x", 2, 4, "expected a mapping"),
        ("a: !!set x", 2, 4, "expected a mapping"),
    ],
)
def test_invalid_front_matter_is_a_problem_at_its_location(text: str, line: int, column: int, message: str) -> None:
    document = front(text)
    (problem,) = document.front_matter.problems
    assert (problem.line, problem.column, problem.code) == (line, column, "F101")
    assert message in problem.message
    with pytest.raises(EditRejected, match=message):
        document.with_front_matter("status", "draft")


@pytest.mark.parametrize(
    "text", ["---\nspec_id: a\ntype: integration\n\n# Title\n", "\ufeff\n--- \r\ntype: integration"]
)
def test_unclosed_front_matter_is_reported_and_unchanged(text: str) -> None:
    document = Document.parse(text)
    assert not document.front_matter.present
    (problem,) = document.front_matter.problems
    assert (problem.line, problem.column, problem.code) == (text[:2].count("\n") + 1, 1, "F101")
    assert lint(document) == [problem]
    with pytest.raises(EditRejected, match="not closed; add a line with --- after it"):
        document.with_front_matter("status", "draft")


def test_repeated_key_is_a_problem_and_the_last_one_counts() -> None:
    document = front("status: one\nother: x\nstatus: two")
    (problem,) = document.front_matter.problems
    assert (problem.line, problem.column, problem.code) == (4, 1, "F105")
    assert document.front_matter.get("status") == "two"
    after = document.with_front_matter("status", "three")
    assert after.text == document.text.replace("two", "three")


def test_nested_aliases_take_linear_time() -> None:
    levels = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))]
    document = front("\n".join([*levels, "status: draft"]))
    after = document.with_front_matter("status", "approved")
    assert after.text == document.text.replace("draft", "approved")


def test_nested_merges_are_bounded_in_time_and_memory() -> None:
    levels = ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 30))]
    (problem,) = front("\n".join([*levels, "status: draft"])).front_matter.problems
    assert (problem.code, problem.message.rpartition(": ")[2]) == ("F101", "more than 100000 keys in a mapping")


def test_setting_the_status_of_the_template_changes_one_line() -> None:
    document = Document.parse(TEMPLATE)
    after = document.with_front_matter("status", "approved")
    assert after.text == TEMPLATE.replace("status: draft", "status: approved")
    assert after.front_matter.get("spec_id") == {"name": None}


@pytest.mark.parametrize(
    ("line", "after"),
    [
        ("status: draft", "status: done"),
        ("status:   draft   ", "status:   done   "),
        ("status : draft", "status : done"),
        ("status: draft # for now", "status: done # for now"),
        ("status: 'draft'  # for now", "status: 'done'  # for now"),
        ('status: "draft"', 'status: "done"'),
        ("'status': draft", "'status': done"),
        ("status:", "status: done"),
        ("status: ", "status: done"),
        ("status:   # to do", "status: done  # to do"),
        ("status: ~", "status: done"),
        ("status:\n  draft", "status:\n  done"),
        ("status: >\n  two\n  lines\n\n# comment\nnext: 1", "status: done\n\n# comment\nnext: 1"),
        ("status: # why\n- a\n- b\n# comment\nnext: 1", "status: done # why\n# comment\nnext: 1"),
        ("status:\n  a: 1\n  b: [1, 2]\nnext: 1", "status: done\nnext: 1"),
        ("status: {a: 1,\n b: 2} # why", "status: done # why"),
        ("status: !!str draft", "status: done"),
        ("? status\n: draft", "? status\n: done"),
        ("{status: draft, next: 1}", "{status: done, next: 1}"),
        ("  status: draft\n  next: 1", "  status: done\n  next: 1"),
    ],
)
def test_setting_a_value_keeps_comments_quotes_and_alignment(line: str, after: str) -> None:
    assert set_status(line, "done") == after


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain words", "plain words"),
        ("a: b", "'a: b'"),
        ("a #b", "'a #b'"),
        ("a#b", "a#b"),
        ("*a", "'*a'"),
        ("&a", "'&a'"),
        ("!a", "'!a'"),
        ("%a", "'%a'"),
        ("@a", "'@a'"),
        ("- a", "'- a'"),
        ("{a}", "'{a}'"),
        ("yes", "'yes'"),
        ("null", "'null'"),
        ("1.0", "'1.0'"),
        ("1e3", "'1e3'"),
        ("2026-11-24", "'2026-11-24'"),
        ("12:30:00", "'12:30:00'"),
        ("", "''"),
        (" padded ", "' padded '"),
        ("it's", "it's"),
        ('it\'s "both": x', "'it''s \"both\": x'"),
        ("two\nlines", '"two\\nlines"'),
        ("tab\tbed", '"tab\\tbed"'),
        ("\x00\x85\u2028", '"\\u0000\\u0085\\u2028"'),
        ("é 漢字 😀", "é 漢字 😀"),
        ("byte \udcff", '"byte \udcff"'),
    ],
)
def test_string_is_quoted_only_where_it_would_read_as_something_else(value: str, written: str) -> None:
    assert set_status("status: draft", value) == f"status: {written}"


@pytest.mark.parametrize(
    ("value", "written"), [(None, "null"), (True, "true"), (3, "3"), (date(2026, 11, 24), "2026-11-24")]
)
def test_other_values_are_written_plain(value: bool | int | date | None, written: str) -> None:  # noqa: FBT001 - a case
    after = front("status: 'draft'").with_front_matter("status", value)
    assert f"\nstatus: {written}\n" in after.text
    assert after.front_matter.get("status") == value


def test_value_in_braces_is_quoted_by_the_rules_of_braces() -> None:
    assert set_status("{status: draft, next: 1}", "a, b") == "{status: 'a, b', next: 1}"


def test_new_key_is_one_line_at_the_end() -> None:
    document = front("a: 1\nb: |\n  text\n# the end")
    after = document.with_front_matter("on", "x")
    assert after.text == document.text.replace("# the end\n", '# the end\n"on": x\n')
    assert after.front_matter.values == {"a": 1, "b": "text\n", "on": "x"}


def test_file_without_front_matter_gets_one() -> None:
    assert (
        Document.parse("# Title\n").with_front_matter("status", "draft").text == "---\nstatus: draft\n---\n\n# Title\n"
    )
    assert (
        Document.parse("\ufeffa\r\nb").with_front_matter("status", "x").text
        == "\ufeff---\r\nstatus: x\r\n---\r\n\r\na\r\nb"
    )
    assert Document.parse("").with_front_matter("status", "x").text == "---\nstatus: x\n---\n"


def test_value_with_an_alias_cannot_be_removed() -> None:
    document = front("status: &s draft\nother: *s")
    with pytest.raises(EditRejected, match="cannot be set"):
        document.with_front_matter("status", "approved")


@pytest.mark.parametrize(
    "other",
    [
        "a: 2\nstatus: x\nb: [1, {c: d}]",
        "a: '1'\nstatus: x\nb: [1, {c: d}]",
        "a: 1\nstatus: x\nb: [1, {c: e}]",
        "a: 1\nstatus: x\nb: [1, {c: d}, 2]",
        "b: [1, {c: d}]\nstatus: x\na: 1",
        "a: 1\nstatus: x",
        "a: 1\nstatus: x\nb: [1, {c: d}]\ne: 1",
    ],
)
def test_verification_of_an_edit_detects_changes_of_other_keys(other: str) -> None:
    before = front("a: 1\nstatus: draft\nb: [1, {c: d}]").front_matter
    verify_entries(before, front("a: 1\nstatus: x # new\nb: [1, {c: 'd'}]").front_matter, "status")
    with pytest.raises(EditRejected, match="setting 'status' would change other keys"):
        verify_entries(before, front(other).front_matter, "status")
