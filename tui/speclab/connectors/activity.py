"""The progress of a run within the current page, which the run log stores once a second."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from speclab.core.clock import Clock, format_timestamp
from speclab.core.json import Record


@dataclass(frozen=True, slots=True)
class Wait:
    """A wait and its reason."""

    reason: str
    until: str


@dataclass(slots=True)
class Activity:
    """Counters of one run.

    `page` is the number of the page in progress, `records` how many records it has, `sent` how many of them the target
    has answered. `records` is 0 while the page is being read. `requests` counts all HTTP requests of the run.
    """

    page: int = 0
    records: int = 0
    sent: int = 0
    requests: int = 0
    _waits: list[Wait] = field(default_factory=list)

    def read_page(self, number: int) -> None:
        """Start to read page `number`."""
        self.page, self.records, self.sent = number, 0, 0

    def send_page(self, records: int) -> None:
        """Start to write the page that was read."""
        self.records, self.sent = records, 0

    @contextmanager
    def waiting(self, reason: str, seconds: float, clock: Clock) -> Iterator[None]:
        """Show inside the block that the run waits for `seconds`, and why."""
        wait = Wait(reason, format_timestamp(clock.now() + timedelta(seconds=seconds)))
        self._waits.append(wait)
        try:
            yield
        finally:
            self._waits.remove(wait)

    def progress(self) -> Record:
        """Return the counters and the longest current wait as the run log stores them."""
        wait = max(self._waits, key=lambda one: one.until, default=None)
        return {
            "page": self.page,
            "records": self.records,
            "sent": self.sent,
            "requests": self.requests,
            **({"wait": wait.reason, "until": wait.until} if wait is not None else {}),
        }
