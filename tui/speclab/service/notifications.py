"""Evaluation of the alerts of a workspace, and delivery of the notifications that the run log has queued.

Each channel is served by its own task with a timeout, so that a dead channel delays no other and no run. A message is
delivered at least once: it stays in the outbox until the receiver has accepted it, or for a day.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from io import StringIO
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from speclab.connectors.api import Report
from speclab.connectors.http_transport import request_once
from speclab.connectors.trust import Approve, open_channels, refuse
from speclab.core.clock import Clock, format_timestamp
from speclab.core.errors import SpeclabError
from speclab.core.json import Record
from speclab.core.outcome import AlertState, Level, NoticeKind, NoticeState
from speclab.core.text import format_count
from speclab.monitor.alerts import WatchedSpec, evaluate_alerts
from speclab.monitor.notices import (
    Notice,
    render_slack,
    render_subject,
    render_teams,
    render_text,
    render_webhook,
)
from speclab.runlog import AlertRow, NoticeRow, RunLog, RunLogReader
from speclab.service.heartbeat import PERIOD, read_heartbeat
from speclab.spec.notifications import Channel, EmailChannel
from speclab.spec.settings_types import format_duration

if TYPE_CHECKING:
    from pathlib import Path

    from speclab.connectors.secrets.references import References
    from speclab.service.spec_registry import RegisteredSpec

LEASE: Final = timedelta(minutes=5)
"""Time after which another process delivers what this one has claimed and not closed: this one was killed."""
_LONGEST: Final = 120.0
"""Maximum seconds of one delivery, for any timeout of the channel: less than the lease."""
_TOKEN: Final = 8
"""Minimum length of a part of a URL that is treated as a token."""
_GIVE_UP: Final = timedelta(days=1)
_BACKOFF: Final = 30.0
_CAP: Final = 1800.0
_STALE: Final = timedelta(seconds=6 * PERIOD)


def evaluate_specs(
    log: RunLog,
    reader: RunLogReader,
    registered: Mapping[str, RegisteredSpec],
    idle: AbstractSet[str],
    now: datetime,
    outage: str | None = None,
) -> list[AlertRow]:
    """Evaluate the alerts of all specs in progress that are not paused, and return the alerts that changed.

    A spec that is not in progress has no alerts; a pending alert of a paused one is forgotten. `outage` is why the
    scheduler is not running, if that is known.
    """
    changed = []
    paused = {row.spec_id for row in reader.integrations() if row.paused_at}
    for spec_id, spec in registered.items():
        if spec.integration is not None and spec_id not in paused:
            changed += evaluate_alerts(log, reader, WatchedSpec.of(spec_id, spec.integration), now, outage)
    alerts = reader.alerts()
    for spec_id in {alert.spec_id for alert in alerts} & idle:
        log.save_alerts(spec_id, [])
    for spec_id in {alert.spec_id for alert in alerts if alert.state is AlertState.PENDING} & paused:
        kept = [row for row in alerts if row.spec_id == spec_id and row.state is not AlertState.PENDING]
        log.save_alerts(spec_id, kept)
    return changed


def find_outage(workspace: Path, now: datetime) -> str | None:
    """Return why the scheduler of `workspace` is not running, if it should be: it has left a stale heartbeat."""
    beat = read_heartbeat(workspace)
    if beat is None or beat.stopped is not None:
        return None
    if now - datetime.fromisoformat(beat.beat) < _STALE and beat.alive(workspace, now):
        return None
    state = "does not respond" if beat.alive(workspace, now) else "died"
    return f"speclab up, process {beat.pid} on {beat.host}, {state}; its last heartbeat was at {beat.beat}"


class DeliveryFailed(SpeclabError):
    """A channel did not accept a message; `retry_after` are the seconds that it asks to wait."""

    def __init__(self, message: str, *, retry_after: float = 0.0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


@dataclass(slots=True)
class _Batch:
    """Notifications for one channel. Specs whose channels have the same settings share it."""

    channel: Channel
    references: References
    rows: list[NoticeRow] = field(default_factory=list)

    @property
    def ids(self) -> list[int]:
        return [row.id for row in self.rows]

    @property
    def notices(self) -> list[Notice]:
        """The messages, the latest about each firing of an alert: a resolved one supersedes the others."""
        latest = {(row.spec_id, row.alert, row.since): row for row in sorted(self.rows, key=lambda row: row.id)}
        return [Notice.from_json(row.content) for row in latest.values()]


class Notifier:
    """Delivers the notifications in the outbox of a run log."""

    def __init__(self, log: RunLog, clock: Clock, report: Report, approve: Approve = refuse) -> None:
        self._log = log
        self._clock = clock
        self._report = report
        self._approve = approve
        self._tasks: set[asyncio.Task[None]] = set()
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._not_before: dict[str, datetime] = {}

    def start_due(self, registered: Mapping[str, RegisteredSpec]) -> None:
        """Start to deliver due messages, with the channels of the specs as they are now."""
        now = self._clock.now()
        batches: dict[str, _Batch] = {}
        for row in self._log.outbox.claim(now, now + LEASE):
            spec = registered.get(row.spec_id)
            if spec is None or spec.integration is None:
                reason = spec.problem if spec is not None else "the spec is not in progress"
                self._drop_or_wait([row], reason, broken=spec is not None)
                continue
            settings = spec.integration.notifications
            channel = settings.get_channel(row.channel)
            if channel is None:
                self._drop_or_wait([row], "the spec has no such channel any more", broken=False)
                continue
            key = hashlib.sha256(channel.model_dump_json().encode()).hexdigest()
            if (until := self._not_before.get(key, now)) > now:
                self._log.outbox.postpone([row.id], until, "the channel asks to wait", attempts=0)
                continue
            try:
                references = open_channels(spec.path, settings, self._approve)
            except SpeclabError as error:
                self._retry_later([row], DeliveryFailed(error.message.partition("\n")[0]))
                continue
            batches.setdefault(key, _Batch(channel, references)).rows.append(row)
        for key, batch in batches.items():
            task = asyncio.create_task(self._deliver(key, batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def finish(self, seconds: float) -> None:
        """Wait for deliveries in progress, at most `seconds`; undelivered messages stay in the outbox."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _deliver(self, key: str, batch: _Batch) -> None:
        """Deliver one batch, after an earlier one for the same channel."""
        async with self._locks[key]:
            try:
                await self._send(batch)
            except DeliveryFailed as error:
                failure: DeliveryFailed | None = error
            except Exception as bug:  # noqa: BLE001 - of a library, which must not end the service
                failure = DeliveryFailed(f"a bug: {bug!r}")
            else:
                failure = None
            try:
                self._record(key, batch, failure)
            except SpeclabError as error:  # the lease ends, and the message is delivered again
                self._report(Level.ERROR, f"notifications: {error.message}")

    def _record(self, key: str, batch: _Batch, failure: DeliveryFailed | None) -> None:
        """Save the result of a delivery in the run log."""
        if failure is not None:
            failure.message = batch.references.redactor.redact(failure.message)
            if failure.retry_after:
                self._not_before[key] = self._clock.now() + timedelta(seconds=failure.retry_after)
            self._retry_later(batch.rows, failure)
            return
        self._log.outbox.close(batch.ids, NoticeState.DELIVERED, self._clock.now())
        for row in batch.rows:
            times = f" at attempt {row.attempts + 1}" if row.attempts else ""
            self._log_event(row, Level.INFO, f"{row.channel}: notified of {row.alert} ({row.kind}){times}")

    async def _send(self, batch: _Batch) -> None:
        """Send one message. Raises `DeliveryFailed`."""
        channel, notices = batch.channel, batch.notices
        if channel.kind in ("log", "dashboard"):
            self._show(channel, batch.rows, notices)
            return
        await deliver(channel, batch.references, notices, batch.ids)

    def _show(self, channel: Channel, rows: Sequence[NoticeRow], notices: Sequence[Notice]) -> None:
        """Show messages in the output of this process, or in the events of the run log."""
        for row, notice in zip(rows, notices, strict=False):
            level = Level.INFO if notice.kind is NoticeKind.RESOLVED else Level.WARNING
            if channel.log:
                self._report(level, "; ".join([notice.headline, *notice.list_lines()]))
            else:
                message = f"{notice.headline}; {notice.figure or notice.reason}".rstrip("; ")
                self._log.log_event(row.spec_id, None, level, "notification", message, {"channel": row.channel})

    def _retry_later(self, rows: Sequence[NoticeRow], error: DeliveryFailed) -> None:
        """Schedule the next attempt; after a day, give up."""
        now = self._clock.now()
        for row in rows:
            wait = max(error.retry_after, min(_BACKOFF * 2.0**row.attempts, _CAP))
            until = now + timedelta(seconds=wait)
            if until - datetime.fromisoformat(row.created_at) > _GIVE_UP:
                self._log.outbox.close([row.id], NoticeState.FAILED, now, error.message)
                message = f"{row.channel}: given up after {format_count(row.attempts + 1, 'attempt')}: {error.message}"
                self._log_event(row, Level.ERROR, message)
                continue
            self._log.outbox.postpone([row.id], until, error.message)
            message = f"{row.channel}: not notified of {row.alert}: {error.message}; next attempt in {wait:,.0f} s"
            self._log_event(row, Level.WARNING, message)

    def _drop_or_wait(self, rows: Sequence[NoticeRow], reason: str, *, broken: bool) -> None:
        """Drop messages without a channel; those of a spec that is `broken` right now wait."""
        if broken:
            self._retry_later(rows, DeliveryFailed(reason))
            return
        for row in rows:
            self._log.outbox.close([row.id], NoticeState.DROPPED, self._clock.now(), reason)
            self._log_event(row, Level.WARNING, f"{row.channel}: not notified of {row.alert}: {reason}")

    def _log_event(self, row: NoticeRow, level: Level, message: str) -> None:
        if level is not Level.INFO:
            self._report(level, f"{row.spec_id}: {message}")
        fields = {"channel": row.channel, "alert": row.alert}
        self._log.log_event(row.spec_id, None, level, "notification", message, fields)


