"""Delivery of notifications: channels that are fine, down, slow or throttled, with real receivers."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.clocks import HeldClock
from tests.receivers import HttpReceiver, http_receiver, mail_receiver
from tests.sync.service_workspace import ServiceWorkspace, workspace

from speclab.core.clock import format_timestamp
from speclab.core.outcome import AlertState, NoticeKind
from speclab.monitor.notices import Notice
from speclab.runlog import AlertRow, NewNotice, RunLog, RunLogReader
from speclab.runlog.outbox import get_notices
from speclab.service.heartbeat import Heartbeat, write_heartbeat
from speclab.service.notifications import LEASE, Notifier, build_mail, find_outage, parse_retry_after
from speclab.service.spec_registry import RegisteredSpec, SpecRegistry
from speclab.spec.notifications import EmailChannel

__all__ = ["workspace"]

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
{{connector: file, path: in.jsonl, key: id}}
```

### Target System

```yaml
{{connector: file, path: out.jsonl, key: id}}
```

## Field Mapping

| Source Field | Target Field | Transformation | Notes |
|--------------|--------------|----------------|-------|
| source.id    | target.id    | Direct         |       |

## Error Handling & Retry Strategy

### Error Notifications

```yaml
channels:
  {channels}
```
"""


class Place:
    """A workspace with specs, its run log, and a notifier on a clock that is held."""

    def __init__(self, directory: Path, log: RunLog, reader: RunLogReader, clock: HeldClock) -> None:
        self.directory = directory
        self.log = log
        self.reader = reader
        self.clock = clock
        self.said: list[str] = []
        self.notifier = self.new_notifier()

    def new_notifier(self) -> Notifier:
        return Notifier(self.log, self.clock, lambda _level, message: self.said.append(message))

    def spec(self, *channels: str, name: str = "crm") -> None:
        text = SPEC.format(name=name, channels="\n  ".join(channels) or "none: {log: true}")
        (self.directory / f"{name}.md").write_text(text)

    @property
    def specs(self) -> dict[str, RegisteredSpec]:
        found = SpecRegistry(self.directory, self.directory).scan().registered
        assert all(spec.integration for spec in found.values()), found
        return found

    def queue(
        self, *channels: str, alert: str = "Dead", name: str = "crm", kind: NoticeKind = NoticeKind.FIRING
    ) -> None:
        """Add one notification for each channel."""
        at = format_timestamp(self.clock.now())
        notice = Notice(kind, name, name, alert, "warning", at, None, "Dead letters: 14", "", (), "speclab failures")
        new = [NewNotice(alert, kind, at, one, "warning", notice.to_json(), at) for one in channels]
        self.log.save_alerts(name, [AlertRow(name, alert, AlertState.FIRING, at, "")], new)

    async def deliver(self) -> None:
        self.notifier.start_due(self.specs)
        await self.notifier.finish(20)

    def states(self) -> list[tuple[str, str, int]]:
        rows = reversed(get_notices(self.reader))
        return [(row.channel, row.state.value, row.attempts) for row in rows]

    def events(self) -> list[tuple[str, str]]:
        return [(one.level.value, one.message) for one in self.reader.events() if one.kind == "notification"]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    clock = HeldClock()
    (tmp_path / ".speclab").mkdir()
    with RunLog.open(tmp_path / ".speclab/runlog.db", clock) as log, RunLogReader.open(log.path) as reader:
        yield Place(tmp_path, log, reader, clock)


