"""Alerts of an integration: their states, and which notifications follow from a change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from speclab.core.clock import format_timestamp
from speclab.core.outcome import AlertState, NoticeKind
from speclab.mapping.cel import EvaluationError
from speclab.mapping.cel.functions import ExpressionSyntaxError
from speclab.monitor.checks import CheckResult, Checks
from speclab.monitor.notices import NoticeBuilder
from speclab.runlog import AlertRow, NewNotice, RunLog, RunLogReader, SilenceRow
from speclab.runlog.outbox import get_silences
from speclab.spec.integration import Alert, Integration, Schedule
from speclab.spec.notifications import CRITICAL, NotificationSettings
from speclab.spec.settings_types import format_duration

FAILED: Final = "Run failed"
OVERDUE: Final = "No successful run"
DEAD_LETTERS: Final = "Dead letters"
SCHEDULER: Final = "Scheduler is not running"
"""The names of alerts that need no row in the Alerts table."""

FLAPPING: Final = 3
"""An alert that starts to fire this often within an hour is flapping: it goes on firing until it has settled."""
_HOUR: Final = timedelta(hours=1)
_SETTLE: Final = timedelta(minutes=15)
_OVERDUE_HOLD: Final = 300.0
"""Seconds for which an integration must be overdue: after a pause or a restart, the run that makes up is given time."""
_REAL_TIME: Final = 900.0


@dataclass(frozen=True, slots=True)
class WatchedSpec:
    """What is evaluated of a spec."""

    spec_id: str
    title: str
    alerts: tuple[Alert, ...]
    notifications: NotificationSettings

    @classmethod
    def of(cls, spec_id: str, integration: Integration) -> WatchedSpec:
        """Return the alerts of an integration, including the ones without a row."""
        settings = integration.notifications
        standard = build_standard_alerts(settings, integration.schedule)
        return cls(spec_id, integration.title, (*integration.alerts, *standard), settings)


def build_standard_alerts(settings: NotificationSettings, schedule: Schedule) -> Iterator[Alert]:
    """Yield the alerts that need no row in the Alerts table.

    An integration with a schedule is always watched for its next success, and for the scheduler; the others follow
    from the setting `on`.
    """
    on = settings.on
    failed = ", ".join(on.failed)
    overdue = failed if on.overdue is None else ", ".join(on.overdue)
    if (period := get_period(schedule)) is not None:
        when = f'since_success() > duration("{format_duration(2 * period)}")'
        yield Alert(OVERDUE, when, _OVERDUE_HOLD, overdue, 0, CRITICAL)
        yield Alert(SCHEDULER, "", 0.0, overdue, 0, CRITICAL)
    if on.failed:
        yield Alert(FAILED, "failing()", 0.0, failed, 0, CRITICAL)
    if on.dead_letters is not None:
        yield Alert(DEAD_LETTERS, f"dead_letters() > {on.dead_letters.above}", 0.0, ", ".join(on.dead_letters.to), 0)


def get_period(schedule: Schedule) -> float | None:
    """Return the longest time in seconds between two runs of a schedule; None for one without a period."""
    match schedule.kind:
        case "hourly":
            return 3600.0
        case "daily":
            return 86400.0
        case "every":
            return schedule.every
        case "real_time":
            return _REAL_TIME
        case "cron":
            return _get_cron_period(schedule.cron or "")
        case _:
            return None


def _get_cron_period(expression: str) -> float | None:
    """Return the longest time between two of the first hundred times of a cron expression in a year."""
    from datetime import UTC
    from itertools import islice, pairwise

    from cronsim import CronSim

    times = list(islice(CronSim(expression, datetime(2026, 1, 1, tzinfo=UTC)), 100))
    return max(((later - earlier).total_seconds() for earlier, later in pairwise(times)), default=None)


def evaluate_alerts(
    log: RunLog, reader: RunLogReader, spec: WatchedSpec, now: datetime, outage: str | None = None
) -> list[AlertRow]:
    """Evaluate and save the alerts of a spec, queue their notifications, and return the alerts that changed.

    `outage` is why the scheduler is not running, if that is known. If another process evaluates at the same time, one
    of them does nothing, so that no channel is notified twice.
    """
    before = {row.name: row for row in reader.alerts(spec.spec_id)}
    results: dict[str, CheckResult] = {}
    rows = build_alert_rows(Checks(reader, spec.spec_id, now), spec, before, now, results, outage)
    silences = get_silences(reader, now, spec.spec_id)
    notices = _NoticePlan(reader, spec, before, results, silences, now)
    rows, new = notices.plan(rows)
    if not log.save_alerts(spec.spec_id, rows, new, before):
        return []
    return [row for row in rows if _fires(before.get(row.name)) != _fires(row)]


def build_alert_rows(
    checks: Checks,
    spec: WatchedSpec,
    before: Mapping[str, AlertRow],
    now: datetime,
    results: dict[str, CheckResult],
    outage: str | None = None,
) -> list[AlertRow]:
    """Evaluate alerts, given their states `before`, and put the result of each into `results`.

    An alert fires once it was true at every evaluation for its hold time, and stops firing when it is not true; an
    expression without data is not true. An alert that cannot be evaluated fires at once, to be noticed.
    """
    rows: dict[str, AlertRow] = {}
    for alert in spec.alerts:
        name = alert.name if alert.name not in rows else f"{alert.name} (line {alert.line})"
        was = before.get(name)
        try:
            result = checks.evaluate(alert.when) if alert.when else CheckResult(outage is not None, outage or "")
        except (ExpressionSyntaxError, EvaluationError) as error:
            result = CheckResult(True, f"cannot be evaluated: {error}")
            alert = replace(alert, hold=0.0)  # noqa: PLW2901 - fires at once
        results[name] = result
        rows[name] = _build_row(spec.spec_id, name, alert, result, was, now)
    return list(rows.values())


def _build_row(
    spec_id: str, name: str, alert: Alert, result: CheckResult, was: AlertRow | None, now: datetime
) -> AlertRow:
    at = format_timestamp(now)
    fired = tuple(one for one in was.fired if one > format_timestamp(now - _HOUR)) if was else ()
    state, settled, detail = AlertState.OK, None, result.detail
    if result.holds:
        state = _get_true_state(alert, was, now)
        if state is AlertState.FIRING and not _fires(was):
            fired = (*fired, at)
    elif was is not None and _fires(was) and (len(fired) >= FLAPPING or was.settled_at):
        settled = was.settled_at or at
        if now - datetime.fromisoformat(settled) < _SETTLE:
            state, detail = AlertState.FIRING, f"{detail} (fired {len(fired)} times within an hour)"
        else:
            settled = None
    since = was.since if was is not None and was.state is state else at
    notified = was.notified_at if was is not None and state is AlertState.FIRING and _fires(was) else None
    return AlertRow(spec_id, name, state, since, detail, alert.severity, notified, fired, settled)


def _get_true_state(alert: Alert, was: AlertRow | None, now: datetime) -> AlertState:
    """Return the state of an alert that is true now."""
    if _fires(was):
        return AlertState.FIRING
    held = 0.0
    if was is not None and was.state is AlertState.PENDING:
        held = (now - datetime.fromisoformat(was.since)).total_seconds()
    return AlertState.FIRING if held >= alert.hold else AlertState.PENDING


def _fires(row: AlertRow | None) -> bool:
    return row is not None and row.state is AlertState.FIRING


class _NoticePlan:
    """Decides who is notified of what."""

    def __init__(
        self,
        reader: RunLogReader,
        spec: WatchedSpec,
        before: Mapping[str, AlertRow],
        results: Mapping[str, CheckResult],
        silences: Sequence[SilenceRow],
        now: datetime,
    ) -> None:
        self._builder = NoticeBuilder(reader, spec.spec_id, spec.title, now)
        self._spec = spec
        self._alerts = dict(zip(results, spec.alerts, strict=True))
        self._before = before
        self._results = results
        self._silenced = {silence.alert for silence in silences}
        self._maintained = any(window.contains(now) for window in spec.notifications.maintenance)
        self._now = now

    def plan(self, rows: Sequence[AlertRow]) -> tuple[list[AlertRow], list[NewNotice]]:
        """Return `rows` with the time of their last notification, and the notifications."""
        planned: list[AlertRow] = []
        notices: list[NewNotice] = []
        for row in rows:
            new = list(self._notify(row))
            notices += new
            notified = any(one.kind is not NoticeKind.RESOLVED for one in new)
            planned.append(replace(row, notified_at=format_timestamp(self._now)) if notified else row)
        for name, was in self._before.items():
            if was.notified_at and name not in self._results:  # its row was removed
                notices += self._build(NoticeKind.RESOLVED, was, Alert(name, "", 0.0, "", 0, was.severity))
        return planned, notices

    def _notify(self, row: AlertRow) -> Iterator[NewNotice]:
        was, alert = self._before.get(row.name), self._alerts[row.name]
        if not _fires(row):
            if was is not None and was.notified_at:
                yield from self._build(NoticeKind.RESOLVED, was, alert)
        elif self._maintained or not self._silenced.isdisjoint({None, row.name}):
            return
        elif row.notified_at is None:
            yield from self._build(NoticeKind.FIRING, row, alert)
        elif self._is_reminder_due(row.notified_at):
            yield from self._build(NoticeKind.REMINDER, row, alert)

    def _is_reminder_due(self, notified_at: str) -> bool:
        interval = self._spec.notifications.reminder
        if not interval:
            return False
        return (self._now - datetime.fromisoformat(notified_at)).total_seconds() >= interval

    def _build(self, kind: NoticeKind, row: AlertRow, alert: Alert) -> Iterator[NewNotice]:
        """Yield the notifications of one alert, one per channel."""
        settings = self._spec.notifications
        channels = settings.find_channels(alert.channels)
        if kind is NoticeKind.RESOLVED and settings.on.recovered is not None:
            channels = settings.on.recovered
        if not channels:
            return
        content = self._builder.build(kind, row, alert, self._results.get(row.name)).to_json()
        due = format_timestamp(self._find_due(alert.severity))
        for channel in dict.fromkeys(channels):
            yield NewNotice(row.name, kind, row.since, channel, alert.severity, content, due)

    def _find_due(self, severity: str) -> datetime:
        """Return when to deliver: now, or at the end of the quiet hours."""
        quiet = self._spec.notifications.quiet
        if quiet is None or quiet.exempt == severity:
            return self._now
        return quiet.find_end(self._now) or self._now
