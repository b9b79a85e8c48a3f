"""When a spec runs next: times, time zones, daylight saving changes, jitter, and pauses of real-time specs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import TZPATH, ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speclab.core.errors import UsageError
from speclab.service.run_queue import (
    JITTER,
    LONGEST_PAUSE,
    SHORTEST_PAUSE,
    compute_jitter,
    compute_next_pause,
    compute_next_slot,
    compute_next_start,
    find_local_zone,
)
from speclab.spec.integration import Schedule

BERLIN = ZoneInfo("Europe/Berlin")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")  # its summer time is half an hour
HOURLY = Schedule("hourly", "Hourly")
NIGHTLY = Schedule("daily", "Daily at 02:30 Europe/Berlin", at="02:30", zone="Europe/Berlin")
QUARTERLY = Schedule("every", "Every 15 minutes", every=900.0)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def cron(expression: str, zone: str | None = None) -> Schedule:
    return Schedule("cron", expression, cron=expression, zone=zone)


def slots(schedule: Schedule, after: datetime, count: int, local: ZoneInfo = BERLIN) -> list[str]:
    """Return the next times in the clock of the machine."""
    found = []
    for _ in range(count):
        moment = compute_next_slot(schedule, after, local)
        assert moment is not None
        found.append(moment.astimezone(local).strftime("%d %H:%M"))
        after = moment
    return found


def test_hourly_is_at_the_full_hour_of_the_machine() -> None:
    assert slots(HOURLY, at("2026-03-28 22:59"), 4) == ["29 00:00", "29 01:00", "29 03:00", "29 04:00"]
    assert slots(HOURLY, at("2026-03-28 22:59"), 2, ZoneInfo("Asia/Kolkata")) == ["29 05:00", "29 06:00"]


def test_time_of_day_with_a_zone_does_not_depend_on_the_machine() -> None:
    assert compute_next_slot(NIGHTLY, at("2026-01-10 12:00"), UTC) == at("2026-01-11 01:30")
    assert compute_next_slot(NIGHTLY, at("2026-07-10 12:00"), UTC) == at("2026-07-11 00:30")


def test_time_of_day_without_a_zone_is_in_the_zone_of_the_machine() -> None:
    daily = Schedule("daily", "Daily at 02:30", at="02:30")
    assert compute_next_slot(daily, at("2026-01-10 12:00"), BERLIN) == at("2026-01-11 01:30")
    assert compute_next_slot(daily, at("2026-01-10 12:00"), UTC) == at("2026-01-11 02:30")


def test_skipped_time_of_day_is_the_first_minute_after_the_gap() -> None:
    assert slots(NIGHTLY, at("2026-03-27 12:00"), 3) == ["28 02:30", "29 03:00", "30 02:30"]
    assert slots(cron("15 2,3 * * *"), at("2026-03-28 12:00"), 3) == ["29 03:00", "29 03:15", "30 02:15"]


def test_repeated_time_of_day_is_the_first_one() -> None:
    assert compute_next_slot(NIGHTLY, at("2026-10-24 12:00"), UTC) == at("2026-10-25 00:30")
    assert compute_next_slot(NIGHTLY, at("2026-10-25 00:30"), UTC) == at("2026-10-26 01:30")
    in_the_second_round = at("2026-10-25 01:10")
    assert compute_next_slot(NIGHTLY, in_the_second_round, UTC) == at("2026-10-26 01:30")


def test_hours_and_even_minutes_skip_and_repeat_nothing_when_clocks_change() -> None:
    for before in (at("2026-03-28 23:45"), at("2026-10-24 22:45")):
        for schedule, step in ((HOURLY, 3600), (cron("*/20 * * * *"), 1200), (cron("0 * * * *"), 3600)):
            moments = [before]
            for _ in range(12):
                moment = compute_next_slot(schedule, moments[-1], BERLIN)
                assert moment is not None
                moments.append(moment)
            assert {(b - a).total_seconds() for a, b in pairwise(moments[1:])} == {step}


def test_gap_of_half_an_hour_is_a_gap_too() -> None:
    daily = Schedule("daily", "Daily at 02:15", at="02:15", zone="Australia/Lord_Howe")
    assert slots(daily, at("2026-10-02 20:00"), 2, LORD_HOWE) == ["04 02:30", "05 02:15"]


def test_even_steps_are_the_same_for_all_specs_and_weeks_begin_on_mondays() -> None:
    assert compute_next_slot(QUARTERLY, at("2026-11-24 10:07"), BERLIN) == at("2026-11-24 10:15")
    assert compute_next_slot(QUARTERLY, at("2026-11-24 10:15"), BERLIN) == at("2026-11-24 10:30")
    weekly = Schedule("every", "Every week", every=7 * 86400.0)
    assert compute_next_slot(weekly, at("2026-11-24 10:07"), BERLIN) == at("2026-11-30 00:00")


def test_cron_with_weekdays_in_its_own_zone() -> None:
    office = cron("0 9 * * MON-FRI", "America/New_York")
    assert compute_next_slot(office, at("2026-11-27 14:30"), UTC) == at("2026-11-30 14:00")


@pytest.mark.parametrize("kind", ["on_demand", "real_time"])
def test_frequency_without_times_has_no_next_time(kind: str) -> None:
    assert compute_next_slot(Schedule(kind, ""), at("2026-11-24 10:00"), UTC) is None
    assert compute_next_start(Schedule(kind, ""), "people", at("2026-11-24 10:00"), UTC) is None


def test_unknown_zone_is_reported_with_its_location() -> None:
    with pytest.raises(UsageError, match=r"Daily at 02:00 Europe/Atlantis.*unknown time zone 'Europe/Atlantis'"):
        compute_next_slot(
            Schedule("daily", "Daily at 02:00 Europe/Atlantis", at="02:00", zone="Europe/Atlantis"),
            at("2026-01-01"),
            UTC,
        )


def test_zone_of_the_machine_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", ":America/New_York")
    assert at("2026-07-01 12:00").astimezone(find_local_zone()).hour == 8
    monkeypatch.setenv("TZ", "Nowhere/Land")
    with pytest.raises(UsageError, match="TZ in the environment"):
        find_local_zone()
    monkeypatch.setenv("TZ", "")
    assert find_local_zone() is UTC
    monkeypatch.delenv("TZ")
    assert find_local_zone().utcoffset(datetime(2026, 7, 1)) is not None  # noqa: DTZ001 - as tzinfo takes it


def test_environment_may_name_a_zone_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = [path for path in map(Path, TZPATH) if (path / "America/New_York").exists()][:1]
    monkeypatch.setenv("TZ", f":{found}/America/New_York")
    assert at("2026-07-01 12:00").astimezone(find_local_zone()).hour == 8
    (tmp_path / "text").write_text("New York")
    for no_zone in ("text", "gone", ""):
        monkeypatch.setenv("TZ", f"{tmp_path / no_zone}")
        with pytest.raises(UsageError, match=f"{tmp_path / no_zone}: not a time zone: "):
            find_local_zone()


moments = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
zones = st.sampled_from([BERLIN, LORD_HOWE, ZoneInfo("America/St_Johns"), ZoneInfo("UTC"), ZoneInfo("Asia/Kathmandu")])
schedules = st.one_of(
    st.just(HOURLY),
    st.integers(1, 10**6).map(lambda seconds: Schedule("every", "", every=float(seconds))),
    st.times().map(lambda time: Schedule("daily", "", at=f"{time:%H:%M}")),
    st.builds("{} {} * * *".format, st.integers(0, 59), st.integers(0, 23)).map(cron),
    st.builds("*/{} * * * *".format, st.integers(1, 59)).map(cron),
    st.builds("{} */{} * * {}".format, st.integers(0, 59), st.integers(1, 23), st.integers(0, 6)).map(cron),
)


@given(schedules, moments, zones)
def test_next_time_is_later_without_another_in_between(schedule: Schedule, after: datetime, zone: ZoneInfo) -> None:
    slot = compute_next_slot(schedule, after, zone)
    assert slot is not None
    assert slot > after
    middle = after + (slot - after) / 2
    assert compute_next_slot(schedule, middle, zone) == slot
    assert compute_next_slot(schedule, slot - timedelta(seconds=1), zone) == slot


@given(schedules, moments, zones, st.text(max_size=20))
def test_start_is_between_its_time_and_the_next(
    schedule: Schedule, after: datetime, zone: ZoneInfo, spec_id: str
) -> None:
    slot, start = compute_next_slot(schedule, after, zone), compute_next_start(schedule, spec_id, after, zone)
    assert slot is not None
    assert start is not None
    following = compute_next_slot(schedule, slot, zone)
    assert following is not None
    assert slot <= start < following
    assert (start - slot).total_seconds() <= JITTER


@given(st.text(), st.floats(0.001, 10**9))
def test_jitter_is_a_constant_share_of_a_tenth_of_the_gap(spec_id: str, gap: float) -> None:
    assert 0 <= compute_jitter(spec_id, gap) <= min(gap / 10, JITTER)
    assert compute_jitter(spec_id, gap) == compute_jitter(spec_id, gap)


def test_jitter_spreads_specs() -> None:
    starts = sorted(compute_jitter(f"spec-{number}", 3600) for number in range(200))
    assert starts[20] < 6 < 24 < starts[-20]


@given(st.floats(SHORTEST_PAUSE, LONGEST_PAUSE))
def test_real_time_spec_polls_quickly_while_there_are_changes_and_then_slows_down(pause: float) -> None:
    assert compute_next_pause(pause, has_changes=True) == SHORTEST_PAUSE
    assert pause <= compute_next_pause(pause, has_changes=False) <= LONGEST_PAUSE
    for _ in range(6):
        pause = compute_next_pause(pause, has_changes=False)
    assert pause == LONGEST_PAUSE