@pytest.fixture
def ops() -> Iterator[HttpReceiver]:
    with http_receiver() as receiver:
        yield receiver


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # in a plugin of Apprise
async def test_every_kind_of_channel_gets_the_message(
    place: Place, ops: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("slack", "teams", "apprise"):
        monkeypatch.setenv(
            kind.upper(), f"{ops.url}/{kind}".replace("http", "json" if kind == "apprise" else "http", 1)
        )
    with mail_receiver() as team:
        monkeypatch.setenv("SMTP", f"smtp://127.0.0.1:{team.port}")
        place.spec(
            'slack: {slack: "${env:SLACK}"}',
            'teams: {teams: "${env:TEAMS}"}',
            'apprise: {apprise: "${env:APPRISE}"}',
            f'webhook: {{webhook: "{ops.url}/webhook", headers: {{X-Team: ops}}}}',
            'mail: {email: {to: [a@example.org, b@example.org], smtp: "${env:SMTP}"}}',
        )
        names = ("slack", "teams", "apprise", "webhook", "mail", "log", "dashboard")
        place.queue(*names)
        await place.deliver()
        assert place.states() == [(name, "delivered", 1) for name in names]
        received = {path: (headers, body) for path, headers, body in ops.received}
        assert received["/slack"][1]["blocks"]
        assert received["/teams"][1]["attachments"]
        assert "Dead letters: 14" in str(received["/apprise"][1])
        assert received["/webhook"][0]["X-Team"] == "ops"
        assert len(received["/webhook"][0]["Idempotency-Key"]) == 32
        (mail,) = team.mails
        assert (mail["To"], mail["From"]) == ("a@example.org, b@example.org", "a@example.org")
    assert place.said == [
        "ALERT: crm: Dead; Since 2026-11-24 12:00 UTC (warning); Dead letters: 14; More: speclab failures"
    ]
    assert ("warning", "ALERT: crm: Dead; Dead letters: 14") in place.events()
    assert ("info", "slack: notified of Dead (firing)") in place.events()


async def test_a_receiver_that_is_down_is_tried_again_until_it_is_back(place: Place, ops: HttpReceiver) -> None:
    place.spec(f'ops: {{webhook: "{ops.url}"}}')
    place.queue("ops")
    ops.answers = [(503, {}, b"maintenance"), (500, {}, b"")]
    await place.deliver()
    assert place.states() == [("ops", "due", 1)]
    await place.deliver()
    assert len(ops.received) == 1  # not before the backoff is over
    place.clock.turn(30)
    await place.deliver()
    place.clock.turn(59)
    await place.deliver()
    assert len(ops.received) == 2
    place.clock.turn(1)
    await place.deliver()
    assert place.states() == [("ops", "delivered", 3)]
    assert place.events() == [
        ("warning", "ops: not notified of Dead: 127.0.0.1 responded with 503: maintenance; next attempt in 30 s"),
        ("warning", "ops: not notified of Dead: 127.0.0.1 responded with 500; next attempt in 60 s"),
        ("info", "ops: notified of Dead (firing) at attempt 3"),
    ]
    assert ops.bodies[0] == ops.bodies[2]
    keys = [headers["Idempotency-Key"] for _, headers, _ in ops.received]
    assert len(set(keys)) == 1


async def test_a_throttled_channel_waits_as_long_as_it_says_also_with_new_messages(
    place: Place, ops: HttpReceiver
) -> None:
    place.spec(f'ops: {{webhook: "{ops.url}"}}')
    place.queue("ops")
    ops.answers = [(429, {"Retry-After": "120"}, b"")]
    await place.deliver()
    place.queue("ops", alert="Other")
    place.clock.turn(119)
    await place.deliver()
    assert len(ops.received) == 1
    place.clock.turn(1)
    await place.deliver()
    assert [one["alert"] for one in ops.bodies[1]["alerts"]] == ["Dead", "Other"]
    assert place.states() == [("ops", "delivered", 2), ("ops", "delivered", 1)]


async def test_a_slow_channel_delays_no_other_and_times_out(place: Place, ops: HttpReceiver) -> None:
    with http_receiver() as slow:
        slow.hang = True
        place.spec(f'slow: {{webhook: "{slow.url}", timeout: 300ms}}', f'ops: {{webhook: "{ops.url}"}}')
        place.queue("slow", "ops")
        place.notifier.start_due(place.specs)
        assert await asyncio.to_thread(ops.arrived.wait, 10)
        assert place.states()[0] == ("slow", "due", 0)
        await place.notifier.finish(20)
    assert place.states() == [("slow", "due", 1), ("ops", "delivered", 1)]
    assert place.events()[-1][1] == "slow: not notified of Dead: no response within 300ms; next attempt in 30 s"


async def test_an_smtp_server_that_refuses_or_is_down_is_tried_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.spec('mail: {email: {to: a@example.org, smtp: "${env:SMTP}"}}')
    with mail_receiver() as team:
        monkeypatch.setenv("SMTP", f"smtp://ada:s3cret-word@127.0.0.1:{team.port}")
        team.refuse = "451 try again, ada s3cret-word"
        place.queue("mail")
        await place.deliver()
        assert place.events()[-1][1].startswith("mail: not notified of Dead: 127.0.0.1: (451, 'try again, ada ***')")
        team.refuse = ""
        place.clock.turn(30)
        await place.deliver()
        assert [mail["Subject"] for mail in team.mails] == ["ALERT: crm: Dead"]
    place.queue("mail")
    await place.deliver()
    assert "127.0.0.1: Error connecting to 127.0.0.1" in place.events()[-1][1]
    assert "s3cret-word" not in str(place.events())


async def test_alerts_that_fire_together_are_one_message_also_of_several_specs(place: Place, ops: HttpReceiver) -> None:
    channel = f'ops: {{webhook: "{ops.url}"}}'
    place.spec(channel)
    place.spec(channel.replace("ops:", "team:"), name="erp")
    place.queue("ops", alert="A")
    place.queue("ops", alert="B")
    place.queue("team", alert="C", name="erp")
    place.queue("ops", alert="A", kind=NoticeKind.RESOLVED)
    await place.deliver()
    (message,) = ops.bodies
    assert [(one["spec_id"], one["alert"], one["kind"]) for one in message["alerts"]] == [
        ("crm", "A", "resolved"), ("crm", "B", "firing"), ("erp", "C", "firing"),
    ]  # fmt: skip
    assert {state for _, state, _ in place.states()} == {"delivered"}


async def test_what_a_killed_process_had_claimed_is_delivered_by_the_next(place: Place, ops: HttpReceiver) -> None:
    place.spec(f'ops: {{webhook: "{ops.url}"}}')
    place.queue("ops")
    (claimed,) = place.log.outbox.claim(place.clock.now(), place.clock.now() + LEASE)
    assert claimed.channel == "ops"
    await place.deliver()
    assert ops.received == []
    place.clock.turn(LEASE.total_seconds())
    await place.deliver()
    assert len(ops.received) == 1


async def test_a_message_is_given_up_after_a_day_and_that_is_an_error_event(place: Place) -> None:
    place.spec('ops: {webhook: "http://127.0.0.1:9"}')
    place.queue("ops")
    while place.states()[0][1] == "due":
        await place.deliver()
        place.clock.turn(1800)
    assert place.clock.passed <= 86400 + 1800
    level, message = place.events()[-1]
    assert level == "error"
    assert message == "ops: given up after 49 attempts: http://127.0.0.1:9: cannot connect"


async def test_a_message_without_channel_or_spec_is_dropped_with_an_event(place: Place) -> None:
    place.spec()
    place.queue("gone")
    place.queue("log", name="erp")
    await place.deliver()
    assert place.states() == [("gone", "dropped", 1), ("log", "dropped", 1)]
    assert place.events() == [
        ("warning", "gone: not notified of Dead: the spec has no such channel any more"),
        ("warning", "log: not notified of Dead: the spec is not in progress"),
    ]


async def test_channels_of_an_untrusted_spec_are_not_contacted(
    place: Place, ops: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPECLAB_TRUST", "")
    monkeypatch.setenv("XDG_STATE_HOME", str(place.directory / "state"))
    place.spec(f'ops: {{webhook: "{ops.url}"}}')
    place.queue("ops")
    await place.deliver()
    assert ops.received == []
    assert "crm.md is not trusted" in place.events()[0][1]
    place.notifier = Notifier(place.log, place.clock, lambda *_: None, lambda wanted: bool(wanted.missing))
    place.clock.turn(30)
    await place.deliver()
    assert len(ops.received) == 1


async def test_a_reference_without_a_value_names_the_variable(place: Place) -> None:
    place.spec('ops: {slack: "${env:NO_SUCH_HOOK}"}')
    place.queue("ops")
    await place.deliver()
    assert "${env:NO_SUCH_HOOK}: the environment variable NO_SUCH_HOOK is not set" in place.events()[0][1]


async def test_the_secret_of_a_hook_is_in_no_event(
    place: Place, ops: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", f"{ops.url}/services/T0001/Sup3rS3cretT0ken")
    place.spec('ops: {slack: "${env:HOOK}"}', 'down: {teams: "${env:DOWN}"}')
    monkeypatch.setenv("DOWN", "http://127.0.0.1:9/workflows/An0therS3cretT0ken")
    ops.answers = [(403, {}, b"invalid_token Sup3rS3cretT0ken")]
    place.queue("ops", "down")
    await place.deliver()
    assert place.states() == [("ops", "due", 1), ("down", "due", 1)]
    for secret in ("Sup3rS3cretT0ken", "An0therS3cretT0ken"):
        assert secret not in str(place.events()) + str(place.said) + str(get_notices(place.reader))


async def test_apprise_is_optional(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    monkeypatch.setenv("ANY", "json://127.0.0.1:9")
    place.spec('any: {apprise: "${env:ANY}"}')
    place.queue("any")
    await place.deliver()
    assert "needs the extra 'apprise', which is not installed" in place.events()[0][1]


@pytest.mark.parametrize(
    ("header", "seconds"), [("120", 120.0), ("", 0.0), ("soon", 0.0), ("999999999", 86400.0), ("-1", 0.0)]
)
def test_retry_after_is_read_and_bounded(header: str, seconds: float) -> None:
    assert parse_retry_after(header) == seconds


def test_messages_about_one_firing_are_one_mail_thread() -> None:
    channel = EmailChannel.model_validate({"to": "ops@example.org", "smtp": "smtp://mail"})
    notice = Notice(NoticeKind.FIRING, "crm", "A\nB", "x", "warning", "2026-11-24T10:42:07.000Z", None, "", "", (), "")
    first, second = build_mail(channel, [notice], "1"), build_mail(channel, [notice], "2")
    assert first["References"] == second["References"]
    assert first["Message-ID"] != second["Message-ID"]
    assert first["Subject"] == "ALERT: A B: x"


def test_a_stale_heartbeat_is_an_outage_and_a_stopped_service_is_not(tmp_path: Path) -> None:
    clock = HeldClock()
    (tmp_path / ".speclab").mkdir()
    assert find_outage(tmp_path, clock.now()) is None
    beat = Heartbeat(1, "elsewhere", "ada", "", since=format_timestamp(clock.now()), beat=format_timestamp(clock.now()))
    write_heartbeat(tmp_path, beat)
    assert find_outage(tmp_path, clock.now()) is None
    late = clock.now() + timedelta(minutes=2)
    outage = find_outage(tmp_path, late)
    assert outage == "speclab up, process 1 on elsewhere, died; its last heartbeat was at 2026-11-24T12:00:00.000Z"
    write_heartbeat(tmp_path, Heartbeat(1, "elsewhere", "ada", "", beat.since, beat.beat, stopped=beat.beat))
    assert find_outage(tmp_path, late) is None


async def test_the_service_notifies_and_a_channel_that_hangs_delays_no_run(
    workspace: ServiceWorkspace, ops: HttpReceiver
) -> None:
    with http_receiver() as dead:
        dead.hang = True
        channels = f'ops: {{webhook: "{ops.url}"}}\n  dead: {{webhook: "{dead.url}", timeout: 60s}}'
        block = f"```yaml\nchannels:\n  {channels}\non: {{alerts: [dead, ops]}}\n```"
        section = f"## Error Handling & Retry Strategy\n\n### Error Notifications\n\n{block}\n\n"
        spec = workspace.spec()
        spec.write_text(spec.read_text().replace("## Monitoring", f"{section}## Monitoring"))
        async with workspace.serving():
            await workspace.wait_until(lambda: ops.received and dead.received)
            before = len(workspace.ended())
            await workspace.wait_until(lambda: len(workspace.ended()) >= before + 2)
            dead.released.set()
    (message,) = ops.bodies
    assert [one["alert"] for one in message["alerts"]] == ["Nothing yet"]
    assert workspace.events("notification").count("ops: notified of Nothing yet (firing)") == 1
