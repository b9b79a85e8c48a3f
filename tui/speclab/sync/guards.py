"""Guards: stop a run whose volume or schema is not what the spec and earlier runs lead to expect."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Final

from speclab.connectors.api import Page
from speclab.core.json import Json, Record
from speclab.core.outcome import Level
from speclab.core.paths import FieldPath
from speclab.mapping.compiler import CompiledRow
from speclab.mapping.types import ValueKind, describe_kind, get_kind
from speclab.spec.settings import GuardSettings, VolumeSettings
from speclab.spec.units import format_share


@dataclass(frozen=True, slots=True)
class GuardAlarm:
    """Something suspicious; `stops` if the spec wants the run to end there."""

    level: Level
    message: str
    stops: bool


@dataclass(slots=True)
class VolumeGuard:
    """Watches one run."""

    volume: VolumeSettings
    from_start: bool = False
    read: int = 0
    deletes: int = 0
    told: set[str] = field(default_factory=set)

    def reads(self, count: int, page: Page) -> GuardAlarm | None:
        """So many records of `page` were read, and nothing was done with them yet."""
        self.from_start = page.from_start
        self.read += count
        name, expected = ("records", self.volume.records) if self.from_start else ("per_run", self.volume.per_run)
        if not expected or self.read <= expected * self.volume.guard.most:
            return None
        return self._once("most", f"{self.read:,} records were read so far; `{name}` of Volume says {expected:,}")

    def would_delete(self, count: int) -> GuardAlarm | None:
        """So many records more are to be deleted, and were not yet."""
        self.deletes += count
        expected = self.volume.records
        if not count or not expected or self.deletes <= expected * self.volume.guard.deletes:
            return None
        return self._once("deletes", f"{self.deletes:,} of some {expected:,} records are to be deleted in one run")

    def would_lose(self, missing: int, known: int) -> GuardAlarm | None:
        """So many are missing at the source of the records `known` at the target; they are to be deleted, and were not.

        Always stops: a source that lost its records for an hour must not cost the target its own. One alone may go, if
        others are left; all of them only where the whole is allowed.
        """
        share = self.volume.guard.deletes
        if not missing or share >= 1 or (missing <= max(1.0, known * share) and missing < known):
            return None
        message = (
            f"{missing:,} of {known:,} records at the target are not in the source any more; `guard.deletes` of Volume "
            f"lets a run delete {format_share(share)}, so none was deleted: raise it if they are to go"
        )
        return GuardAlarm(Level.ERROR, message, stops=True)

    def ends(self) -> GuardAlarm | None:
        """The source was read to its end."""
        expected = self.volume.records
        if not self.from_start or (self.read and not expected):
            return None
        if not self.read:
            says = f", and `records` of Volume says {expected:,}" if expected else ""
            level = Level.ERROR if expected else Level.WARNING
            return GuardAlarm(level, f"the source gave no records{says}", stops=self._stops and bool(expected))
        if expected and self.read < expected * self.volume.guard.least:
            return self._once("least", f"the source gave {self.read:,} records; `records` of Volume says {expected:,}")
        return None

    @property
    def _stops(self) -> bool:
        return self.volume.guard.action == "stop"

    def _once(self, name: str, message: str) -> GuardAlarm | None:
        if name in self.told:
            return None
        self.told.add(name)
        return GuardAlarm(Level.ERROR if self._stops else Level.WARNING, message, self._stops)


_SAMPLED: Final = 25
"""Records of a page that are looked at."""
_FEWEST: Final = 10
"""Records that must be without a field, whatever it was before, until it counts as gone."""
_BY_CHANCE: Final = 1e-6
"""How likely it may be that a field is missing from so many records by chance, and counts as gone all the same."""
_NOTHING: Final = ValueKind(0)
_NAMES: Final = 300
"""Fields of a record beyond which they are no schema but values, such as a count for each day."""


@dataclass(slots=True)
class FieldStats:
    """What a field is: `seen` in that many of `of` records, not null, and not in the `missing` latest beyond those."""

    seen: int = 0
    of: int = 0
    missing: int = 0
    kinds: ValueKind = _NOTHING

    @classmethod
    def of_json(cls, value: Json) -> FieldStats:
        """A habit as `as_json` gave it."""
        match value:
            case [int(seen), int(of), int(missing), [*kinds]]:
                known = [ValueKind[name] for name in kinds if isinstance(name, str) and name in ValueKind.__members__]
                return cls(seen, of, missing, _union(known))
        return cls()

    def as_json(self) -> Json:
        """The habit as the run log keeps it."""
        return [self.seen, self.of, self.missing, [kind.name for kind in self.kinds]]

    def take(self, values: Sequence[Json]) -> ValueKind:
        """Learn from the values of some records more, in the order of the records; gives their kinds."""
        there = [at for at, value in enumerate(values, 1) if value is not None]
        if not there:
            self.missing += len(values)
            return _NOTHING
        self.seen += len(there)
        self.of += self.missing + there[-1]
        self.missing = len(values) - there[-1]
        one_of_each = {type(value): value for value in values}  # flags are slow to join
        kinds = _union(map(_kind, one_of_each.values()))
        self.kinds |= kinds
        return kinds

    @property
    def is_gone(self) -> bool:
        """Whether chance does not explain that the latest records are without the field.

        With one record more than there were, one without it, so that even what was always there may be missing once
        (Laplace's rule of succession).
        """
        if not self.seen or self.missing < _FEWEST:
            return False
        return (1 - self.seen / (self.of + 1)) ** self.missing < _BY_CHANCE


class SchemaDrift:
    """Watches the records of one run."""

    def __init__(
        self, usual: Json, rows: Sequence[CompiledRow], file: str, minds: Callable[[Record], bool], guard: GuardSettings
    ) -> None:
        """Go on from what is `usual`, which the run before `learned`; None where there was none.

        `rows` are those of the mapping in the spec's `file`; `minds` tells whether the mapping is about a record.
        """
        held = usual if isinstance(usual, dict) else {}
        fields, names = held.get("fields"), held.get("names", [])
        before = fields if isinstance(fields, dict) else {}
        paths = dict.fromkeys(path for row in rows for path in row.source_paths)
        self._habits = {path: FieldStats.of_json(before.get(str(path))) for path in paths}
        self._names = {name for name in names if isinstance(name, str)} if isinstance(names, list) else None
        self._known = {path: habit.kinds for path, habit in self._habits.items() if habit.of >= _FEWEST}
        self._known_names = frozenset(self._names or ())
        self._told: set[FieldPath | str] = set()
        self._rows = rows
        self._file = file
        self._minds = minds
        self._guard = guard
        self.stopped = False
        """Whether the run is to end: what was seen in it is not usual, however often it is tried."""

    def learned(self) -> Json:
        """What is usual now, for the next run."""
        return {
            "fields": {str(path): habit.as_json() for path, habit in self._habits.items()},
            "names": None if self._names is None else list[Json](sorted(self._names)),
        }

    def look(self, records: Sequence[Record]) -> list[GuardAlarm]:
        """What is not as it used to be in a page of `records`, of which nothing was done yet; each thing once."""
        every = ceil(len(records) / _SAMPLED) or 1
        sampled = [record for record in records[::every] if self._minds(record)]
        alarms = [alarm for path in self._habits if (alarm := self._of_field(path, sampled))]
        alarms += self._of_names(sampled)
        if not self._guard.drift:
            return []
        self.stopped = any(alarm.stops for alarm in alarms)
        return alarms

    def _of_field(self, path: FieldPath, records: Iterable[Record]) -> GuardAlarm | None:
        """Learn of one field; an alarm if that speaks against what was known before the run."""
        habit = self._habits[path]
        news = habit.take([_value(path, record) for record in records])
        if path not in self._known or path in self._told:
            return None
        if habit.is_gone:
            before = f"it was in {habit.seen:,} of {habit.of:,} before"
            return self._alarm(path, f"is in none of the last {habit.missing:,} records looked at; {before}")
        if other := news & ~self._known[path]:
            return self._alarm(path, f"is {describe_kind(other)} now; it was {describe_kind(self._known[path])} so far")
        return None

    def _alarm(self, path: FieldPath, what: str) -> GuardAlarm:
        self._told.add(path)
        row = next(row for row in self._rows if path in row.source_paths)
        place = f"{self._file}:{row.written.line}"
        stops = self._guard.action == "stop"
        level = Level.ERROR if stops else Level.WARNING
        return GuardAlarm(level, f"{place}: source.{path}, which target.{row.target} is made of, {what}", stops)

    def _of_names(self, records: Iterable[Record]) -> list[GuardAlarm]:
        """Learn of the records' fields; an alarm of those that are new and in no row."""
        if self._names is None:
            return []
        self._names.update(*records)
        if len(self._names) > _NAMES:
            self._names = None
            return []
        mapped = {path.parts[0] for path in self._habits}
        fresh = self._names - self._known_names - mapped - self._told if self._known_names else set()
        if not fresh:
            return []
        self._told |= fresh
        written = ", ".join(f"source.{FieldPath((name,))}" for name in sorted(fresh))
        return [GuardAlarm(Level.INFO, f"new at the source, and in no row: {written}", stops=False)]


def _value(path: FieldPath, record: Record) -> Json:
    try:
        return path.get(record)
    except KeyError:
        return None


def _kind(value: Json) -> ValueKind:
    """The kind of a value. Whole numbers are numbers here: a price is 10 now and 9.5 then."""
    kind = get_kind(value)
    return ValueKind.INTEGER | ValueKind.NUMBER if kind & ValueKind.ANY_NUMBER else kind


def _union(kinds: Iterable[ValueKind]) -> ValueKind:
    whole = _NOTHING
    for kind in kinds:
        whole |= kind
    return whole
