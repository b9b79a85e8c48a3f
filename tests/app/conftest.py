"""Fixtures of the app's tests: real ptys and their output, and workspaces with a run log."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pexpect
import pyte
import pytest
from tests.clocks import HeldClock
from textual.notifications import Notification
from textual.pilot import Pilot

from speclab.app.application import SpeclabApp
from speclab.core.outcome import ErrorClass, FailureState, Outcome, Stage
from speclab.runlog import NewFailure, PageResult, RunLog

_PRIVATE = re.compile(
    r"\x1b\[[<>=][0-9;]*[a-z]|\x1b\[\?[0-9;]*\$p"
)  # keyboard protocol and mode queries, which pyte does not support


class Pty:
    """A program in a pty, and the screen that it draws."""

    def __init__(self, command: list[str], *, width: int, height: int, **environ: str) -> None:
        env = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", **environ}
        self.screen = pyte.Screen(width, height)
        self._stream = pyte.Stream(self.screen)
        self.sent = ""
        self.child = pexpect.spawn(
            command[0], command[1:], dimensions=(height, width), env=env, encoding="utf-8", timeout=60
        )

    def read(self, seconds: float = 0.05) -> str:
        """Return the output of the next `seconds`, and draw it."""
        got = []
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                got.append(self.child.read_nonblocking(65536, timeout=left))
            except pexpect.TIMEOUT:
                break
            except pexpect.EOF:
                break
        text = "".join(got)
        self.sent += text
        self._stream.feed(_PRIVATE.sub("", text))
        return text

    @property
    def lines(self) -> list[str]:
        """Return the lines of the screen without trailing blanks."""
        return [line.rstrip() for line in self.screen.display]

    @property
    def text(self) -> str:
        """Return the text of the whole screen."""
        return "\n".join(self.lines)

    def until(self, seen: str | Callable[[str], bool], seconds: float = 60) -> str:
        """Wait until the screen shows `seen`; return all output until then."""
        is_there = seen if callable(seen) else lambda text: seen in text
        got = ""
        end = time.monotonic() + seconds
        while not is_there(self.text):
            if time.monotonic() > end:
                raise AssertionError(f"never seen: {seen}\n{self.text}")
            got += self.read()
        return got + self.settle()

    def settle(self, quiet: float = 0.3) -> str:
        """Wait until no output has arrived for `quiet` seconds; return all output until then."""
        got = ""
        while more := self.read(quiet):
            got += more
        return got

    def press(self, keys: str) -> None:
        """Type `keys`."""
        self.child.send(keys)

    def close(self) -> None:
        """End the program."""
        self.child.close(force=True)


@pytest.fixture
def pty() -> Iterator[Callable[..., Pty]]:
    """Start Python programs in ptys: `pty("print(1)", width=80, height=24, NO_COLOR="1")`. They end with the test."""
    started: list[Pty] = []

    def start(program: str | Path, *arguments: str, width: int = 80, height: int = 24, **environ: str) -> Pty:
        how = [str(program)] if isinstance(program, Path) else ["-c", program]
        terminal = Pty([sys.executable, *how, *arguments], width=width, height=height, **environ)
        started.append(terminal)
        return terminal

    yield start
    for terminal in started:
        terminal.close()


SPEC = """\
---
spec_id: {name}
type: integration
status: in-progress
---

# Spec: {name}

## Integration Overview

### Source System

```yaml
connector: file
path: {name}.jsonl
key: id
```

### Target System

```yaml
connector: file
path: {name}-out.jsonl
mode: upsert
key: external_id
```

## Data Flow

### Frequency

Hourly

## Field Mapping

| Source Field | Target Field | Transformation | Notes |
|---|---|---|---|
| id | external_id | Direct | |
| name | name | Trim, Required | |

## Authentication

### Source System Auth

```yaml
type: none
```

### Target System Auth

```yaml
type: none
```
"""


class Workspace:
    """A directory with the specs `orders` and `people`, both from file to file, and a run log."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = HeldClock(datetime(2026, 11, 24, 9, 15, tzinfo=UTC))
        self.runlog = directory / ".speclab" / "runlog.db"
        (directory / ".speclab").mkdir()
        for name in ("orders", "people"):
            (directory / f"{name}.md").write_text(SPEC.format(name=name), "utf-8")
            records = [{"id": "1", "name": " Ada "}, {"id": "2", "name": None}, {"id": "3", "name": "Grace"}]
            lines = [json.dumps(record) + "\n" for record in records]
            (directory / f"{name}.jsonl").write_text("".join(lines), "utf-8")

    def log(self) -> RunLog:
        return RunLog.open(self.runlog, self.clock)

    def run(
        self, spec_id: str, *, read: int = 200, failures: Sequence[NewFailure] = (), error: str | None = None
    ) -> str:
        """Add a finished run of one page that took five seconds; return its id."""
        with self.log() as log:
            log.register(spec_id, title=spec_id, path=f"{spec_id}.md", status="in-progress", schedule="Hourly")
            run = log.start_run(spec_id, "hash", "schedule")
            log.commit_page(run, page(read, failures))
            self.clock.time += timedelta(seconds=5)
            log.finish_run(run, error)
        return run

    def start(self, spec_id: str, *, read: int, total: int) -> str:
        """Add a run in progress, in this process."""
        with self.log() as log:
            log.register(spec_id, title=spec_id, path=f"{spec_id}.md", status="in-progress", schedule="Hourly")
            run = log.start_run(spec_id, "hash", "manual")
            log.commit_page(run, replace(page(read), total=total))
        return run


