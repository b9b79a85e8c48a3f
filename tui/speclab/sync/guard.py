"""The guard: what is suspicious about a run, going by the spec's Volume section. Pure computation.

A wrong path, an expired filter or a paging that stops early make a source look small, and everything about such a run
looks well. Only whoever wrote down how much there should be can tell.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from speclab.connectors.base import Page
from speclab.outcome import Level
from speclab.spec.settings import VolumeSettings
from speclab.spec.units import share_text


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something suspicious; `stops` if the spec wants the run to end there."""

    level: Level
    message: str
    stops: bool


@dataclass(slots=True)
class Guard:
    """Watches one run."""

    volume: VolumeSettings
    from_start: bool = False
    read: int = 0
    deletes: int = 0
    told: set[str] = field(default_factory=set)

    def reads(self, count: int, page: Page) -> Alarm | None:
        """So many records of `page` were read, and nothing was done with them yet."""
        self.from_start = page.from_start
        self.read += count
        name, expected = ("records", self.volume.records) if self.from_start else ("per_run", self.volume.per_run)
        if not expected or self.read <= expected * self.volume.guard.most:
            return None
        return self._once("most", f"{self.read:,} records were read so far; `{name}` of Volume says {expected:,}")

    def would_delete(self, count: int) -> Alarm | None:
        """So many records more are to be deleted, and were not yet."""
        self.deletes += count
        expected = self.volume.records
        if not count or not expected or self.deletes <= expected * self.volume.guard.deletes:
            return None
        return self._once("deletes", f"{self.deletes:,} of some {expected:,} records are to be deleted in one run")

    def would_lose(self, missing: int, known: int) -> Alarm | None:
        """So many are missing at the source of the records `known` at the target; they are to be deleted, and were not.

        Always stops: a source that lost its records for an hour must not cost the target its own. One alone may go, if
        others are left; all of them only where the whole is allowed.
        """
        share = self.volume.guard.deletes
        if not missing or share >= 1 or (missing <= max(1.0, known * share) and missing < known):
            return None
        message = (
            f"{missing:,} of {known:,} records at the target are not in the source any more; `guard.deletes` of Volume "
            f"lets a run delete {share_text(share)}, so none was deleted: raise it if they are to go"
        )
        return Alarm(Level.ERROR, message, stops=True)

    def ends(self) -> Alarm | None:
        """The source was read to its end."""
        expected = self.volume.records
        if not self.from_start or (self.read and not expected):
            return None
        if not self.read:
            says = f", and `records` of Volume says {expected:,}" if expected else ""
            level = Level.ERROR if expected else Level.WARNING
            return Alarm(level, f"the source gave no records{says}", stops=self._stops and bool(expected))
        if expected and self.read < expected * self.volume.guard.least:
            return self._once("least", f"the source gave {self.read:,} records; `records` of Volume says {expected:,}")
        return None

    @property
    def _stops(self) -> bool:
        return self.volume.guard.action == "stop"

    def _once(self, name: str, message: str) -> Alarm | None:
        if name in self.told:
            return None
        self.told.add(name)
        return Alarm(Level.ERROR if self._stops else Level.WARNING, message, self._stops)
