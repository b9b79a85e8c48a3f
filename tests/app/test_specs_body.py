"""A section is edited as text, and only its changed lines change in the file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speclab.app.views.specs.editor import EditableBody
from speclab.core.errors import EditRejected
from speclab.spec.document import Document

ODD = "a\r\nb\rc\nd \x0b e\x85f\u2028g\n\n  tail\t"


def test_lines_end_only_where_a_spec_ends_them() -> None:
    shown = EditableBody.of(ODD).shown
    assert shown.split("\n") == ["a", "b", "c", "d ␋ e␤f↵g", "", "  tail\t"]
    assert shown.splitlines() == shown.split("\n")


def test_unchanged_text_keeps_every_byte_in_the_file() -> None:
    document = Document.parse(f"# Spec\n\n## One\n\n{ODD}\n\n## Two\n")
    section = document.section("One")
    body = EditableBody.of(document.body(section))
    edited = body.shown.replace("c", "C", 1)
    after = document.with_body(section, body.restore(edited))
    assert after.text == document.text.replace("c\nd", "C\nd", 1)


def test_control_character_in_a_changed_line_is_restored() -> None:
    body = EditableBody.of("a\x0bb\n")
    assert body.restore("a␋b!\n") == "a\x0bb!\n"


def test_literal_control_picture_stays_unchanged() -> None:
    body = EditableBody.of("a ␋ b\n")
    assert body.restore("a ␋ c\n") == "a ␋ c\n"


def test_every_control_character_is_shown_as_a_picture_and_restored() -> None:
    odd = "".join(map(chr, [*range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]))
    body = EditableBody.of(f"a{odd}b\n")
    assert body.shown.strip().isprintable()
    assert len(set(body.shown)) == len(odd) + 3
    assert body.restore(body.shown + "more") == body.body + "more"


@pytest.mark.parametrize("body", ["caf\udce9\n", "␋ and \x0b\n"])
def test_body_that_cannot_be_restored_is_rejected_with_a_hint(body: str) -> None:
    with pytest.raises(EditRejected) as rejected:
        EditableBody.of(body)
    assert "$EDITOR" in rejected.value.hint


@given(st.text(alphabet=st.sampled_from("ab \t\r\n\x0b\x0c\x1c\x85\x9b\u2028\u2029\u202e\u2067|#"), max_size=60))
def test_any_body_is_unchanged_without_edits_and_has_the_same_lines_in_the_editor(body: str) -> None:
    editable = EditableBody.of(body)
    assert editable.restore(editable.shown) == body
    assert (editable.shown + "$").splitlines() == (editable.shown + "$").split("\n")