async def deliver(channel: Channel, references: References, notices: Sequence[Notice], ids: Sequence[int]) -> None:
    """Resolve the references of a channel, and send messages to it within its timeout.

    Raises `DeliveryFailed`, with secrets redacted.
    """
    try:
        async with asyncio.timeout(min(channel.timeout, _LONGEST)):
            await references.fetch(channel)
            resolved = references.resolve_settings(channel)
            for secret in _find_tokens(resolved):
                references.redactor.add(secret)
            await send(resolved, notices, ids)
    except TimeoutError:
        raise DeliveryFailed(f"no response within {format_duration(min(channel.timeout, _LONGEST))}") from None
    except DeliveryFailed as error:
        error.message = references.redactor.redact(error.message)
        raise
    except SpeclabError as error:  # not reachable, or a reference that cannot be resolved
        raise DeliveryFailed(references.redactor.redact(error.message), hint=error.hint) from None


def _find_tokens(channel: Channel) -> Iterator[str]:
    """Yield the parts of a secret URL that are tokens on their own: a receiver may repeat them in an error."""
    for url in filter(None, (channel.slack, channel.teams, channel.apprise)):
        scheme, _, rest = url.partition("://")
        path = rest.partition("/")[2] if scheme in ("http", "https") else rest
        yield from (part for part in re.split(r"[/:@?&=]", path) if len(part) >= _TOKEN)


