"""Alerts: which of a spec's are true, for how long, and which of them somebody must hear of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from speclab.clock import timestamp
from speclab.mapping.cel import EvaluationError
from speclab.mapping.cel_check import ExpressionSyntaxError
from speclab.monitor.checks import Checks
from speclab.outcome import AlertState
from speclab.runlog import AlertRow, RunLog, RunLogReader
from speclab.spec.integration import Alert


def evaluate(log: RunLog, reader: RunLogReader, spec_id: str, alerts: Sequence[Alert], now: datetime) -> list[AlertRow]:
    """Evaluate the alerts of an integration, record how they stand, and give those that began or ended firing."""
    before = {row.name: row for row in reader.alerts(spec_id)}
    rows = stand(Checks(reader, spec_id, now), spec_id, alerts, before, now)
    log.record_alerts(spec_id, rows)
    return list(_changed(rows, before))


def stand(
    checks: Checks, spec_id: str, alerts: Sequence[Alert], before: Mapping[str, AlertRow], now: datetime
) -> list[AlertRow]:
    """How `alerts` stand now, given how they stood `before`.

    One fires when it has been true at every evaluation for as long as it must hold, and is over when it is not true:
    having no data is not being true. One that cannot be evaluated fires at once, for it would never tell otherwise.
    """
    at = timestamp(now)
    rows: dict[str, AlertRow] = {}
    for alert in alerts:
        name = alert.name if alert.name not in rows else f"{alert.name} (line {alert.line})"
        was = before.get(name)
        try:
            verdict = checks.evaluate(alert.when)
        except (ExpressionSyntaxError, EvaluationError) as error:
            state, detail = AlertState.FIRING, f"cannot be evaluated: {error}"
        else:
            state, detail = _state(alert, was, now) if verdict.holds else AlertState.OK, verdict.detail
        since = was.since if was is not None and was.state is state else at
        rows[name] = AlertRow(spec_id, name, state, since, detail)
    return list(rows.values())


def _state(alert: Alert, was: AlertRow | None, now: datetime) -> AlertState:
    """How an alert stands that is true now."""
    if was is not None and was.state is AlertState.FIRING:
        return AlertState.FIRING
    held = 0.0
    if was is not None and was.state is AlertState.PENDING:
        held = (now - datetime.fromisoformat(was.since)).total_seconds()
    return AlertState.FIRING if held >= alert.hold else AlertState.PENDING


def _changed(rows: Iterable[AlertRow], before: Mapping[str, AlertRow]) -> Iterable[AlertRow]:
    """Those of `rows` that fire and did not, or did and do not."""
    for row in rows:
        fired = row.name in before and before[row.name].state is AlertState.FIRING
        if fired != (row.state is AlertState.FIRING):
            yield row
