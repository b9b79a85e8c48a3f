"""Checks: what an acceptance criterion or an alert may ask of the run log, in CEL.

All functions are about one integration; `w` is a window such as "24h", to the minute, that ends now:

    success_rate(w)          (written + unchanged + filtered) / read, from 0.0 to 1.0
    error_count(w[, class])  failed attempts at records and failed runs, or those of one class ("timeout")
    records(w)               records read
    bytes(w)                 bytes received from the source
    duration_p95(w)          seconds that 95 of 100 runs take at most, of those that went through to the end
    retry_depth()            records waiting in the retry queue
    dead_letters()           dead letters, and records in doubt (sent, no answer)
    lag()                    seconds that a change may be old and not at the target yet: since the start of the last run
                             that went through to the end, or since the oldest waiting record failed, if that is longer
    since_success()          seconds since a run last ended as succeeded
    duration(d)              a time such as "2h" in seconds, to compare with

`lag` and `since_success` count from when the integration was registered if there was no such run. A function that has
nothing to go by (no record was read in the window, no run ended, the run log has never heard of the integration) gives
no value: what depends on it is neither true nor false.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from speclab.mapping.cel import EvaluationError, Expression
from speclab.monitor.health import Figures, duration_p95, figures
from speclab.outcome import ErrorClass
from speclab.runlog import IntegrationRow, RunLogReader
from speclab.spec.units import duration

Number = TypeVar("Number", int, float)

_OURS: Final = re.compile(r"\b(?:bytes|duration)(?=\s*\()")
"""CEL has functions of these names, which cannot be replaced; ours are called `Bytes` and so on, of the same length."""


@dataclass(frozen=True, slots=True)
class Verdict:
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

    def evaluate(self, expression: str) -> Verdict:
        """What `expression` comes to.

        Raises `ExpressionSyntaxError` or `EvaluationError` if it is not an expression that is true or false.
        """
        self._found, self._missing = {}, {}
        program = Expression(_OURS.sub(lambda match: match[0].capitalize(), expression), (), {
            "success_rate": self.success_rate,
            "error_count": self.error_count,
            "records": self.records,
            "Bytes": self.bytes,
            "Duration": duration,
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
            return Verdict(None, self._detail())
        if not isinstance(value, bool):
            raise EvaluationError(f"expected true or false, not {value!r}")
        return Verdict(value, self._detail())

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
        seconds = duration_p95(self._reader, self._spec_id, duration(window), self._now)
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
        return figures(self._reader, self._spec_id, duration(window), self._now)

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
