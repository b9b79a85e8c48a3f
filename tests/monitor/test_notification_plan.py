"""Who is notified of an alert, when, and of what: decided with the states of alerts, without sending anything."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.monitor.conftest import World

from speclab.core.outcome import AlertState, NoticeState
from speclab.monitor.alerts import DEAD_LETTERS, FAILED, OVERDUE, SCHEDULER, WatchedSpec, evaluate_alerts, get_period
from speclab.monitor.alerts import build_standard_alerts as standard
from speclab.runlog.outbox import get_notices
from speclab.spec.integration import Alert, Schedule
from speclab.spec.notifications import NotificationSettings

OPS: dict[str, Any] = {"ops": {"webhook": "https://ops.example"}, "team": {"webhook": "https://team.example"}}


def settings(**more: object) -> NotificationSettings:
    return NotificationSettings.model_validate({"channels": OPS, "on": {"failed": "ops"}, **more})


def dead(notify: str = "ops", hold: float = 0.0, name: str = "Too many", severity: str = "warning") -> Alert:
    return Alert(name, "dead_letters() > 0", hold, notify, 90, severity)


def evaluate(world: World, found: NotificationSettings, *alerts: Alert, outage: str | None = None) -> list[str]:
    """The notifications that an evaluation adds, as `kind alert -> channel`."""
    last = max((row.id for row in get_notices(world.reader)), default=0)
    evaluate_alerts(world.log, world.reader, WatchedSpec("crm", "CRM", alerts, found), world.now, outage)
    rows = [row for row in reversed(get_notices(world.reader)) if row.id > last]
    return [f"{row.kind} {row.alert} -> {row.channel}" for row in rows]


def discard_all(world: World) -> None:
    world.log.discard([failure.id for failure in world.reader.failures()], "test")


def test_a_channel_is_notified_once_when_an_alert_fires_and_once_when_it_is_resolved(world: World) -> None:
    world.run(dead=1)
    assert evaluate(world, settings(), dead(hold=60)) == []
    world.wait(minutes=1)
    assert evaluate(world, settings(), dead(hold=60)) == ["firing Too many -> ops"]
    world.wait(minutes=1)
    assert evaluate(world, settings(), dead(hold=60)) == []
    discard_all(world)
    assert evaluate(world, settings(), dead(hold=60)) == ["resolved Too many -> ops"]
    assert evaluate(world, settings(), dead(hold=60)) == []


def test_channels_are_those_of_the_row_then_those_of_the_setting(world: World) -> None:
    world.run(dead=1)
    assert evaluate(world, settings(), dead("team, `ops`, unknown", name="a"), dead("", name="b")) == [
        "firing a -> team", "firing a -> ops", "firing b -> ops",
    ]  # fmt: skip
    other = settings(on={"alerts": "team", "recovered": ["log", "ops"]})
    assert evaluate(world, other, dead("unknown", name="c")) == ["firing c -> team", *[
        f"resolved {name} -> {channel}" for name in ("a", "b") for channel in ("log", "ops")
    ]]  # fmt: skip


def test_an_integration_without_channels_notifies_no_channel_until_it_has_some(world: World) -> None:
    world.run(dead=1)
    assert evaluate(world, NotificationSettings(), dead("")) == []
    assert evaluate(world, settings(), dead("")) == ["firing Too many -> ops"]


def test_reminders_are_sent_at_the_interval_while_an_alert_fires(world: World) -> None:
    world.run(dead=1)
    found = settings(reminder="4h")
    assert evaluate(world, found, dead()) == ["firing Too many -> ops"]
    world.wait(hours=3, minutes=59)
    assert evaluate(world, found, dead()) == []
    world.wait(minutes=1)
    assert evaluate(world, found, dead()) == ["reminder Too many -> ops"]
    world.wait(hours=4)
    assert evaluate(world, found, dead()) == ["reminder Too many -> ops"]


def test_a_flapping_alert_goes_on_firing_until_it_was_quiet_for_15_minutes(world: World) -> None:
    sent: list[str] = []
    for _ in range(5):
        world.run(dead=1)
        sent += evaluate(world, settings(), dead())
        world.wait(minutes=2)
        discard_all(world)
        sent += evaluate(world, settings(), dead())
        world.wait(minutes=2)
    assert sent == ["firing Too many -> ops", "resolved Too many -> ops"] * 2 + ["firing Too many -> ops"]
    assert world.reader.alerts()[0].detail == "dead_letters() is 0 (fired 3 times within an hour)"
    world.wait(minutes=12)
    assert evaluate(world, settings(), dead()) == []
    world.wait(minutes=1)
    assert evaluate(world, settings(), dead()) == ["resolved Too many -> ops"]
    world.wait(hours=1)
    world.run(dead=1)
    assert evaluate(world, settings(), dead()) == ["firing Too many -> ops"]


def test_a_silenced_alert_notifies_no_channel_until_the_silence_ends(world: World) -> None:
    world.run(dead=1)
    world.log.silence("crm", "Too many", world.now + timedelta(hours=2), "ada", "upgrade")
    assert evaluate(world, settings(), dead(), dead(name="Other")) == ["firing Other -> ops"]
    world.wait(hours=1)
    assert evaluate(world, settings(), dead(), dead(name="Other")) == []
    world.wait(hours=1)
    assert evaluate(world, settings(), dead(), dead(name="Other")) == ["firing Too many -> ops"]
    world.log.silence("crm", None, world.now + timedelta(hours=2), "ada", "upgrade")
    assert evaluate(world, settings(), dead("team", name="New"), dead(), dead(name="Other")) == []
    assert world.log.end_silence("crm", None, "ada")
    assert not world.log.end_silence("crm", None, "ada")
    assert evaluate(world, settings(), dead("team", name="New"), dead(), dead(name="Other")) == ["firing New -> team"]
    messages = [event.message for event in world.reader.events() if event.kind == "silence"]
    assert messages[0] == "Too many: silenced until 2026-11-24T12:42:17.000Z by ada: upgrade"
    assert messages[-1] == "all alerts: no longer silenced, by ada"


@pytest.mark.parametrize(
    ("window", "starts_in"),
    [
        ({"from": "11:30", "to": "12:30", "zone": "Europe/Berlin", "reason": "Upgrade"}, -timedelta(minutes=12)),
        ({"from": "2026-11-24 11:00", "to": "2026-11-24 13:00"}, timedelta(minutes=18)),
        ({"from": "23:00", "to": "01:00", "days": "monday"}, -timedelta(hours=11, minutes=42)),
        ({"from": "10:00", "to": "11:00", "days": ["tuesday", "friday"]}, -timedelta(minutes=42)),
    ],
)
def test_a_maintenance_window_notifies_no_channel(
    world: World, window: dict[str, object], starts_in: timedelta
) -> None:
    world.run(dead=1)
    world.clock.time = datetime(2026, 11, 24, 10, 42, tzinfo=UTC) + starts_in - timedelta(minutes=1)
    assert evaluate(world, settings(maintenance=[window]), dead(name="Before")) == ["firing Before -> ops"]
    world.wait(minutes=1)
    during = settings(maintenance=[window])
    assert evaluate(world, during, dead(name="Before"), dead()) == []
    world.wait(hours=3)
    assert evaluate(world, during, dead(name="Before"), dead()) == ["firing Too many -> ops"]


def test_messages_wait_until_the_end_of_the_quiet_hours_unless_they_are_critical(world: World) -> None:
    quiet = {"from": "22:00", "to": "07:00", "zone": "Europe/Berlin", "except": "critical"}
    world.clock.time = datetime(2026, 11, 24, 23, 30, tzinfo=UTC)  # 00:30 in Berlin
    world.run(dead=1)
    evaluate(world, settings(quiet=quiet), dead(name="later"), dead(name="now", severity="critical"))
    due = {row.alert: row.due_at for row in get_notices(world.reader)}
    assert due["later"] == "2026-11-25T06:00:00.000Z"
    assert due["now"] == "2026-11-24T23:30:10.000Z"
    world.clock.time = datetime(2026, 11, 25, 6, 0, tzinfo=UTC)
    evaluate(world, settings(quiet=quiet), dead(name="by day"))
    assert get_notices(world.reader)[0].due_at == "2026-11-25T06:00:00.000Z"


def test_every_schedule_has_an_alert_for_no_success_within_twice_its_period() -> None:
    hourly = list(standard(settings(), Schedule("hourly", "Hourly")))
    assert [(one.name, one.when, one.channels) for one in hourly] == [
        (OVERDUE, 'since_success() > duration("2h")', ("ops",)),
        (SCHEDULER, "", ("ops",)),
        (FAILED, "failing()", ("ops",)),
    ]
    assert [one.name for one in standard(NotificationSettings(), Schedule("every", "", every=60.0))] == [
        OVERDUE, SCHEDULER,
    ]  # fmt: skip
    on_demand = settings(on={"dead_letters": {"above": 10, "to": "team"}})
    (dead_letters,) = standard(on_demand, Schedule("on_demand", ""))
    assert (dead_letters.name, dead_letters.when) == (DEAD_LETTERS, "dead_letters() > 10")
    assert get_period(Schedule("daily", "", at="02:00")) == 86400.0
    assert get_period(Schedule("cron", "", cron="0 8 * * 1-5")) == 3 * 86400.0  # over the weekend


def test_an_overdue_integration_is_notified_also_if_it_never_ran(world: World) -> None:
    world.log.register("crm", title="CRM", path="crm.md", status="in-progress", schedule="Hourly")
    alerts = tuple(standard(settings(), Schedule("hourly", "Hourly")))
    world.wait(hours=2, seconds=1)
    assert evaluate(world, settings(), *alerts) == []
    world.wait(minutes=5)
    assert evaluate(world, settings(), *alerts) == [f"firing {OVERDUE} -> ops"]
    world.run(written=1)
    assert evaluate(world, settings(), *alerts) == [f"resolved {OVERDUE} -> ops"]


def test_a_failed_run_is_notified_and_a_successful_one_resolves_it(world: World) -> None:
    alerts = tuple(standard(settings(), Schedule("on_demand", "")))
    world.run(error="https://crm.example: cannot connect")
    assert evaluate(world, settings(), *alerts) == [f"firing {FAILED} -> ops"]
    world.run(error="https://crm.example: cannot connect")
    assert evaluate(world, settings(), *alerts) == []
    world.run(written=1)
    assert evaluate(world, settings(), *alerts) == [f"resolved {FAILED} -> ops"]


def test_a_scheduler_that_died_is_notified_and_resolved_once_it_is_back(world: World) -> None:
    alerts = tuple(standard(settings(), Schedule("hourly", "Hourly")))
    world.run(written=1)
    assert evaluate(world, settings(), *alerts, outage="speclab up, process 7 on h, died") == [
        f"firing {SCHEDULER} -> ops"
    ]
    assert evaluate(world, settings(), *alerts) == [f"resolved {SCHEDULER} -> ops"]


def test_of_two_processes_that_evaluate_at_the_same_time_one_notifies(world: World) -> None:
    world.run(dead=1)
    spec = WatchedSpec("crm", "CRM", (dead(),), settings())
    assert [row.state for row in evaluate_alerts(world.log, world.reader, spec, world.now)] == [AlertState.FIRING]
    with world.log._transaction() as db:  # as the other process saw it
        db.execute("DELETE FROM alert")
    before = {row.name: row for row in world.reader.alerts()}
    evaluate_alerts(world.log, world.reader, spec, world.now)
    rows = world.reader.alerts()
    assert not world.log.save_alerts("crm", rows, (), before)
    assert world.log.save_alerts("crm", rows, (), {row.name: row for row in rows})
    assert {row.state for row in get_notices(world.reader)} == {NoticeState.DUE}
