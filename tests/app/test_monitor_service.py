"""The service in the Monitor: its state, starting and stopping it, and pausing integrations."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from speclab.app.application import SpeclabApp
from speclab.app.views.monitor.actions import ServiceLine, describe_service
from speclab.core.clock import format_timestamp
from speclab.runlog import RunLog, RunLogReader
from speclab.runlog.schema import APPLICATION_ID
from speclab.service import heartbeat
from speclab.service.heartbeat import Heartbeat, ServedSpec, ServiceState

Open = Callable[..., Any]

NOW = datetime(2026, 11, 24, 9, 15, tzinfo=UTC)


@pytest.fixture
def monitor(until: Open, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Open the Monitor of a workspace with the real clock, which a service needs; it checks for the service often."""
    monkeypatch.setattr("speclab.workbench.run_log_client.HEARTBEAT_POLL", 0.1)

    @asynccontextmanager
    async def start(workspace: Any, *, size: tuple[int, int] = (120, 40), **options: Any) -> AsyncIterator[Pilot[None]]:
        app = SpeclabApp(workspace.directory, view="monitor", **options)
        async with app.run_test(size=size, notifications=True) as pilot:
            await until(pilot, lambda: bool(app.query(ServiceLine)) and app.service_state is not None)
            await until(pilot, lambda: app.specs is not None and app.overview is not None and app.focused is not None)
            await pilot.pause()
            try:
                yield pilot
            finally:
                _stop_services(workspace.directory)
                await until(pilot, lambda: app.service_state is not None and not app.service_state.alive)
            await until(pilot, lambda: not {"start_service", "run_spec"} & {worker.name for worker in app.workers})

    return start


def _stop_services(directory: Path) -> None:
    """Stop a service that a failed test has left running."""
    service = heartbeat.find_service(directory, datetime.now(UTC))
    if service is not None and service.pid != os.getpid():
        os.kill(service.pid, signal.SIGKILL)


def beat(**given: Any) -> Heartbeat:
    """Return the heartbeat of this process with some fields replaced."""
    return replace(Heartbeat.start(NOW), **given)


# The service line


def test_running_service_is_shown_with_its_process_and_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    alive = beat(pid=42, host="crane", user="ada", specs={"crm": ServedSpec("Hourly", ""), "erp": ServedSpec("", "")})
    sign, what, more = describe_service(ServiceState(alive, alive=True), NOW, starting=False, key="S")
    assert (sign.word, what) == ("running", "Scheduler is running 2 specs")
    assert more == "since 09:15, process 42 of ada on crane"
    old = replace(alive, since=format_timestamp(NOW - timedelta(days=3)))
    assert describe_service(ServiceState(old, alive=True), NOW, starting=False, key="S")[2].startswith(
        "since 3 d ago, "
    )


def test_specs_that_cannot_run_and_a_stopping_service_are_shown() -> None:
    broken = beat(specs={"crm": ServedSpec("", "", problem="M101"), "erp": ServedSpec("", "")})
    assert describe_service(ServiceState(broken, alive=True), NOW, starting=False, key="S")[1] == (
        "Scheduler is running 2 specs, 1 cannot run"
    )
    stopping = replace(broken, stopping=format_timestamp(NOW))
    assert (
        "is stopping; running specs"
        in describe_service(ServiceState(stopping, alive=True), NOW, starting=False, key="S")[1]
    )


def test_line_without_a_service_names_the_key_unless_read_only() -> None:
    none = ServiceState(None, alive=False)
    assert describe_service(none, NOW, starting=False, key="S")[1] == "Scheduler is not running. Press S to start it."
    assert describe_service(none, NOW, starting=False, key="")[1] == "Scheduler is not running."
    assert describe_service(none, NOW, starting=True, key="S")[1] == "Scheduler is starting"
    stopped = ServiceState(beat(stopped=format_timestamp(NOW - timedelta(minutes=3))), alive=False)
    assert describe_service(stopped, NOW, starting=False, key="S")[2] == "last stopped 3 min ago"


def test_service_that_died_is_shown_as_failed() -> None:
    crashed = ServiceState(beat(beat=format_timestamp(NOW - timedelta(minutes=3))), alive=False)
    sign, what, more = describe_service(crashed, NOW, starting=False, key="S")
    assert (sign.word, what) == ("failing", "Scheduler stopped unexpectedly. Press S to start it.")
    assert more.startswith(f"last seen 3 min ago, process {os.getpid()} of ")


# Starting and stopping


async def test_service_is_started_shown_and_stopped(
    workspace: Any, monitor: Open, see: Open, until: Open, screen: Open
) -> None:
    async with monitor(workspace, size=(80, 24)) as pilot:
        await see(pilot, "◌ Scheduler is not running. Press S to start it.", "never run")
        await pilot.press("S")
        await see(pilot, "start scheduler", str(workspace.directory)[:40])
        await pilot.press("n", "S", "y")
        await see(pilot, "● Scheduler is running 2 specs  since ")
        service = heartbeat.read_heartbeat(workspace.directory)
        assert service is not None
        assert f"process {service.pid} of " in screen(pilot)
        assert os.getsid(service.pid) == service.pid
        await until(pilot, lambda: len(re.findall(r"◌ \w+ .*never run +in \d+ (?:min|s)", screen(pilot))) == 2)
        await pilot.press("S")
        await see(pilot, "stop scheduler", f"process {service.pid}")
        await pilot.press("y")
        await see(pilot, "◌ Scheduler is not running. Press S to start it.  last stopped just now")
        await until(pilot, lambda: (left := heartbeat.read_heartbeat(workspace.directory)) is not None and left.stopped)
    assert "orders: Hourly, next at" in (workspace.directory / ".speclab/up.log").read_text("utf-8")