async def send(channel: Channel, notices: Sequence[Notice], ids: Sequence[int]) -> None:
    """Send messages to a channel whose references are resolved.

    `ids` identify the messages to receivers that recognize repetitions. Raises `DeliveryFailed` and `Unreachable`.
    """
    key = hashlib.sha256(",".join(f"{notice.spec_id} {notice.since}" for notice in notices).encode())
    key.update(repr(ids).encode())
    identity = key.hexdigest()[:32]
    match channel.kind:
        case "slack":
            await _post(channel.slack or "", render_slack(notices), {})
        case "teams":
            await _post(channel.teams or "", render_teams(notices), {})
        case "webhook":
            await _post(
                channel.webhook or "", render_webhook(notices), {**channel.headers, "Idempotency-Key": identity}
            )
        case "email" if channel.email is not None:
            await _send_mail(channel.email, notices, identity, channel.timeout)
        case "apprise":
            await _send_with_apprise(channel.apprise or "", render_subject(notices), render_text(notices))


async def _post(url: str, payload: Record, headers: Mapping[str, str]) -> None:
    import httpx

    try:
        request = httpx.Request("POST", url, json=payload, headers={"User-Agent": "speclab", **headers})
    except (httpx.InvalidURL, ValueError, TypeError):
        raise DeliveryFailed("the URL of the channel is not valid") from None
    if request.url.scheme not in ("http", "https") or not request.url.host:
        raise DeliveryFailed("the URL of the channel is not an http:// or https:// URL")
    reply = await request_once(request, None)
    if not 200 <= reply.status < 300:
        text = " ".join(reply.text[:200].decode("utf-8", "replace").split())
        answer = f"{request.url.host} responded with {reply.status}{f': {text}' if text else ''}"
        raise DeliveryFailed(answer, retry_after=parse_retry_after(reply.headers.get("retry-after", "")))


