"""Checks over the run log: the functions of alerts and acceptance criteria."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeVar

from speclab.core.outcome import ErrorClass
from speclab.core.text import format_count
from speclab.mapping.cel import CelExpression, EvaluationError
from speclab.monitor.health import Figures, find_failing, get_duration_p95, get_figures
from speclab.runlog import IntegrationRow, RunLogReader
from speclab.runlog.retention import get_last_runs
from speclab.spec.settings_types import parse_duration

Number = TypeVar("Number", int, float)

_OURS: Final = re.compile(r"\b(?:bytes|duration)(?=\s*\()")
"""Functions of CEL that cannot be replaced: ours are called `Bytes` and `Duration`, names of the same length."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of an expression: true, false, or None without data; `detail` lists the figures found.

    `figures` are the values of the calls in it, such as `success_rate("1h")`.
    """

    holds: bool | None
    detail: str
    figures: Mapping[str, float] = field(default_factory=dict, compare=False)


class Checks:
    """Evaluates expressions about one integration at one moment."""

    def __init__(self, reader: RunLogReader, spec_id: str, now: datetime) -> None:
        self._reader = reader
        self._spec_id = spec_id
        self._now = now
        self._integration: IntegrationRow | None = next(iter(reader.integrations(spec_id)), None)
        self._found: dict[str, str] = {}
        self._missing: dict[str, str] = {}
        self._values: dict[str, float] = {}

    def evaluate(self, expression: str) -> CheckResult:
        """Return the result of `expression`.

        Raises `ExpressionSyntaxError` or `EvaluationError` if it is not a valid expression with a Boolean result.
        """
        self._found, self._missing, self._values = {}, {}, {}
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
            "reconciled": self.reconciled,
            "failing": self.failing,
        })  # fmt: skip
        try:
            value = program.evaluate({})
        except EvaluationError:
            if not self._missing:
                raise
            return CheckResult(None, self._format_detail())
        if not isinstance(value, bool):
            raise EvaluationError(f"expected true or false, not {value!r}")
        return CheckResult(value, self._format_detail(), self._values)

    def success_rate(self, window: str) -> float:
        """Return (written + unchanged + filtered) / read."""
        rate = self._get_figures(window).success_rate
        if rate is None:
            raise self._report_missing(f'success_rate("{window}")', "nothing was read")
        return self._report(f'success_rate("{window}")', rate)

    def error_count(self, window: str, error_class: str | None = None) -> int:
        """Return the number of failed attempts and failed runs, or of those with one error class."""
        found = self._get_figures(window)
        if error_class is None:
            return self._report(f'error_count("{window}")', found.errors)
        if error_class not in set(ErrorClass):
            raise ValueError(f"unknown error class {error_class!r}; expected one of {', '.join(ErrorClass)}")
        count = found.errors_by_class.get(ErrorClass(error_class), 0)
        return self._report(f'error_count("{window}", "{error_class}")', count)

    def records(self, window: str) -> int:
        """Return the number of records read."""
        return self._report(f'records("{window}")', self._get_figures(window).read)

    def bytes(self, window: str) -> int:
        """Return the number of bytes received from the source."""
        return self._report(f'bytes("{window}")', self._get_figures(window).bytes_in, "B")

    def duration_p95(self, window: str) -> float:
        """Return the 95th percentile of run durations, in seconds."""
        seconds = get_duration_p95(self._reader, self._spec_id, parse_duration(window), self._now)
        if seconds is None:
            raise self._report_missing(f'duration_p95("{window}")', "no run went through to the end")
        return self._report(f'duration_p95("{window}")', seconds, "s")

    def retry_depth(self) -> int:
        """Return the number of records in the retry queue."""
        return self._report("retry_depth()", 0 if self._integration is None else self._integration.waiting)

    def dead_letters(self) -> int:
        """Return the number of dead letters and of records with an unknown outcome."""
        row = self._integration
        return self._report("dead_letters()", 0 if row is None else row.dead + row.unknown)

    def lag(self) -> float:
        """Return the age in seconds of the oldest change that may not have reached the target."""
        if (row := self._integration) is None:
            raise self._report_missing("lag()", "it has never run")
        arrived = row.arrived_at or row.registered_at
        return self._report("lag()", self._measure_age(min(arrived, row.oldest_waiting or arrived)), "s")

    def since_success(self) -> float:
        """Return the seconds since the end of the last run that succeeded."""
        if (row := self._integration) is None:
            raise self._report_missing("since_success()", "it has never run")
        return self._report("since_success()", self._measure_age(row.succeeded_at or row.registered_at), "s")

    def reconciled(self, window: str | None = None) -> bool:
        """Return whether the last `speclab reconcile` found no difference; with `window`, one that is not older.

        A sample proves no more than its records, so it only counts if it found a difference.
        """
        call = "reconciled()" if window is None else f'reconciled("{window}")'
        row = self._reader.get_reconciliation(self._spec_id)
        if row is None:
            raise self._report_missing(call, "source and target were never compared")
        if window is not None and self._measure_age(row.at) > parse_duration(window):
            raise self._report_missing(call, f"source and target were last compared at {row.at}")
        if row.sample is not None and not row.differences:
            raise self._report_missing(call, f"the last comparison, at {row.at}, was only a sample of {row.sample:,}")
        self._found[call] = f"{str(not row.differences).lower()} ({format_count(row.differences, 'difference')})"
        return not row.differences

    def failing(self) -> bool:
        """Return whether the last run that was not cancelled, or the last run that read the source, failed."""
        last_runs = get_last_runs(self._reader, [self._spec_id])
        failed = bool(find_failing(self._reader, last_runs))
        self._found["failing()"] = "true" if failed else "false"
        return failed

    def _get_figures(self, window: str) -> Figures:
        return get_figures(self._reader, self._spec_id, parse_duration(window), self._now)

    def _measure_age(self, at: str) -> float:
        return max((self._now - datetime.fromisoformat(at)).total_seconds(), 0.0)

    def _report(self, call: str, value: Number, unit: str = "") -> Number:
        """Return `value`, and keep it with its `unit` for the detail of the result."""
        self._values[call] = value
        self._found[call] = f"{round(value, 4):,}{unit and f' {unit}'}"
        return value

    def _report_missing(self, call: str, why: str) -> ValueError:
        self._missing[call] = why
        return ValueError(why)

    def _format_detail(self) -> str:
        found = [f"{call} is {value}" for call, value in self._found.items()]
        return ", ".join(found + [f"{call} has no value: {why}" for call, why in self._missing.items()])