async def test_killed_service_is_noticed(workspace: Any, monitor: Open, see: Open, screen: Open) -> None:
    async with monitor(workspace, size=(160, 45)) as pilot:
        await pilot.press("S", "y")
        await see(pilot, "● Scheduler is running 2 specs", "Hourly")
        service = heartbeat.read_heartbeat(workspace.directory)
        assert service is not None
        os.kill(service.pid, signal.SIGKILL)
        await see(pilot, "✖ Scheduler stopped unexpectedly. Press S to start it.", "killed by SIGKILL")
        assert f"process {service.pid} of" in screen(pilot)


async def test_line_can_be_clicked(workspace: Any, monitor: Open, see: Open) -> None:
    async with monitor(workspace) as pilot:
        await pilot.click(ServiceLine)
        await see(pilot, "start scheduler")
        await pilot.press("n")


@pytest.mark.parametrize(
    ("service", "reason"),
    [
        (beat(host="crane"), "speclab up runs on crane; stop it there"),
        (beat(user="grace"), "speclab up runs as grace, and you are "),
        (beat(stopping=format_timestamp(NOW)), "speclab up is already stopping"),
    ],
)
async def test_service_that_cannot_be_stopped_from_here_shows_the_reason(
    workspace: Any, monitor: Open, see: Open, until: Open, service: Heartbeat, reason: str
) -> None:
    alive = replace(service, beat=format_timestamp(datetime.now(UTC)))
    heartbeat.write_heartbeat(workspace.directory, alive)
    async with monitor(workspace) as pilot:
        app = pilot.app
        assert isinstance(app, SpeclabApp)
        await until(pilot, lambda: app.service_state is not None and app.service_state.alive)
        await pilot.press("S")
        await see(pilot, "Not now: stop scheduler", reason)
        heartbeat.write_heartbeat(workspace.directory, replace(alive, stopped=alive.beat))


async def test_read_only_app_neither_starts_nor_pauses(workspace: Any, monitor: Open, see: Open) -> None:
    async with monitor(workspace, read_only=True) as pilot:
        await see(pilot, "◌ Scheduler is not running.\n")
        for key in ("S", "space"):
            await pilot.press(key)
            await see(pilot, "the app was started with --read-only")
            pilot.app.clear_notifications()
            await pilot.pause()
    assert not (workspace.directory / ".speclab" / "up.json").exists()


# Pausing


def paused(workspace: Any) -> dict[str, str | None]:
    """Return who paused which integration."""
    with RunLogReader.open(workspace.runlog) as reader:
        return {row.spec_id: row.paused_by for row in reader.integrations()}


async def test_space_pauses_and_resumes_the_selected_integration(
    workspace: Any, monitor: Open, see: Open, screen: Open
) -> None:
    async with monitor(workspace, size=(160, 45)) as pilot:
        await see(pilot, "space pause")
        await pilot.press("space")
        await see(pilot, "‖ orders", "paused by ", "orders is paused", "space resume")
        assert paused(workspace)["orders"]
        assert "‖ people" not in screen(pilot)
        await pilot.press("space")
        await see(pilot, "◌ orders", "orders is resumed", "space pause")
        assert paused(workspace)["orders"] is None


async def test_integration_paused_in_a_shell_is_shown_and_can_still_be_run(
    filled: Any, monitor: Open, see: Open, until: Open, screen: Open
) -> None:
    async with monitor(filled, size=(80, 24)) as pilot:
        with filled.log() as log:
            log.pause("people", "ada", "the ledger is closed")
        await see(pilot, "paused by ada: the ledger is closed")
        await until(pilot, lambda: re.search("▲ people .* paused ", screen(pilot)))  # a pause does not hide failures
        await pilot.press("r")
        with RunLogReader.open(filled.runlog) as reader:
            await until(pilot, lambda: len(reader.runs("people")) == 2 and reader.runs("people")[0].ended_at)


async def test_externally_reported_job_cannot_be_paused_and_shows_the_reason(
    workspace: Any, monitor: Open, see: Open
) -> None:
    for spec in workspace.directory.glob("*.md"):
        spec.unlink()
    with RunLog.open(workspace.runlog) as log, log.run("nightly"):
        pass
    async with monitor(workspace) as pilot:
        await see(pilot, "✔ nightly")
        await pilot.press("space")
        await see(pilot, "Not now: pause", "the spec of nightly is not in")


# Run logs of older versions


async def test_run_log_of_an_older_speclab_is_migrated(workspace: Any, monitor: Open, see: Open) -> None:
    old = Path(__file__).parents[1] / "runlog" / "version-1.sql"
    with sqlite3.connect(workspace.runlog) as db:
        db.executescript(old.read_text("utf-8"))
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute("PRAGMA user_version = 1")
    db.close()
    async with monitor(workspace) as pilot:
        await see(pilot, "▲ crm")
