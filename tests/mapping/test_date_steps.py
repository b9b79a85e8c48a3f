from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speclab.core.json import Json
from speclab.mapping import MappingFailure
from speclab.mapping.steps import STEPS
from speclab.mapping.types import StepError

Apply = Callable[..., Json]


@pytest.mark.parametrize(
    ("cell", "given_", "expected"),
    [
        ("Date", "2024-02-29", "2024-02-29"),
        ('Date("%d/%m/%Y")', "10/12/1815", "1815-12-10"),
        ('Date("%d/%m/%Y")', "1/2/2024", "2024-02-01"),
        ('Date("%Y%m%d")', "20240229", "2024-02-29"),
        ('Date("%d %b %y")', "24 Nov 26", "2026-11-24"),
        ('Date("%Y-%m-%d %H:%M")', "2024-02-29 23:59", "2024-02-29"),
        ('Date("%Y-%m-%d", "%d.%m.%Y")', "2024-02-29", "29.02.2024"),
        ('Date("%Y-%m-%d", "%d.%m.%Y")', "0999-12-31", "31.12.0999"),
        ('Date("%Y-%m-%d", "%Y %%Y %G")', "0001-01-02", "0001 %Y 0001"),
        ('Date("%Y-%m-%d", "%G-%V")', "1000-01-01", "1000-01"),
        ("DateTime", "2024-07-24T12:30:00Z", "2024-07-24T12:30:00Z"),
        ("DateTime", "2024-07-24T14:30:00.5+02:00", "2024-07-24T12:30:00.500000Z"),
        ("DateTime", "2024-07-24 14:30:00+0200", "2024-07-24T12:30:00Z"),
        ('DateTime("iso", "Europe/Berlin")', "2024-07-24T14:30", "2024-07-24T12:30:00Z"),
        ('DateTime("iso", "Europe/Berlin")', "2024-01-24T14:30", "2024-01-24T13:30:00Z"),
        ('DateTime("iso", "Europe/Berlin")', "2024-01-24T14:30Z", "2024-01-24T14:30:00Z"),
        ('DateTime("%d/%m/%Y %H:%M %z")', "24/07/2024 14:30 +0200", "2024-07-24T12:30:00Z"),
        ('DateTime("unix")', 0, "1970-01-01T00:00:00Z"),
        ('DateTime("unix")', 1721824200.25, "2024-07-24T12:30:00.250000Z"),
        ('Decimal, DateTime("unix")', "1721824200.25", "2024-07-24T12:30:00.250000Z"),
        ('Round, DateTime("unix")', 1721824200.25, "2024-07-24T12:30:00Z"),
        ('DateTime("unix_ms")', 1721824200250, "2024-07-24T12:30:00.250000Z"),
        ('DateTime("unix")', -1, "1969-12-31T23:59:59Z"),
        ('DateTime("iso", "Europe/Berlin", "%d.%m.%Y %H:%M")', "2024-07-24T12:30:00Z", "24.07.2024 14:30"),
        ('DateTime("iso", "UTC", "%Y-%m-%d %H:%M")', "0001-01-01T00:30:00Z", "0001-01-01 00:30"),
        ('DateTime("iso", "UTC", "%H:%M")', "2024-07-24T12:30:00Z", "12:30"),
    ],
)
def test_dates_and_times_are_converted(apply: Apply, cell: str, given_: Json, expected: Json) -> None:
    assert apply(cell, given_) == expected


