"""The dashboard equals a new overview after every refresh."""

from __future__ import annotations

from pathlib import Path

from tests.monitor.conftest import World

from speclab.monitor.health import Dashboard, get_overview
from speclab.runlog import RunLog

HOUR = 3600.0


def test_each_refresh_equals_a_new_overview(world: World) -> None:
    dashboard = Dashboard(world.reader, HOUR)
    running = world.start("hr")
    for number in range(12):
        if number % 2:
            world.run(f"job {number % 5}", written=number, dead=number % 3, waiting=1)
        if number == 6:
            world.log.discard([row.id for row in world.reader.failures(limit=3)], "test")
        if number == 9:
            world.page(running, written=70)
        world.wait(minutes=9)
        assert dashboard.refresh(world.now) == get_overview(world.reader, HOUR, world.now)


def test_counts_that_leave_the_window_leave_the_figures_of_idle_integrations(world: World) -> None:
    for number in range(60):
        world.run(f"job {number}", written=1, seconds=0)
    dashboard = Dashboard(world.reader, HOUR)
    assert dashboard.refresh(world.now).figures.read == 60
    world.wait(hours=2)
    reads = [dashboard.refresh(world.now).figures.read for _ in range(4)]
    assert reads == [35, 10, 0, 0]


def test_replaced_run_log_resets_the_dashboard(world: World, tmp_path: Path) -> None:
    world.run("old", written=5)
    dashboard = Dashboard(world.reader, HOUR)
    assert dashboard.refresh(world.now).figures.read == 5
    with RunLog.open(tmp_path / "new.db", world.clock) as other:
        other.start_run("new", "", "manual")
    (tmp_path / "new.db").replace(world.log.path)
    for wal in tmp_path.glob("runlog.db-*"):
        wal.unlink()
    look = dashboard.refresh(world.now)
    assert [found.integration.spec_id for found in look.integrations] == ["new"]
