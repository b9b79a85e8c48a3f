"""The dashboard: an overview that is kept up to date, for the price of what changed."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from speclab.monitor.health import Condition, Health, Overview, healths, together
from speclab.runlog import RunLogReader

_STALE_AT_ONCE: Final = 25


class Dashboard:
    """How all integrations are, look after look.

    Each look works out anew what has changed since the last. An integration where nothing happens changes all the same
    as its window moves on; a few of those that are a minute old are taken along with every look.
    """

    def __init__(self, reader: RunLogReader, window: float) -> None:
        self.window = window
        self._reader = reader
        self._file = -1
        self._known: dict[str, tuple[datetime, Health]] = {}

    def look(self, now: datetime) -> Overview:
        """How all integrations are."""
        file, _ = self._reader.version()
        if file != self._file:
            self._file, self._known = file, {}
        minute = now.replace(second=0, microsecond=0)
        changed, stale = [], []
        with self._reader.snapshot():
            rows = self._reader.integrations()
            for row in rows:
                at, known = self._known.get(row.spec_id, (minute, None))
                if known is None or known.integration.revision != row.revision or known.condition is Condition.RUNNING:
                    changed.append(row)
                elif at < minute:
                    stale.append(row)
            fresh = healths(self._reader, changed + stale[:_STALE_AT_ONCE], self.window, now)
        self._known.update({health.integration.spec_id: (minute, health) for health in fresh})
        return together([self._known[row.spec_id][1] for row in rows])
