"""Alerts: pending, firing and over; each change is logged once."""

from __future__ import annotations

from tests.monitor.conftest import World

from speclab.core.clock import format_timestamp
from speclab.core.outcome import AlertState
from speclab.monitor.alerts import WatchedSpec, evaluate_alerts
from speclab.monitor.health import Condition, get_health
from speclab.spec.integration import Alert
from speclab.spec.notifications import NotificationSettings


def alert(when: str, hold: float = 0.0, name: str = "too many") -> Alert:
    return Alert(name, when, hold, "ops@example.org", 90)


def changed(world: World, *alerts: Alert) -> list[tuple[str, str]]:
    spec = WatchedSpec("crm", "CRM", alerts, NotificationSettings())
    return [(row.name, row.state.value) for row in evaluate_alerts(world.log, world.reader, spec, world.now)]


def alert_messages(world: World) -> list[str]:
    return [event.message for event in world.reader.events() if event.kind == "alert"]


def test_alert_without_a_hold_fires_at_once_and_once(world: World) -> None:
    dead = alert("dead_letters() > 3")
    world.run(dead=3)
    assert changed(world, dead) == []
    world.run(dead=1)
    assert changed(world, dead) == [("too many", "firing")]
    since = format_timestamp(world.now)
    world.wait(minutes=5)
    assert changed(world, dead) == []
    (row,) = world.reader.alerts("crm")
    assert (row.state, row.since, row.detail) == (AlertState.FIRING, since, "dead_letters() is 4")
    found = get_health(world.reader, "crm", 3600, world.now)
    assert found is not None
    assert (found.integration.firing, found.condition) == (1, Condition.ATTENTION)
    world.log.discard([failure.id for failure in world.reader.failures()], "test")
    assert changed(world, dead) == [("too many", "ok")]
    assert alert_messages(world) == ["alert: too many: dead_letters() is 4", "alert over: too many"]


def test_alert_fires_when_it_has_been_true_for_long_enough(world: World) -> None:
    world.run(dead=1)
    dead = alert("dead_letters() > 0", hold=900)
    assert changed(world, dead) == []
    since = format_timestamp(world.now)
    world.wait(minutes=14)
    assert changed(world, dead) == []
    (row,) = world.reader.alerts("crm")
    assert (row.state, row.since) == (AlertState.PENDING, since)
    world.wait(minutes=1)
    assert changed(world, dead) == [("too many", "firing")]
    world.wait(minutes=1)
    assert changed(world, dead) == []
    assert world.reader.alerts()[0].state is AlertState.FIRING


def test_alert_that_is_true_only_now_and_then_does_not_fire(world: World) -> None:
    quiet = alert('records("10m") == 0', hold=600)
    world.run(written=1, seconds=0)
    for _ in range(4):
        world.wait(minutes=11)
        assert changed(world, quiet) == []
        world.wait(minutes=9)
        world.run(written=1, seconds=0)
        assert changed(world, quiet) == []


def test_alert_without_data_does_not_fire(world: World) -> None:
    world.run(dead=1)
    low = alert('success_rate("1h") < 0.9')
    assert changed(world, low) == [("too many", "firing")]
    world.wait(hours=2)
    assert changed(world, low) == [("too many", "ok")]


def test_alert_that_cannot_be_evaluated_fires_with_the_reason(world: World) -> None:
    world.run(written=1)
    assert changed(world, alert('records("soon") > 1', hold=3600)) == [("too many", "firing")]
    assert world.reader.alerts()[0].detail.startswith("cannot be evaluated: records(): expected a duration such as 30s")


def test_alerts_with_one_name_are_separate_and_a_removed_alert_ends(world: World) -> None:
    world.run(dead=1)
    two = alert("dead_letters() > 0"), alert("dead_letters() > 1")
    assert changed(world, *two) == [("too many", "firing")]
    assert [(row.name, row.state.value) for row in world.reader.alerts()] == [
        ("too many", "firing"), ("too many (line 90)", "ok"),
    ]  # fmt: skip
    assert changed(world) == []
    assert world.reader.alerts() == []
    assert alert_messages(world)[-1] == "alert over: too many"
