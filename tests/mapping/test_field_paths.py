from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speclab.core.json import Json
from speclab.core.paths import FieldPath, PathSyntaxError

PARTS = st.tuples(st.text(), st.lists(st.one_of(st.text(), st.integers(0, 99)), max_size=3))


@given(PARTS)
def test_rendered_path_parses_back(parts: tuple[str, list[str | int]]) -> None:
    path = FieldPath((parts[0], *parts[1]))
    assert FieldPath.parse(str(path)) == path


@pytest.mark.parametrize(
    ("text", "offset", "message"),
    [
        ("", 0, "a path is empty"),
        ("a.", 2, "a name is missing at the end"),
        ("a b", 1, "unexpected ' '"),
        (r'a["C:\dir"]', 5, r"in quotes a backslash is written \\ and a tab \t, as in JSON"),
        ('["a\tb"]', 3, r"in quotes a backslash is written \\ and a tab \t, as in JSON"),
        ("a[" + "9" * 5000 + "]", 1, "unexpected '['"),
    ],
)
def test_invalid_path_has_a_position(text: str, offset: int, message: str) -> None:
    with pytest.raises(PathSyntaxError) as caught:
        FieldPath.parse(text)
    assert (caught.value.offset, str(caught.value)) == (offset, message)


@pytest.mark.parametrize("value", ["Ada", {"a": 1}, 5, None, []])
def test_only_a_list_has_items(value: Json) -> None:
    with pytest.raises(KeyError):
        FieldPath.parse("name[0]").get({"name": value})
