"""The service: what it runs and when, with real processes, real files and a real run log."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from speclab.core.clock import SystemClock, format_timestamp
from speclab.core.errors import WorkspaceLocked
from speclab.core.locks import ProcessIdentity, hold_spec
from speclab.core.outcome import ErrorClass, FailureState, Level, Outcome, RunState, Stage
from speclab.monitor.checks import evaluate_alerts
from speclab.runlog import NewFailure, PageResult, RunLog, RunLogReader, RunRow
from speclab.service import heartbeat
from speclab.service.heartbeat import Heartbeat, ServedSpec
from speclab.service.scheduler import ServiceOptions, serve
from speclab.spec.integration import Alert
from speclab.sync.run_control import StopRequest

SPEC = """\
---
spec_id: {name}
type: integration
status: {status}
---

# Spec: {name}

## Integration Overview

### Source System

```yaml
{source}
key: id
```

### Target System

```yaml
{target}
key: id
```

## Data Flow

### Frequency

{frequency}

## Field Mapping

| Source Field | Target Field | Transformation | Notes |
|--------------|--------------|----------------|-------|
| source.id    | target.id    | Direct         |       |
| source.name  | target.name  | {step}         |       |

## Authentication

### Source System Auth

```yaml
type: none
```

### Target System Auth

```yaml
type: none
```

## Monitoring & Alerting

### Alerts

| Alert | When | For | Notify |
|-------|------|-----|--------|
| Nothing yet | since_success() >= 0.0 | 0s | |
"""


FILE = "connector: file\npath: in.jsonl"
OUT = "connector: file\npath: out/{name}.jsonl"
LONG_AGO = "2020-01-01T00:00:00.000Z"


class Workspace:
    """A workspace, and the service that runs in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.runlog = directory / ".speclab" / "runlog.db"
        self.said: list[str] = []
        self.stop = StopRequest()
        (directory / ".speclab").mkdir()
        self.write("in.jsonl", '{"id": 1, "name": " Ada "}\n{"id": 2, "name": "Grace"}\n')

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    def spec(
        self,
        name: str = "people",
        frequency: str = "Every 1 second",
        *,
        status: str = "in-progress",
        step: str = "Trim",
        source: str = FILE,
        target: str = OUT,
    ) -> Path:
        target = target.replace("{name}", name)
        text = SPEC.format(name=name, frequency=frequency, status=status, step=step, source=source, target=target)
        return self.write(f"specs/{name}.md", text)

    def served_until_long_ago(self, frequency: str) -> None:
        """Leave what a service leaves that was killed, long ago."""
        people = ServedSpec(frequency, LONG_AGO)
        host = ProcessIdentity.of(os.getpid()).host
        left = Heartbeat(1, host, "ada", "", since=LONG_AGO, beat=LONG_AGO, specs={"people": people})
        heartbeat.write_heartbeat(self.directory, left)

    @asynccontextmanager
    async def serving(self, jobs: int = 4) -> AsyncIterator[None]:
        """The service, at work within the block."""
        self.stop = StopRequest()
        task = asyncio.create_task(self.serve(jobs))
        await self.until(lambda: task.done() or heartbeat.find_service(self.directory, datetime.now(UTC)))
        try:
            yield
        finally:
            self.stop.graceful.set()
            await asyncio.wait_for(task, 60)

    async def serve(self, jobs: int) -> None:
        serving = ServiceOptions(self.directory, self.directory, self.runlog, jobs)
        await serve(serving, evaluate_alerts, SystemClock(), self._tell, self.stop)

    def _tell(self, level: Level, message: str) -> None:
        self.said.append(f"{level}: {message}")

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait until `holds`."""
        async with asyncio.timeout(60):
            while not holds():  # noqa: ASYNC110 - it is other processes that make it so
                await asyncio.sleep(0.05)

    def runs(self, spec_id: str | None = None) -> list[RunRow]:
        """All runs, oldest first."""
        with RunLogReader.open(self.runlog) as reader:
            return list(reversed(reader.runs(spec_id, limit=1000)))

    def ended(self, spec_id: str | None = None) -> list[RunRow]:
        return [run for run in self.runs(spec_id) if run.state is not RunState.RUNNING]

    def pids(self) -> list[int]:
        """Return the processes of the runs in progress."""
        with RunLogReader.open(self.runlog) as reader:
            return [pid for (pid,) in reader.query("SELECT pid FROM run WHERE state = 'running'")]

    def events(self, kind: str) -> list[str]:
        with RunLogReader.open(self.runlog) as reader:
            return [event.message for event in reader.events() if event.kind == kind]

    def alerts(self) -> set[str]:
        """The integrations whose alerts were evaluated."""
        with RunLogReader.open(self.runlog) as reader:
            return {alert.spec_id for alert in reader.alerts()}

    def heartbeat(self) -> Heartbeat:
        found = heartbeat.read_heartbeat(self.directory)
        assert found is not None
        return found


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.fixture
async def mute() -> AsyncIterator[str]:
    """The settings of a source that takes requests and never answers."""
    gone = asyncio.Event()

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gone.wait()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"connector: http\nbase_url: http://127.0.0.1:{port}\nread: {{path: /people}}"
        gone.set()


class Hesitant:
    """An HTTP target that responds only after `answers` is set."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.answers = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                (length,) = re.findall(r"(?i)content-length: (\d+)", head)
                await reader.readexactly(int(length))
                self.taken.append(head.split()[1])
                await self.answers.wait()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()