def page(read: int, failures: Sequence[NewFailure] = ()) -> PageResult:
    states = Counter(failure.state.value for failure in failures)
    outcomes = {Outcome(state): count for state, count in states.items()}
    return PageResult(
        read=read,
        outcomes={Outcome.WRITTEN: read - len(failures), **outcomes},
        effects={},
        bytes_in=read * 380,
        bytes_out=read * 240,
        cursor=None,
        failures=failures,
        message=f"page 1, {read} read, {read - len(failures)} written",
    )


def dead(key: str, message: str = 'no entry for "P0" in Lookup(priority)') -> NewFailure:
    """Return the failure of a record that could not be mapped."""
    return NewFailure(
        key=key,
        state=FailureState.DEAD,
        stage=Stage.MAP,
        error_class=ErrorClass.MAPPING,
        message=message,
        file="people.md",
        line=40,
        column=17,
        row="priority",
        source={"id": key, "name": {"given": "Ada ", "family": "Lovelace"}, "priority": "P0"},
    )


def waiting(key: str) -> NewFailure:
    """Return the failure of a record that waits in the retry queue."""
    return NewFailure(
        key=key,
        state=FailureState.WAITING,
        stage=Stage.WRITE,
        error_class=ErrorClass.SERVER,
        status=503,
        message="503 Service Unavailable",
        file="people.md",
        line=20,
        source={"id": key},
        payload={"external_id": key},
        request=f"PUT /customers/{key}",
        response="503 Service Unavailable\n\nthe ledger is closed",
        attempts=3,
        next_attempt_at="2026-11-24T09:45:00.000Z",
    )


@pytest.fixture(autouse=True)
def keep_toasts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep toasts on the screen: on a busy machine they would disappear before a test has read them."""
    monkeypatch.setattr(Notification, "time_left", 3600.0)
    monkeypatch.setattr(Notification, "has_expired", False)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace with two specs and a clock, in true color and with times in UTC."""
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    return Workspace(tmp_path)


@pytest.fixture
def filled(workspace: Workspace) -> Workspace:
    """A workspace in which one integration has failures and the other has none."""
    workspace.run("orders", read=180)
    workspace.clock.time += timedelta(minutes=20)
    workspace.run("people", failures=[*(dead(f"c_{n}") for n in range(14)), waiting("w_1"), waiting("w_2")])
    workspace.clock.time += timedelta(minutes=6)
    return workspace


def screen_of(pilot: Pilot[None]) -> str:
    """Return the text on the screen."""
    strips = pilot.app.screen._compositor.render_strips()
    return "\n".join(strip.text.rstrip() for strip in strips)


@pytest.fixture
def screen() -> Callable[[Pilot[None]], str]:
    """Return the text on the screen: `screen(pilot)`."""
    return screen_of


@pytest.fixture
def until() -> Callable[..., Awaitable[None]]:
    """Wait until a condition is true: `await until(pilot, lambda: app.overview is not None)`."""

    async def wait(pilot: Pilot[None], true: Callable[[], object], seconds: float = 60) -> None:
        async with asyncio.timeout(seconds):
            while not true():
                await pilot.pause(0.02)

    return wait


@pytest.fixture
def see(until: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Wait until all texts are on the screen: `await see(pilot, "No runs yet.")`."""

    async def wait(pilot: Pilot[None], *texts: str) -> None:
        try:
            await until(pilot, lambda: all(text in screen_of(pilot) for text in texts))
        except TimeoutError:
            raise AssertionError(f"not all of {texts} in\n{screen_of(pilot)}") from None

    return wait


Running = Callable[..., AbstractAsyncContextManager[Pilot[None]]]


@pytest.fixture
def running(until: Callable[..., Awaitable[None]]) -> Running:
    """Run the app in a directory: `async with running(directory, view="mapping", size=(80, 24)) as pilot`."""

    @asynccontextmanager
    async def start(directory: Path, **options: Any) -> AsyncIterator[Pilot[None]]:
        size = options.pop("size", (120, 40))
        app = SpeclabApp(directory, **options)
        async with app.run_test(size=size, notifications=True) as pilot:
            await until(pilot, lambda: app.specs is not None and app.view is not None)
            await pilot.pause()
            yield pilot

    return start
