from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speclab.core.json import Json
from speclab.mapping import MappingFailure
from speclab.mapping.steps import STEPS

Apply = Callable[..., Json]


@pytest.mark.parametrize(
    ("cell", "given_", "expected"),
    [
        ("Trim", "\t a b\u00a0\n", "a b"),
        ("Uppercase", "straße", "STRASSE"),
        ("Lowercase", "ÉÀ", "éà"),
        ("Title", "it's o'neil's MARY-jane", "It's O'Neil's Mary-Jane"),
        ("Title", "élodie d’or", "Élodie D’Or"),  # noqa: RUF001
        ("Title", "e\u0301LODIE D'OR", "E\u0301lodie D'Or"),
        ('Replace("a", "")', "banana", "bnn"),
        ('Replace(".", ",")', "1.5", "1,5"),
        ("Truncate(0)", "abc", ""),
        ("Truncate(5)", "abc", "abc"),
        ("Pad(5)", "42", "00042"),
        ('Pad(3, "x")', "abcd", "abcd"),
        ('Split(",")', "a,b,,c", ["a", "b", "", "c"]),
        ('Split(",")', "", []),
        ('Split(" ", 0)', "Ada Lovelace", "Ada"),
        ('Split(" ", -1)', "Ada Lovelace", "Lovelace"),
        ('Split(" ", 2)', "Ada Lovelace", None),
        ('Split(" ", -3)', "Ada Lovelace", None),
        (r'RegexReplace("\s+", " ")', "a \t b", "a b"),
        (r'RegexReplace("(\d+)-(\d+)", "\2.\1")', "x 12-34", "x 34.12"),
        ('RegexReplace("(a)|b", "<\\1>")', "ab", "<a><>"),
        ('RegexReplace("$", "!")', "aé", "aé!"),
        ('RegexReplace("(?m)^", "> ")', "a\nb", "> a\n> b"),
        (r'RegexReplace("x*", "-")', "abxc", "-a-b--c-"),
        (r'RegexExtract("\d+")', "no 42 or 43", "42"),
        (r'RegexExtract("\d+")', "none", None),
        ('RegexExtract("(a)|b", 1)', "b", None),
        ("Hash", "Ada", hashlib.sha256(b"Ada").hexdigest()),
        ('Hash("md5")', "é", hashlib.md5("é".encode(), usedforsecurity=False).hexdigest()),
        ("Hash", 12, hashlib.sha256(b"12").hexdigest()),
        ("Hash", True, hashlib.sha256(b"true").hexdigest()),
    ],
)
def test_text_is_converted(apply: Apply, cell: str, given_: Json, expected: Json) -> None:
    assert apply(cell, given_) == expected


TEXT_STEPS = ["Trim", "Uppercase", "Lowercase", "Title", 'Replace("a", "b")', "Truncate(1)", "Pad(2)", 'Split(",")']


@pytest.mark.parametrize("cell", [*TEXT_STEPS, "Hash", r'RegexReplace("a", "b")', 'RegexExtract("a")'])
def test_null_passes_through(apply: Apply, cell: str) -> None:
    assert apply(cell, None) is None


@pytest.mark.parametrize("cell", TEXT_STEPS)
@pytest.mark.parametrize("value", [5, 1.5, True, ["a"], {"a": 1}])
def test_values_that_are_not_text_fail(apply: Apply, cell: str, value: Json) -> None:
    with pytest.raises(MappingFailure, match="takes text, not"):
        apply(cell, value)


def test_number_for_a_text_step_suggests_text(apply: Apply) -> None:
    with pytest.raises(MappingFailure, match="takes text, not 1067; put Text before it"):
        apply("Pad(5)", 1067)
    assert apply("Text, Pad(5)", 1067) == "01067"


def test_half_a_surrogate_pair_can_be_hashed_but_not_searched(apply: Apply) -> None:
    with pytest.raises(MappingFailure, match="half a surrogate pair"):
        apply('RegexExtract("a")', "\ud800")
    assert apply("Hash", "\ud800") == hashlib.sha256(b"\xed\xa0\x80").hexdigest()


@given(
    st.sampled_from(["x*", "a|", "(a)(é)?", "[^a]", "^", r"\A", r"\z", "(a|é)*", "(?m)^", "(?s).", "", "a*$"]),
    st.text(alphabet="aéx😀\n", max_size=8),
)
def test_regex_replace_agrees_with_python(pattern: str, value: str) -> None:
    replace = STEPS["RegexReplace"].make(pattern, r"<\0>")
    pythons = pattern.replace(r"\z", r"\Z").replace("$", r"\Z")
    assert replace(value) == re.sub(pythons, lambda found: f"<{found[0]}>", value)  # type: ignore[arg-type]


@given(st.text(), st.text(min_size=1), st.text())
def test_replace_is_literal(value: str, old: str, new: str) -> None:
    replace = STEPS["Replace"].make(old, new)
    assert replace(value) == value.replace(old, new)  # type: ignore[arg-type]