def overlapping(runs: Sequence[RunRow]) -> bool:
    """Whether any of `runs`, in the order they began, began before the one before it had ended."""
    return any(one.ended_at is None or other.started_at < one.ended_at for one, other in pairwise(runs))


def waiting(key: int, due: str) -> PageResult:
    """A page with one record, which could not be written and is to be sent again."""
    failure = NewFailure(
        key=str(key),
        state=FailureState.WAITING,
        stage=Stage.WRITE,
        error_class=ErrorClass.SERVER,
        message="503",
        file="specs/people.md",
        line=1,
        source={"id": key, "name": "Edsger"},
        next_attempt_at=due,
    )
    return PageResult(1, {Outcome.WAITING: 1}, {}, 0, 0, cursor=None, failures=[failure])


def a_dead_process() -> int:
    """The pid of a process that has ended."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


async def test_what_is_in_progress_is_run_on_its_schedule_and_nothing_else(place: Workspace) -> None:
    place.spec()
    place.spec("draft", status="draft")
    place.spec("by-hand", "On-demand")
    async with place.serving():
        await place.until(lambda: len(place.ended("people")) >= 2)
        beat = place.heartbeat()
        assert beat.alive(place.directory, datetime.now(UTC))
        assert heartbeat.find_service(place.directory, datetime.now(UTC)) == beat
        assert beat.specs["people"].next is not None
        assert beat.specs["by-hand"].next is None
    runs = place.runs()
    assert {(run.spec_id, run.trigger) for run in runs} == {("people", "schedule")}
    assert runs[0].written == 2
    assert not overlapping(runs)
    assert heartbeat.find_service(place.directory, datetime.now(UTC)) is None
    assert [text.partition(" is ")[0] for text in place.events("alert")] == ["alert: Nothing yet: since_success()"] * 2


async def test_specs_that_change_are_read_anew(place: Workspace) -> None:
    path = place.spec(frequency="Every 300 days")
    async with place.serving():
        await place.until(lambda: "people" in place.heartbeat().specs)
        place.spec(step="Trimm")
        await place.until(lambda: place.events("service"))
        assert "cannot run: specs/people.md:38:33: M101" in place.events("service")[0]
        assert "unknown step 'Trimm'" in place.heartbeat().specs["people"].problem
        place.spec()
        await place.until(lambda: place.ended("people"))
        place.spec("orders")
        await place.until(lambda: place.ended("orders"))
        path.write_text(path.read_text().replace("in-progress", "completed"))
        await place.until(lambda: "people" not in place.heartbeat().specs)
    assert any("people: no longer in progress" in line for line in place.said)


async def test_at_most_so_many_run_at_once(place: Workspace) -> None:
    for name in ("a", "b", "c"):
        place.spec(name)
    async with place.serving(jobs=1):
        await place.until(lambda: {run.spec_id for run in place.ended()} == {"a", "b", "c"})
    assert not overlapping(place.runs())


async def test_a_run_by_others_is_not_run_beside_and_counts(place: Workspace) -> None:
    place.spec(frequency="Every 1 second")
    with RunLog.open(place.runlog) as log:
        run = log.start_run("people", "", "manual")
        async with place.serving():
            await place.until(lambda: any("Every 1 second" in line for line in place.said))
            await asyncio.sleep(1.5)
            assert len(place.runs()) == 1
            log.finish_run(run)
            await place.until(lambda: len(place.ended()) == 2)
    assert not overlapping(place.runs())


async def test_what_is_due_in_the_retry_queue_is_sent_without_reading(place: Workspace) -> None:
    place.spec(frequency="On-demand")
    with RunLog.open(place.runlog) as log:
        run = log.start_run("people", "", "manual")
        due = format_timestamp(datetime.now(UTC) + timedelta(seconds=1))
        log.commit_page(run, waiting(7, due))
        log.finish_run(run)
    async with place.serving():
        await place.until(lambda: len(place.ended()) == 2)
    retry = place.runs()[-1]
    assert (retry.trigger, retry.read, retry.written) == ("retry", 1, 1)
    assert (place.directory / "out/people.jsonl").read_text() == '{"id":7,"name":"Edsger"}\n'


async def test_what_is_paused_is_left_alone_and_made_up_for_by_one_run_when_that_ends(place: Workspace) -> None:
    place.served_until_long_ago("Every 300 days")
    place.spec(frequency="Every 300 days")
    place.spec("ticking")
    with RunLog.open(place.runlog) as log:
        log.finish_run(log.start_run("ticking", "", "manual"))
        run = log.start_run("people", "", "retry", pid=a_dead_process())
        log.commit_page(run, waiting(7, LONG_AGO))
        log.pause("people", "ada")
        async with place.serving():
            await place.until(lambda: len(place.ended("ticking")) == 3)
            assert [run.state for run in place.runs("people")] == [RunState.INTERRUPTED]
            assert place.heartbeat().specs["people"].next is None
            assert place.alerts() == {"ticking"}
            log.resume("people", "ada")
            await place.until(lambda: len(place.ended("people")) == 2)
            ticked = len(place.ended("ticking"))
            await place.until(lambda: len(place.ended("ticking")) == ticked + 2)
    (_, after) = place.runs("people")
    assert (after.trigger, after.read, after.written) == ("schedule", 3, 3)
    assert [line for line in place.said if "people: paused" in line or "people: resumed" in line] == [
        "info: people: paused by ada",
        "info: people: resumed",
    ]


async def test_a_system_that_asked_to_be_left_alone_is(place: Workspace) -> None:
    place.spec()
    place.spec("ticking")
    with RunLog.open(place.runlog) as log:
        for name in ("people", "ticking"):
            log.register(name, title=name, path=f"specs/{name}.md", status="in-progress", schedule="")
        run = log.start_run("people", "", "manual")
        until = format_timestamp(datetime.now(UTC) + timedelta(hours=1))
        log.log_event("people", run, Level.INFO, "parked", "", {"until": until, "end": "source"})
        log.finish_run(run, "parked", RunState.PARTIAL)
        log.finish_run(log.start_run("people", "", "retry"))  # which asks the source nothing
        async with place.serving():
            await place.until(lambda: len(place.ended("ticking")) == 2)
            assert len(place.runs("people")) == 2
            assert place.heartbeat().specs["people"].next == until
            log.finish_run(log.start_run("people", "", "manual"))  # somebody asked all the same, and was answered
            await place.until(lambda: len(place.ended("people")) == 4)


async def test_a_run_under_way_goes_on_when_its_spec_is_paused(place: Workspace, mute: str) -> None:
    place.spec(source=mute)
    async with place.serving():
        await place.until(place.pids)
        with RunLog.open(place.runlog) as log:
            log.pause("people", "ada")
        await place.until(lambda: any("people: paused by ada" in line for line in place.said))
        assert len(place.pids()) == 1
        assert place.heartbeat().specs["people"].running


async def test_a_run_cut_short_by_the_stop_is_made_up_for_by_the_next_service(place: Workspace, mute: str) -> None:
    place.served_until_long_ago("Every 300 days")
    place.spec(frequency="Every 300 days", source=mute)
    async with place.serving():
        await place.until(place.pids)
    assert [run.state for run in place.runs()] == [RunState.CANCELLED]
    assert any("stopping after the pages in progress of people" in line for line in place.said)
    assert place.heartbeat().stopped is not None
    place.spec(frequency="Every 300 days")
    async with place.serving():
        await place.until(lambda: len(place.ended()) == 2)
    assert place.runs()[-1].state is RunState.SUCCEEDED
    async with place.serving():
        await place.until(lambda: any("Every 300 days, next at" in line for line in place.said[-1:]))
    assert len(place.runs()) == 2


async def test_asked_to_stop_it_lets_the_page_in_hand_arrive_and_says_that_it_is_stopping(place: Workspace) -> None:
    target = Hesitant()
    async with await asyncio.start_server(target.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        write = 'write: {upsert: "PUT /people/{id}"}'
        place.spec(target=f"connector: http\nbase_url: http://127.0.0.1:{port}\n{write}")
        async with place.serving():
            await place.until(lambda: len(target.taken) == 2)
            place.stop.graceful.set()
            await place.until(lambda: place.heartbeat().stopping)
            assert place.heartbeat().alive(place.directory, datetime.now(UTC))
            assert len(place.pids()) == 1
            target.answers.set()
    (run,) = place.runs()
    assert (run.read, run.written, sorted(target.taken)) == (2, 2, ["/people/1", "/people/2"])
    assert place.heartbeat().stopped is not None


async def test_told_twice_it_ends_runs_at_once(place: Workspace, mute: str) -> None:
    place.spec(source=mute)
    async with place.serving():
        await place.until(place.pids)
        (pid,) = place.pids()
        os.kill(pid, signal.SIGSTOP)  # it cannot finish its page
        place.stop.graceful.set()
        await place.until(lambda: any("stopping after" in line for line in place.said))
        place.stop.immediate.set()
    assert place.runs()[0].state is RunState.INTERRUPTED
    assert place.events("service") == ["the run died before finishing: killed by SIGKILL"]


async def test_a_run_that_is_stopped_before_it_begins_is_no_crash(place: Workspace) -> None:
    place.served_until_long_ago("Every 300 days")
    place.spec(frequency="Every 300 days")
    async with place.serving():
        await place.until(lambda: any("people: started by schedule" in line for line in place.said))
    assert place.runs() == []
    assert place.events("service") == []
    assert place.said[-1] == "info: people: stopped before it started"
    async with place.serving():
        await place.until(lambda: len(place.ended()) == 1)


async def test_a_run_that_crashes_is_told_and_the_next_comes_at_its_time(place: Workspace, mute: str) -> None:
    place.spec(source=mute)
    async with place.serving():
        await place.until(place.pids)
        (pid,) = place.pids()
        os.kill(pid, signal.SIGKILL)
        await place.until(lambda: len(place.runs()) == 2)
        assert place.runs()[0].state is RunState.INTERRUPTED
        assert place.events("service") == ["the run died before finishing: killed by SIGKILL"]


async def test_a_run_that_did_not_come_to_be_is_told_with_its_reason(place: Workspace) -> None:
    place.spec()
    with hold_spec(place.directory, "people"):  # but no run is in the run log yet
        async with place.serving():
            await place.until(lambda: place.events("service"))
            assert "could not run: people is being run by process" in place.events("service")[0]
            assert place.runs() == []


async def test_runs_of_a_service_that_was_killed_are_taken_over(place: Workspace) -> None:
    place.served_until_long_ago("Every 300 days")
    place.spec(frequency="Every 300 days")
    with RunLog.open(place.runlog) as log:
        log.start_run("people", "", "schedule", pid=a_dead_process())
    async with place.serving():
        await place.until(lambda: len(place.ended()) == 2)
    assert [run.state for run in place.runs()] == [RunState.INTERRUPTED, RunState.SUCCEEDED]
    assert any("process 1, died" in line for line in place.said)
    assert any("started by schedule, due since 20" in line for line in place.said)


async def test_old_rows_go_and_alerts_of_specs_that_are_not_in_progress_are_over(place: Workspace) -> None:
    place.spec(frequency="On-demand", status="draft")
    place.spec("orders", "On-demand")
    with RunLog.open(place.runlog) as log, RunLogReader.open(place.runlog) as reader:
        log.register("people", title="", path="", status="draft", schedule="")
        log.log_event("orders", None, Level.INFO, "log", "of old")
        log.log_event("orders", None, Level.INFO, "log", "of now")
        alerts = [Alert("Nothing yet", "since_success() >= 0.0", hold=0, notify="", line=1)]
        evaluate_alerts(log, reader, "people", alerts, datetime.now(UTC))
    with sqlite3.connect(place.runlog) as db:
        db.execute("UPDATE log_event SET at = '2020-01-01T00:00:00.000Z' WHERE message = 'of old'")
    db.close()
    async with place.serving():
        await place.until(lambda: "alert over: Nothing yet" in place.events("alert"))
        await place.until(lambda: place.events("log") == ["of now"])


async def test_a_second_service_is_refused_though_the_lock_file_was_deleted(place: Workspace) -> None:
    async with place.serving():
        await place.until(lambda: heartbeat.read_heartbeat(place.directory))
        (place.directory / ".speclab" / "up.lock").unlink()
        with pytest.raises(WorkspaceLocked, match=f"by process {os.getpid()} of .*, whose lock file was deleted"):
            await place.serve(1)
        assert heartbeat.find_service(place.directory, datetime.now(UTC)) is not None
    (place.directory / ".speclab" / "up.lock").unlink()
    async with place.serving():  # after the end of the first, a deleted lock file keeps nobody away
        pass


async def test_a_second_service_is_told_who_serves(place: Workspace) -> None:
    async with place.serving():
        await place.until(lambda: heartbeat.read_heartbeat(place.directory))
        with pytest.raises(WorkspaceLocked, match=f"by process {os.getpid()} of"):
            await place.serve(1)
