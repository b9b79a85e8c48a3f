"""A section goes through the text editor and comes back with only what was touched changed."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speclab.app.specs.body import EditableBody
from speclab.errors import EditRefused

ODD = "a\r\nb\rc\nd \x0b e\x85f\u2028g\n\n  tail\t"


def test_lines_end_where_a_spec_ends_them_and_nowhere_else() -> None:
    shown = EditableBody.of(ODD, "\n").shown
    assert shown.split("\n") == ["a", "b", "c", "d ␋ e␤f↵g", "", "  tail\t"]
    assert shown.splitlines() == shown.split("\n")


def test_what_was_not_touched_keeps_every_byte() -> None:
    body = EditableBody.of(ODD, "\n")
    edited = body.shown.replace("c", "C", 1)
    assert body.woven(edited) == ODD.replace("c", "C", 1)


def test_a_new_line_ends_as_the_document_does_and_its_neighbours_as_before() -> None:
    body = EditableBody.of("one\rtwo\nthree", "\r\n")
    assert body.woven("one\nnew\ntwo\nthree") == "one\rnew\r\ntwo\nthree"


def test_a_line_that_was_changed_keeps_its_own_end() -> None:
    body = EditableBody.of("one\r\ntwo\rthree\n", "\n")
    assert body.woven("one\nTWO\nthree\n") == "one\r\nTWO\rthree\n"


def test_a_control_character_in_a_changed_line_comes_back() -> None:
    body = EditableBody.of("a\x0bb\n", "\n")
    assert body.woven("a␋b!\n") == "a\x0bb!\n"


def test_a_picture_that_stands_for_itself_is_left_alone() -> None:
    body = EditableBody.of("a ␋ b\n", "\n")
    assert body.woven("a ␋ c\n") == "a ␋ c\n"


@pytest.mark.parametrize("body", ["caf\udce9\n", "␋ and \x0b\n"])
def test_a_body_that_would_not_come_back_is_refused_with_a_way_out(body: str) -> None:
    with pytest.raises(EditRefused) as refused:
        EditableBody.of(body, "\n")
    assert "$EDITOR" in refused.value.hint


_TEXT = st.text(alphabet=st.sampled_from("ab \t\r\n\x0b\x0c\x1c\x85\u2028\u2029|#"), max_size=60)


@given(_TEXT)
def test_any_body_unedited_is_itself(body: str) -> None:
    editable = EditableBody.of(body, "\n")
    assert editable.woven(editable.shown) == body
    assert (editable.shown + "$").splitlines() == (editable.shown + "$").split("\n")


@given(_TEXT, st.data())
def test_one_changed_line_changes_no_other(body: str, data: st.DataObject) -> None:
    editable = EditableBody.of(body, "\n")
    lines = editable.shown.split("\n")
    at = data.draw(st.integers(0, len(lines) - 1))
    lines[at] += "new"
    spans = list(re.finditer(r"\r\n|\n|\r|$", body))
    end = spans[at].start()
    assert editable.woven("\n".join(lines)) == body[:end] + "new" + body[end:]
