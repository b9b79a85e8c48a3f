"""Formatting of figures, times, records and icons on a screen."""

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
    ("seconds", "expected"),
    [(0.4, "0.4 s"), (9.99, "9 s"), (41.7, "41 s"), (60, "1 min"), (3599, "59 min"), (7200, "2 h"), (1e6, "11 d")],
)
def test_duration_is_formatted_in_one_unit(seconds: float, expected: str) -> None:
    assert span(seconds) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"), [(3, "just now"), (-5, "just now"), (61, "1 min ago"), (90000, "1 d ago")]
)
def test_past_times_are_relative_to_now(seconds: int, expected: str) -> None:
    assert ago(format_timestamp(NOW - timedelta(seconds=seconds)), NOW) == expected


@pytest.mark.parametrize(("seconds", "expected"), [(-1, "due"), (0.2, "in 1 s"), (41, "in 41 s"), (200, "in 3 min")])
def test_future_times_are_relative_to_now(seconds: float, expected: str) -> None:
    assert until(format_timestamp(NOW + timedelta(seconds=seconds)), NOW) == expected


@pytest.mark.parametrize(
    ("share", "expected"),
    [(1.0, "100.0 %"), (0.99999, "99.9 %"), (0.912, "91.2 %"), (0.0, "0.0 %"), (None, formatting.NOTHING)],
)
def test_share_is_rounded_down_so_that_100_percent_means_all(share: float | None, expected: str) -> None:
    assert percent(share) == expected


def test_counts_have_thousands_separators_and_plurals() -> None:
    assert count(1234567) == "1,234,567"
    assert [format_count(1, "record"), format_count(1200, "record"), format_count(2, "entry", "entries")] == [
        "1 record",
        "1,200 records",
        "2 entries",
    ]


def test_bar_is_never_longer_than_its_width() -> None:
    assert [bar(share, 4) for share in (-1, 0, 0.5, 1, 7)] == ["░░░░", "░░░░", "██░░", "████", "████"]


def test_sparkline_shows_the_worst_value_low_and_no_blanks() -> None:
    buckets = [Bucket(100, 100), Bucket(0, 0), Bucket(90, 100), Bucket(10, 100)]
    assert sparkline(buckets, 4) == "▇ ▄▁"
    assert sparkline(buckets, 2) == "▇▁"


# Records


@pytest.mark.parametrize(
    ("value", "expected"),
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
def test_record_is_listed_field_by_field_and_quoted_only_where_needed(value: Json, expected: list[str]) -> None:
    assert [cell.text for cell in lines(value, 24)] == expected


jsons = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)


@given(jsons)
def test_every_value_can_be_formatted_at_any_width(value: Json) -> None:
    for width in (1, 80):
        for cell in lines(value, width):
            assert "\n" not in cell.text


# Icons


def test_each_status_has_a_distinct_icon_and_word() -> None:
    marks = formatting.MARKS
    assert len({mark.glyph for mark in marks}) == len({mark.word for mark in marks}) == len(marks)


def test_every_icon_has_an_ascii_form_of_the_same_width() -> None:
    own = [value for name, value in vars(formatting).items() if name.isupper() and isinstance(value, str)]
    signs = "".join(own) + "".join(mark.glyph for mark in formatting.MARKS) + "┼┬├┌╭╮╰╯│▁▅█"
    (drawn,) = AsciiOnly().apply([Segment(signs)], Color(0, 0, 0))
    assert drawn.text.isascii()
    assert len(drawn.text) == cell_len(signs)


def test_text_from_a_file_is_not_converted_to_ascii() -> None:
    (drawn,) = AsciiOnly().apply([Segment("Grüße, 東京")], Color(0, 0, 0))
    assert drawn.text == "Grüße, 東京"
