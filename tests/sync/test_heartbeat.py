"""The heartbeat seen from another process: alive, stopping, stopped, crashed, on another machine; and stop requests."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from speclab.core.clock import format_timestamp
from speclab.core.errors import SpeclabError, UsageError
from speclab.core.locks import ProcessIdentity, hold_workspace
from speclab.service import heartbeat
from speclab.service.heartbeat import (
    PERIOD,
    Heartbeat,
    HeartbeatWatch,
    HeartbeatWriter,
    ServedSpec,
    ServiceState,
    explain_unstoppable,
    request_stop,
)

NOW = datetime(2026, 11, 24, 10, 42, 7, tzinfo=UTC)
OURS = Heartbeat.start(NOW)
"""As if this process were a service."""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / ".speclab").mkdir()
    return tmp_path


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs until the test ends."""
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as waiting:
        yield waiting
        waiting.kill()


def heartbeat_of(process: subprocess.Popen[bytes]) -> Heartbeat:
    """Return the heartbeat of a service with that process."""
    return replace(OURS, pid=process.pid, process_started=ProcessIdentity.of(process.pid).started)


def test_watch_sees_each_beat_and_reads_it_once(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = HeartbeatWatch(workspace)
    assert watch.check(NOW) == ServiceState(None, alive=False)
    heartbeat_writer = HeartbeatWriter(workspace, NOW)
    heartbeat_writer.beat(NOW, {"crm": ServedSpec("Hourly", format_timestamp(NOW), next=format_timestamp(NOW))})
    service_state = watch.check(NOW)
    assert service_state.alive
    assert service_state.get_served("crm") == ServedSpec("Hourly", format_timestamp(NOW), next=format_timestamp(NOW))
    assert service_state.get_served("erp") is None
    with monkeypatch.context() as patch:
        patch.setattr(heartbeat, "read_heartbeat", None)  # nothing is read again
        assert watch.check(NOW) == service_state
    heartbeat_writer.write_end(NOW, {})
    assert not watch.check(NOW).alive
    assert not watch.check(NOW).crashed


def test_service_without_its_process_has_crashed_and_serves_nothing(
    workspace: Path, process: subprocess.Popen[bytes]
) -> None:
    watch = HeartbeatWatch(workspace)
    heartbeat.write_heartbeat(workspace, replace(heartbeat_of(process), specs={"crm": ServedSpec("Hourly", "")}))
    assert watch.check(NOW).alive
    process.kill()
    process.wait()
    service_state = watch.check(NOW)
    assert (service_state.alive, service_state.crashed, service_state.get_served("crm")) == (False, True, None)


def test_service_on_another_machine_is_judged_by_its_last_beat(workspace: Path) -> None:
    watch = HeartbeatWatch(workspace)
    heartbeat.write_heartbeat(workspace, replace(OURS, host="crane"))
    assert watch.check(NOW + timedelta(seconds=2 * PERIOD)).alive
    assert watch.check(NOW + timedelta(seconds=3 * PERIOD)).crashed


def test_service_with_an_invisible_process_is_alive_while_it_holds_its_lock(workspace: Path) -> None:
    """This is the case for a container that shares the name of its host but not its processes."""
    with hold_workspace(workspace):
        lock = workspace / ".speclab/up.lock"
        lock.write_text(json.dumps(json.loads(lock.read_text()) | {"pid": 1, "started": "in a namespace"}))
        service = replace(OURS, pid=1, process_started="in a namespace")
        heartbeat.write_heartbeat(workspace, service)
        assert heartbeat.find_service(workspace, NOW) == service
        with pytest.raises(UsageError, match="runs in a container or another process namespace"):
            request_stop(workspace, service)
    assert HeartbeatWatch(workspace).check(NOW).crashed


def test_failed_beat_is_retried_at_once(workspace: Path) -> None:
    heartbeat_writer, path = HeartbeatWriter(workspace, NOW), heartbeat.heartbeat_path(workspace)
    heartbeat_writer.beat(NOW, {})
    path.unlink()
    path.mkdir()
    with pytest.raises(SpeclabError, match="cannot be written"):
        heartbeat_writer.write_stopping(NOW, {})
    with pytest.raises(SpeclabError, match="cannot be written"):
        heartbeat_writer.beat(NOW, {})
    path.rmdir()
    heartbeat_writer.beat(NOW, {})
    assert HeartbeatWatch(workspace).check(NOW) == ServiceState(
        replace(OURS, stopping=format_timestamp(NOW)), alive=True
    )


def test_clock_set_back_neither_ends_nor_prolongs_beats(workspace: Path) -> None:
    heartbeat_writer, earlier = HeartbeatWriter(workspace, NOW), NOW - timedelta(hours=1)
    heartbeat_writer.beat(NOW, {})
    heartbeat_writer.beat(earlier, {})
    beat = heartbeat.read_heartbeat(workspace)
    assert beat is not None
    assert beat.beat == format_timestamp(earlier)
    heartbeat.write_heartbeat(workspace, replace(OURS, host="crane"))
    assert HeartbeatWatch(workspace).check(earlier).crashed


def test_unknown_fields_of_a_newer_service_are_ignored(workspace: Path) -> None:
    served = ServedSpec("Hourly", format_timestamp(NOW))
    heartbeat.write_heartbeat(workspace, replace(OURS, specs={"crm": served}))
    path = heartbeat.heartbeat_path(workspace)
    reported = json.loads(path.read_bytes())
    reported |= {"mood": "good", "specs": {"crm": reported["specs"]["crm"] | {"weight": 3}}}
    path.write_text(json.dumps(reported))
    assert heartbeat.read_heartbeat(workspace) == replace(OURS, specs={"crm": served})


def test_heartbeat_without_a_required_field_is_ignored(workspace: Path) -> None:
    heartbeat.heartbeat_path(workspace).write_text('{"pid": 1, "specs": {}}')
    assert HeartbeatWatch(workspace).check(NOW) == ServiceState(None, alive=False)


def test_stopping_service_keeps_beating_and_reports_it(workspace: Path) -> None:
    heartbeat_writer, watch = HeartbeatWriter(workspace, NOW), HeartbeatWatch(workspace)
    later = NOW + timedelta(seconds=PERIOD)
    heartbeat_writer.write_stopping(NOW, {})
    heartbeat_writer.beat(later, {})
    seen = watch.check(later).beat
    assert seen is not None
    assert (seen.stopping, seen.beat, seen.stopped) == (format_timestamp(NOW), format_timestamp(later), None)


def test_service_of_this_user_on_this_machine_receives_a_stop_request(
    workspace: Path, process: subprocess.Popen[bytes]
) -> None:
    service = heartbeat_of(process)
    heartbeat.write_heartbeat(workspace, service)
    assert explain_unstoppable(service) is None
    request_stop(workspace, service)
    assert process.wait(30) == -signal.SIGTERM
    with pytest.raises(UsageError, match="not running any more"):
        request_stop(workspace, service)


def test_service_that_the_system_does_not_allow_to_signal_reports_the_reason(
    workspace: Path, process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def reject(_pid: int, _signal: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    service = heartbeat_of(process)
    heartbeat.write_heartbeat(workspace, service)
    monkeypatch.setattr(os, "kill", reject)
    with pytest.raises(UsageError, match="cannot be signalled: Operation not permitted"):
        request_stop(workspace, service)
    monkeypatch.undo()


def test_stop_is_not_requested_twice_within_a_moment(workspace: Path, process: subprocess.Popen[bytes]) -> None:
    heartbeat.write_heartbeat(workspace, replace(heartbeat_of(process), stopping=format_timestamp(NOW)))
    with pytest.raises(UsageError, match="is already stopping"):
        request_stop(workspace, heartbeat_of(process))
    assert process.poll() is None


def test_other_process_with_the_same_pid_is_not_signalled(workspace: Path, process: subprocess.Popen[bytes]) -> None:
    service = replace(heartbeat_of(process), process_started="another")
    heartbeat.write_heartbeat(workspace, service)
    with pytest.raises(UsageError, match="not running any more"):
        request_stop(workspace, service)
    heartbeat.write_heartbeat(workspace, heartbeat_of(process))
    with pytest.raises(UsageError, match="another speclab up has replaced it"):
        request_stop(workspace, service)
    assert process.poll() is None


@pytest.mark.parametrize(
    ("service", "reason"),
    [
        (replace(OURS, host="crane"), "runs on crane; stop it there"),
        (replace(OURS, user="nobody else"), "runs as nobody else, and you are "),
        (replace(OURS, stopping=format_timestamp(NOW)), "is already stopping"),
    ],
)
def test_service_that_cannot_be_signalled_reports_the_reason(workspace: Path, service: Heartbeat, reason: str) -> None:
    assert service.pid == os.getpid()
    heartbeat.write_heartbeat(workspace, service)
    with pytest.raises(UsageError, match=reason):
        request_stop(workspace, service)
