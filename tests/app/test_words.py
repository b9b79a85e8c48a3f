"""How figures, times, records and signs read on a screen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color

from speclab.app import formatting
from speclab.app.formatting import AsciiOnly, ago, bar, count, percent, span, until
from speclab.app.views.monitor.integrations import sparkline
from speclab.app.widgets.record import lines
from speclab.core.clock import format_timestamp
from speclab.core.json import Json
from speclab.core.text import format_count
from speclab.monitor.health import Bucket

NOW = datetime(2026, 11, 24, 9, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.4, "0.4 s"), (9.99, "9 s"), (41.7, "41 s"), (60, "1 min"), (3599, "59 min"), (7200, "2 h"), (1e6, "11 d")],
)
def test_a_length_of_time_is_told_in_one_unit(seconds: float, told: str) -> None:
    assert span(seconds) == told


@pytest.mark.parametrize(
    ("seconds", "told"), [(3, "just now"), (-5, "just now"), (61, "1 min ago"), (90000, "1 d ago")]
)
def test_the_past_is_told_from_now(seconds: int, told: str) -> None:
    assert ago(format_timestamp(NOW - timedelta(seconds=seconds)), NOW) == told


@pytest.mark.parametrize(("seconds", "told"), [(-1, "due"), (0.2, "in 1 s"), (41, "in 41 s"), (200, "in 3 min")])
def test_the_future_is_told_from_now(seconds: float, told: str) -> None:
    assert until(format_timestamp(NOW + timedelta(seconds=seconds)), NOW) == told


@pytest.mark.parametrize(
    ("share", "told"),
    [(1.0, "100.0 %"), (0.99999, "99.9 %"), (0.912, "91.2 %"), (0.0, "0.0 %"), (None, formatting.NOTHING)],
)
def test_a_share_is_rounded_down_so_that_only_all_is_all(share: float | None, told: str) -> None:
    assert percent(share) == told


def test_counts_have_their_thousands_apart_and_words_their_plural() -> None:
    assert count(1234567) == "1,234,567"
    assert [format_count(1, "record"), format_count(1200, "record"), format_count(2, "entry", "entries")] == [
        "1 record",
        "1,200 records",
        "2 entries",
    ]


def test_a_bar_is_never_longer_than_its_width() -> None:
    assert [bar(share, 4) for share in (-1, 0, 0.5, 1, 7)] == ["░░░░", "░░░░", "██░░", "████", "████"]


def test_a_sparkline_shows_the_worst_low_and_nothing_blank() -> None:
    buckets = [Bucket(100, 100), Bucket(0, 0), Bucket(90, 100), Bucket(10, 100)]
    assert sparkline(buckets, 4) == "▇ ▄▁"
    assert sparkline(buckets, 2) == "▇▁"


# Records


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"id": "c_1", "n": 1.5, "ok": True, "none": None}, ["id: c_1", "n: 1.5", "ok: true", "none: null"]),
        ({"a": "Ada ", "b": "", "c": "1"}, ['a: "Ada "', 'b: ""', 'c: "1"']),
        ({"d": "true", "e": "x: y"}, ['d: "true"', 'e: "x: y"']),
        ({"name": {"given": "Ada"}, "tags": ["a", "b"]}, ["name: {given: Ada}", "tags: [a, b]"]),
        ({"name": {"given": "Ada", "family": "Lovelace"}}, ["name:", "  given: Ada", "  family: Lovelace"]),
        ([], ["[]"]),
        ("text\nwith a break", ['"text\\nwith a break"']),
    ],
)  # fmt: skip
def test_a_record_is_told_field_by_field_quoted_only_where_it_must_be(value: Json, told: list[str]) -> None:
    assert [cell.text for cell in lines(value, 24)] == told


jsons = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)


@given(jsons)
def test_every_value_can_be_told_at_any_width(value: Json) -> None:
    for width in (1, 80):
        for cell in lines(value, width):
            assert "\n" not in cell.text


# Signs


def test_each_status_is_told_by_sign_and_word_and_no_two_share_one() -> None:
    marks = formatting.MARKS
    assert len({mark.glyph for mark in marks}) == len({mark.word for mark in marks}) == len(marks)


def test_every_sign_has_a_twin_in_ascii_of_the_same_width() -> None:
    own = [value for name, value in vars(formatting).items() if name.isupper() and isinstance(value, str)]
    signs = "".join(own) + "".join(mark.glyph for mark in formatting.MARKS) + "┼┬├┌╭╮╰╯│▁▅█"
    (drawn,) = AsciiOnly().apply([Segment(signs)], Color(0, 0, 0))
    assert drawn.text.isascii()
    assert len(drawn.text) == cell_len(signs)


def test_text_from_a_file_is_not_turned_to_ascii() -> None:
    (drawn,) = AsciiOnly().apply([Segment("Grüße, 東京")], Color(0, 0, 0))
    assert drawn.text == "Grüße, 東京"
