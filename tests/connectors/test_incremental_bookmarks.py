from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speclab.connectors.incremental import (
    Bookmark,
    IncomparableValues,
    Watermark,
    build_time_ceiling,
    build_value_ceiling,
    compute_digest,
    subtract_seconds,
)
from speclab.core.json import Json, Record
from speclab.core.paths import FieldPath

AT = FieldPath.parse("at")
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def read(values: list[Json], before: Bookmark | None = None) -> tuple[list[Record], Bookmark | None]:
    """Read records with these values, two per page; return the delivered ones and the new bookmark."""
    watermark = Watermark(AT, build_time_ceiling(NOON), before=before)
    records: list[Record] = [{"id": at, "at": value} for at, value in enumerate(values)]
    fresh = [record for at in range(0, len(records), 2) for record in watermark.advance(records[at : at + 2])]
    return fresh, watermark.get_reached()


@given(st.lists(st.integers(0, 5)), st.integers(0, 5))
def test_repeated_records_are_delivered_once_and_new_ones_always(values: list[int], more: int) -> None:
    first: list[Json] = [*values]
    delivered, mark = read(first)
    assert len(delivered) == len(values)
    again, after = read([*first, more], mark)
    boundary = max(values, default=-1)
    expected = [at for at, value in enumerate([*values, more]) if value < boundary or at == len(values)]
    assert [record["id"] for record in again] == expected  # an inclusive request returns nothing below the boundary
    assert after is not None
    assert after.value == max([*values, more])


def test_bookmark_survives_the_checkpoint() -> None:
    _, mark = read(["2024-01-01", "2024-01-02", "2024-01-02"])
    assert mark is not None
    assert Bookmark.load(mark.dump()) == mark
    assert Bookmark.load({"value": None, "ties": []}) is None
    assert Bookmark.load("2024-01-01") is None


def test_too_many_ties_are_not_kept() -> None:
    _, mark = read(["2024-01-01"] * 1001)
    assert mark == Bookmark("2024-01-01", ())


def test_bookmark_never_moves_back() -> None:
    before = Bookmark("2024-06-01", ("x",))
    _, mark = read(["2024-01-01", None, True, []], before)
    assert mark == before


def test_times_are_compared_as_times_in_any_notation() -> None:
    _, mark = read(["2024-01-01T12:00:00+02:00", "2024-01-01T10:30:00Z", "2024-01-01 09:00:00"])
    assert mark is not None
    assert mark.value == "2024-01-01T10:30:00Z"


def test_incomparable_values_are_rejected() -> None:
    with pytest.raises(IncomparableValues, match=r"7 \(a number\) and "):
        read(["2024-01-01", 7])
    with pytest.raises(IncomparableValues, match=r"7 \(a number\) and "):
        read([7], Bookmark("2024-01-01"))


@pytest.mark.parametrize(
    ("value", "ceiling"),
    [
        ("2026-11-24T13:00:00Z", "2026-11-24T12:00:00Z"),
        ("2026-11-24T14:00:00.123+01:00", "2026-11-24T13:00:00.000+01:00"),
        ("2026-11-24 13:00:00", "2026-11-24 12:00:00"),
        ("2099-01-01", "2026-11-24"),
        ("20990101", "20261124"),
        ("20261124T130000Z", "20261124T120000Z"),
        ("20261124T080000.123-0500", "20261124T070000.000-0500"),
        (int(NOON.timestamp()) + 60, int(NOON.timestamp())),
        (NOON.timestamp() * 1000 + 60, NOON.timestamp() * 1000),
        ("2026-11-24T11:00:00Z", "2026-11-24T11:00:00Z"),
        (1_000_000, 1_000_000),
        (9_999_999_999, 9_999_999_999),
        ("v2", "v2"),
    ],
)
def test_time_ceiling_keeps_the_notation_and_ignores_other_values(value: str | float, ceiling: str | float) -> None:
    assert build_time_ceiling(NOON)(value) == ceiling


def test_value_ceiling_limits_values() -> None:
    assert [build_value_ceiling(5)(value) for value in (4, 5, 6)] == [4, 5, 5]


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)), st.integers(0, 10**6))  # noqa: DTZ001
def test_subtract_seconds_keeps_the_notation(moment: datetime, seconds: int) -> None:
    text = moment.replace(tzinfo=UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    found = subtract_seconds(text, seconds)
    assert isinstance(found, str)
    assert found.endswith("Z")
    assert len(found) == len(text)
    assert datetime.fromisoformat(text) - datetime.fromisoformat(found) == timedelta(seconds=seconds)


@pytest.mark.parametrize("value", ["0001-01-01", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+02:00"])
def test_earliest_time_stays_unchanged(value: str) -> None:
    assert subtract_seconds(value, 300) == value


def test_digest_ignores_the_order_of_keys() -> None:
    assert compute_digest({"a": 1, "b": 2}) == compute_digest({"b": 2, "a": 1}) != compute_digest({"a": 1, "b": 3})