@pytest.mark.parametrize(
    ("cell", "given_", "reason"),
    [
        ('Date("%d/%m/%Y")', "1815-12-10", "expected a date like %d/%m/%Y, got"),
        ('Date("%d/%m/%Y")', "31/02/2024", "expected a date like"),
        ('Date("%d/%m/%Y")', "10/12/15", "expected a date like"),
        ('Date("%d/%m/%Y")', "10/12/1815 ", "expected a date like"),
        ("Date", "2024-02-30", "expected a date like"),
        ("Date", "2024-02-29T10:00:00Z", "expected a date like"),
        ("Date", 20240229, "takes text, not 20240229"),
        ("DateTime", "2024-02-29", "expected an ISO 8601 date and time, got"),
        ("DateTime", "2024-07-24T14:30:00", "has no UTC offset"),
        ("DateTime", "2024-07-24T14:30:00.1234567Z", "with at most microseconds"),
        ("DateTime", "2024-13-24T14:30:00Z", "expected an ISO 8601 date and time"),
        ("DateTime", 1721824200, 'DateTime\\("unix"\\) reads seconds'),
        ('DateTime("unix")', "1721824200", "put Decimal before it"),
        ('DateTime("unix")', 10**15, "between the years 1 and 9999"),
        ('DateTime("%d/%m/%Y %H:%M")', "nonsense", "expected a time like %d/%m/%Y %H:%M, got"),
        ('DateTime("iso", "Europe/Berlin")', "2024-10-27T02:30:00", "skipped or repeated in Europe/Berlin"),
        ('DateTime("iso", "Europe/Berlin")', "2024-03-31T02:30:00", "skipped or repeated in Europe/Berlin"),
        ("DateTime", "0001-01-01T00:00:00+05:00", "between the years 1 and 9999"),
    ],
)
def test_invalid_date_fails(apply: Apply, cell: str, given_: Json, reason: str) -> None:
    with pytest.raises(MappingFailure, match=reason):
        apply(cell, given_)


@given(st.dates(), st.sampled_from(["%d/%m/%Y", "%Y-%m-%d", "%Y%m%d", "%G-%V-%u", "%Y %j"]))
def test_formatted_date_parses_back(day: date, form: str) -> None:
    write, read = STEPS["Date"].make("%Y-%m-%d", form), STEPS["Date"].make(form)
    assert read(write(day.isoformat())) == day.isoformat()  # type: ignore[arg-type]


@given(st.datetimes(), st.sampled_from(["UTC", "Europe/Berlin", "Pacific/Apia", "America/St_Johns", "Asia/Kathmandu"]))
def test_local_time_is_converted_or_fails_if_ambiguous(moment: datetime, zone: str) -> None:
    read, show = STEPS["DateTime"].make("iso", zone), STEPS["DateTime"].make("iso", zone, "%Y-%m-%dT%H:%M:%S.%f")
    written = moment.isoformat()
    try:
        utc = read(written)  # type: ignore[arg-type]
    except StepError as error:
        assert "never or twice" in str(error) or moment.year in {1, 9999}  # noqa: PT017
    else:
        assert show(utc) == moment.isoformat(timespec="microseconds")  # type: ignore[arg-type]


@pytest.mark.parametrize("cell", ["Date", "DateTime"])
def test_null_is_not_a_date(apply: Apply, cell: str) -> None:
    assert apply(cell, None) is None


@given(
    st.sampled_from(["%d/%m/%Y", "%m/%d/%Y", "%Y-%m-%d", "%d.%m.%Y", "%Y/%d-%m"]),
    st.one_of(
        st.dates().map(lambda day: day.strftime("%d/%m/%Y")),
        st.dates().map(date.isoformat),
        st.from_regex(r"[0-9]{1,4}[-/.][0-9W]{1,2}[-/.][0-9]{1,4}", fullmatch=True),
        st.text(alphabet="0123456789/-.W +\u0661", max_size=12),
    ),
)
def test_fast_date_parsing_agrees_with_strptime(form: str, value: str) -> None:
    read = STEPS["Date"].make(form)
    try:
        expected = datetime.strptime(value, form).date().isoformat()  # noqa: DTZ007  # a date has no zone
    except ValueError:
        with pytest.raises(StepError):
            read(value)  # type: ignore[arg-type]
    else:
        assert read(value) == expected  # type: ignore[arg-type]
