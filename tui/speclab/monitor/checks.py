"""Checks over the run log: the functions of alerts and acceptance criteria, and alert states."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from speclab.core.clock import format_timestamp
from speclab.core.outcome import AlertState, ErrorClass
from speclab.mapping.cel import CelExpression, EvaluationError
from speclab.mapping.cel.syntax import ExpressionSyntaxError
from speclab.monitor.health import Figures, get_duration_p95, get_figures
from speclab.runlog import AlertRow, IntegrationRow, RunLog, RunLogReader
from speclab.spec.integration import Alert
from speclab.spec.units import parse_duration

Number = TypeVar("Number", int, float)

_OURS: Final = re.compile(r"\b(?:bytes|duration)(?=\s*\()")
"""CEL has functions of these names, which cannot be replaced; ours are called `Bytes` and so on, of the same length."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What an expression came to: true, false, or neither (None) for want of data; `detail` tells the figures found."""

    holds: bool | None
    detail: str


class Checks:
    """The run log as checks see it: one integration, at one moment."""

    def __init__(self, reader: RunLogReader, spec_id: str, now: datetime) -> None:
        self._reader = reader
        self._spec_id = spec_id
        self._now = now
        self._integration: IntegrationRow | None = next(iter(reader.integrations(spec_id)), None)
        self._found: dict[str, str] = {}
        self._missing: dict[str, str] = {}

    def evaluate(self, expression: str) -> CheckResult:
        """What `expression` comes to.

        Raises `ExpressionSyntaxError` or `EvaluationError` if it is not an expression that is true or false.
        """
        self._found, self._missing = {}, {}
        program = CelExpression(_OURS.sub(lambda match: match[0].capitalize(), expression), (), {
            "success_rate": self.success_rate,
            "error_count": self.error_count,
            "records": self.records,
            "Bytes": self.bytes,
            "Duration": parse_duration,
            "duration_p95": self.duration_p95,
            "retry_depth": self.retry_depth,
            "dead_letters": self.dead_letters,
            "lag": self.lag,
            "since_success": self.since_success,
        })  # fmt: skip
        try:
            value = program.evaluate({})
        except EvaluationError:
            if not self._missing:
                raise
            return CheckResult(None, self._detail())
        if not isinstance(value, bool):
            raise EvaluationError(f"expected true or false, not {value!r}")
        return CheckResult(value, self._detail())

    def success_rate(self, window: str) -> float:
        """(written + unchanged + filtered) / read."""
        rate = self._figures(window).success_rate
        if rate is None:
            raise self._no_data(f'success_rate("{window}")', "nothing was read")
        return self._tell(f'success_rate("{window}")', rate)

    def error_count(self, window: str, error_class: str | None = None) -> int:
        """Failed attempts at records and failed runs, or those of one class."""
        found = self._figures(window)
        if error_class is None:
            return self._tell(f'error_count("{window}")', found.errors)
        if error_class not in set(ErrorClass):
            raise ValueError(f"no error class {error_class!r}; expected one of {', '.join(ErrorClass)}")
        count = found.errors_by_class.get(ErrorClass(error_class), 0)
        return self._tell(f'error_count("{window}", "{error_class}")', count)

    def records(self, window: str) -> int:
        """Records read."""
        return self._tell(f'records("{window}")', self._figures(window).read)

    def bytes(self, window: str) -> int:
        """Bytes received from the source."""
        return self._tell(f'bytes("{window}")', self._figures(window).bytes_in, "B")

    def duration_p95(self, window: str) -> float:
        """Seconds that 95 of 100 runs take at most."""
        seconds = get_duration_p95(self._reader, self._spec_id, parse_duration(window), self._now)
        if seconds is None:
            raise self._no_data(f'duration_p95("{window}")', "no run went through to the end")
        return self._tell(f'duration_p95("{window}")', seconds, "s")

    def retry_depth(self) -> int:
        """Records waiting in the retry queue."""
        return self._tell("retry_depth()", 0 if self._integration is None else self._integration.waiting)

    def dead_letters(self) -> int:
        """Dead letters, and records in doubt."""
        row = self._integration
        return self._tell("dead_letters()", 0 if row is None else row.dead + row.unknown)

    def lag(self) -> float:
        """Seconds that a change may be old and not at the target yet."""
        if (row := self._integration) is None:
            raise self._no_data("lag()", "it has never run")
        arrived = row.arrived_at or row.registered_at
        return self._tell("lag()", self._since(min(arrived, row.oldest_waiting or arrived)), "s")

    def since_success(self) -> float:
        """Seconds since a run last ended as succeeded."""
        if (row := self._integration) is None:
            raise self._no_data("since_success()", "it has never run")
        return self._tell("since_success()", self._since(row.succeeded_at or row.registered_at), "s")

    def _figures(self, window: str) -> Figures:
        return get_figures(self._reader, self._spec_id, parse_duration(window), self._now)

    def _since(self, at: str) -> float:
        return max((self._now - datetime.fromisoformat(at)).total_seconds(), 0.0)

    def _tell(self, call: str, value: Number, unit: str = "") -> Number:
        """Keep `value`, in `unit` unless it is a count or a share, for the details of the verdict; return it."""
        self._found[call] = f"{round(value, 4):,}{unit and f' {unit}'}"
        return value

    def _no_data(self, call: str, why: str) -> ValueError:
        self._missing[call] = why
        return ValueError(why)

    def _detail(self) -> str:
        found = [f"{call} is {value}" for call, value in self._found.items()]
        return ", ".join(found + [f"{call} has no value: {why}" for call, why in self._missing.items()])


def evaluate(log: RunLog, reader: RunLogReader, spec_id: str, alerts: Sequence[Alert], now: datetime) -> list[AlertRow]:
    """Evaluate the alerts of an integration, record how they stand, and give those that began or ended firing."""
    before = {row.name: row for row in reader.alerts(spec_id)}
    rows = stand(Checks(reader, spec_id, now), spec_id, alerts, before, now)
    log.save_alerts(spec_id, rows)
    return list(_changed(rows, before))


def stand(
    checks: Checks, spec_id: str, alerts: Sequence[Alert], before: Mapping[str, AlertRow], now: datetime
) -> list[AlertRow]:
    """How `alerts` stand now, given how they stood `before`.

    One fires when it has been true at every evaluation for as long as it must hold, and is over when it is not true:
    having no data is not being true. One that cannot be evaluated fires at once, for it would never tell otherwise.
    """
    at = format_timestamp(now)
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
