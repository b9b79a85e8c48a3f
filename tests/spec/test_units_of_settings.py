"""Durations, rates and sizes: their syntax and meaning, and problems of invalid ones."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speclab.spec.settings_types import Rate, format_duration, parse_duration, parse_share, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5400),
        ("24h", 86400),
        ("2 d", 172800),
        ("1w", 604800),
        ("0", 0),
    ],
)
def test_duration_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


def test_bare_zero_is_a_duration_and_any_other_bare_number_is_not() -> None:
    assert parse_duration(0) == 0
    with pytest.raises(ValueError, match="expected a duration such as 30s, 5m or 24h, got 30"):
        parse_duration(30)


@pytest.mark.parametrize("text", ["", "s", "30", "30 seconds", "5min", "-5s", "1h and 2m", False, None, 1.5])
def test_invalid_duration_is_reported_with_an_example(text: object) -> None:
    with pytest.raises(ValueError, match="such as 30s, 5m or 24h"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["36501d", "9" * 400 + "s"])
def test_durations_are_limited_to_valid_dates(text: str) -> None:
    assert datetime.now(UTC) - timedelta(seconds=parse_duration("36500d")) < datetime.now(UTC)
    with pytest.raises(ValueError, match="expected a duration of at most 36500d, got '"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("read", "unit"), [(parse_size, "GB"), (parse_share, "%"), (Rate.parse, "/min"), (Rate.parse, "/1min")]
)
def test_excessive_number_is_rejected(read: Callable[[object], object], unit: str) -> None:
    with pytest.raises(ValueError, match="expected a "):
        read("9" * 5000 + unit)


@given(st.integers(min_value=0, max_value=10**10))
def test_formatted_duration_is_read_back_to_the_millisecond(milliseconds: int) -> None:
    assert round(parse_duration(format_duration(milliseconds / 1000)) * 1000) == milliseconds


def test_duration_is_formatted_in_readable_units() -> None:
    assert [format_duration(seconds) for seconds in (0, 0.5, 1.5, 90, 3600, 86400)] == [
        "0s",
        "500ms",
        "1s500ms",
        "1m30s",
        "1h",
        "1d",
    ]


@pytest.mark.parametrize(
    ("text", "count"), [("10MB", 10_000_000), ("512KiB", 524_288), ("1.5 kb", 1500), ("7B", 7), ("2GiB", 2 * 1024**3)]
)
def test_size_is_decimal_unless_its_unit_says_binary(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["10", 10, "5iB", "MB", "10 bytes", ["10MB"]])
def test_invalid_size_is_reported_with_an_example(text: object) -> None:
    with pytest.raises(ValueError, match="such as 10MB or 512KiB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100/min", Rate(100, 60)),
        ("10/s", Rate(10, 1)),
        ("1000 / 15min", Rate(1000, 900)),
        ("5/hour", Rate(5, 3600)),
        ("1/day", Rate(1, 86400)),
    ],
)
def test_rate_is_a_count_and_a_window(text: str, rate: Rate) -> None:
    assert Rate.parse(text) == rate
    assert Rate.parse(str(rate)) == rate


@pytest.mark.parametrize("text", ["100", "0/min", "100/0s", "100 per minute", "100/fortnight", 100, None])
def test_invalid_rate_is_reported_with_an_example(text: object) -> None:
    with pytest.raises(ValueError, match="such as 100/min or 10/s"):
        Rate.parse(text)