def parse_retry_after(text: str) -> float:
    """Return the seconds in a Retry-After header (RFC 9110, 10.2.3), at most a day; 0 without a valid one."""
    if text.strip().isdigit():
        return min(float(text), _GIVE_UP.total_seconds())
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    seconds = (at - datetime.now(at.tzinfo)).total_seconds()
    return min(max(seconds, 0.0), _GIVE_UP.total_seconds())


def build_mail(channel: EmailChannel, notices: Sequence[Notice], identity: str) -> EmailMessage:
    """Return the messages as one mail; those about one firing of an alert are one thread."""
    mail = EmailMessage()
    sender = channel.sender or channel.to[0]
    domain = sender.rpartition("@")[2]
    mail["Subject"] = " ".join(render_subject(notices).split())
    mail["From"], mail["To"] = sender, ", ".join(channel.to)
    mail["Message-ID"] = f"<{identity}@{domain}>"
    first = notices[0]
    thread = hashlib.sha256(f"{first.spec_id} {first.alert} {first.since}".encode()).hexdigest()[:32]
    mail["References"] = f"<{thread}@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no vacation replies
    mail.set_content(render_text(notices))
    return mail


async def _send_mail(channel: EmailChannel, notices: Sequence[Notice], identity: str, seconds: float) -> None:
    import aiosmtplib

    url = urlsplit(channel.smtp)
    if url.scheme not in ("smtp", "smtps") or not url.hostname:
        raise DeliveryFailed("the URL of the SMTP server is not an smtp:// or smtps:// URL")
    tls, local = url.scheme == "smtps", url.hostname in ("localhost", "127.0.0.1", "::1")
    try:
        refused, _ = await aiosmtplib.send(
            build_mail(channel, notices, identity),
            hostname=url.hostname,
            port=url.port or (465 if tls else 587 if url.username else 25),
            username=unquote(url.username) if url.username else None,
            password=unquote(url.password) if url.password else None,
            use_tls=tls,
            start_tls=True if url.username and not tls and not local else None,  # a password is sent encrypted
            timeout=seconds,
        )
    except (aiosmtplib.SMTPException, OSError, ValueError) as error:
        raise DeliveryFailed(f"{url.hostname}: {' '.join(str(error).split())}") from None
    if refused:
        raise DeliveryFailed(f"{url.hostname} refused {', '.join(refused)}")


async def _send_with_apprise(url: str, subject: str, text: str) -> None:
    """Send in a separate thread: the libraries of Apprise block, and must not fill the pool that others use."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="apprise")
    try:
        await asyncio.get_running_loop().run_in_executor(pool, _notify_with_apprise, url, subject, text)
    finally:
        pool.shutdown(wait=False)


def _notify_with_apprise(url: str, subject: str, text: str) -> None:
    try:
        import apprise
    except ImportError:
        raise DeliveryFailed(
            "needs the extra 'apprise', which is not installed", hint="pip install 'speclab-tui[apprise]'"
        ) from None
    service = apprise.Apprise()
    captured = StringIO()
    logger, handler = logging.getLogger("apprise"), logging.StreamHandler(captured)
    handler.setLevel(logging.WARNING)
    logger.addHandler(handler)  # without one, Python prints warnings, which may contain the URL
    try:
        if not service.add(url):
            raise DeliveryFailed("not a URL that Apprise supports")
        if not service.notify(title=subject, body=text, body_format=apprise.NotifyFormat.TEXT):
            reason = " ".join(captured.getvalue().split())[:200]
            raise DeliveryFailed(f"the service did not accept the message{f': {reason}' if reason else ''}")
    finally:
        logger.removeHandler(handler)


def build_test_notice(title: str, spec_id: str, now: datetime) -> Notice:
    """Return the message that `speclab alerts test` sends."""
    at = format_timestamp(now)
    return Notice(
        kind=NoticeKind.FIRING,
        spec_id=spec_id,
        title=title,
        alert="Test of the channel",
        severity="warning",
        since=at,
        until=None,
        figure="This is a test; no alert is firing because of it.",
        reason="",
        groups=(),
        command=f"speclab alerts {spec_id}",
    )
