"""Schema drift: a source field that a mapping row reads is gone, or holds another kind of value than it used to.

A field that was renamed at the source maps to nulls, and everything about such a run looks well. What is usual is
learned from run to run, from a few records of each page. Pure computation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

from speclab.jsonvalue import Json, Record
from speclab.mapping.kinds import Kind, in_words, kind_of
from speclab.mapping.program import Row
from speclab.outcome import Level
from speclab.paths import FieldPath
from speclab.spec.settings import GuardSettings
from speclab.sync.guard import Alarm

_SAMPLED: Final = 25
"""Records of a page that are looked at."""
_FEWEST: Final = 10
"""Records that must be without a field, whatever it was before, until it counts as gone."""
_BY_CHANCE: Final = 1e-6
"""How likely it may be that a field is missing from so many records by chance, and counts as gone all the same."""
_NOTHING: Final = Kind(0)
_NAMES: Final = 300
"""Fields of a record beyond which they are no schema but values, such as a count for each day."""


@dataclass(slots=True)
class Habit:
    """What a field is: `seen` in that many of `of` records, not null, and not in the `missing` latest beyond those."""

    seen: int = 0
    of: int = 0
    missing: int = 0
    kinds: Kind = _NOTHING

    @classmethod
    def of_json(cls, value: Json) -> Habit:
        """A habit as `as_json` gave it."""
        match value:
            case [int(seen), int(of), int(missing), [*kinds]]:
                known = [Kind[name] for name in kinds if isinstance(name, str) and name in Kind.__members__]
                return cls(seen, of, missing, _union(known))
        return cls()

    def as_json(self) -> Json:
        """The habit as the run log keeps it."""
        return [self.seen, self.of, self.missing, [kind.name for kind in self.kinds]]

    def take(self, values: Sequence[Json]) -> Kind:
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


class Drift:
    """Watches the records of one run."""

    def __init__(
        self, usual: Json, rows: Sequence[Row], file: str, minds: Callable[[Record], bool], guard: GuardSettings
    ) -> None:
        """Go on from what is `usual`, which the run before `learned`; None where there was none.

        `rows` are those of the mapping in the spec's `file`; `minds` tells whether the mapping is about a record.
        """
        held = usual if isinstance(usual, dict) else {}
        fields, names = held.get("fields"), held.get("names", [])
        before = fields if isinstance(fields, dict) else {}
        paths = dict.fromkeys(path for row in rows for path in row.reads)
        self._habits = {path: Habit.of_json(before.get(str(path))) for path in paths}
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

    def look(self, records: Sequence[Record]) -> list[Alarm]:
        """What is not as it used to be in a page of `records`, of which nothing was done yet; each thing once."""
        every = ceil(len(records) / _SAMPLED) or 1
        sampled = [record for record in records[::every] if self._minds(record)]
        alarms = [alarm for path in self._habits if (alarm := self._of_field(path, sampled))]
        alarms += self._of_names(sampled)
        if not self._guard.drift:
            return []
        self.stopped = any(alarm.stops for alarm in alarms)
        return alarms

    def _of_field(self, path: FieldPath, records: Iterable[Record]) -> Alarm | None:
        """Learn of one field; an alarm if that speaks against what was known before the run."""
        habit = self._habits[path]
        news = habit.take([_value(path, record) for record in records])
        if path not in self._known or path in self._told:
            return None
        if habit.is_gone:
            before = f"it was in {habit.seen:,} of {habit.of:,} before"
            return self._alarm(path, f"is in none of the last {habit.missing:,} records looked at; {before}")
        if other := news & ~self._known[path]:
            return self._alarm(path, f"is {in_words(other)} now; it was {in_words(self._known[path])} so far")
        return None

    def _alarm(self, path: FieldPath, what: str) -> Alarm:
        self._told.add(path)
        row = next(row for row in self._rows if path in row.reads)
        place = f"{self._file}:{row.written.line}"
        stops = self._guard.action == "stop"
        level = Level.ERROR if stops else Level.WARNING
        return Alarm(level, f"{place}: source.{path}, which target.{row.target} is made of, {what}", stops)

    def _of_names(self, records: Iterable[Record]) -> list[Alarm]:
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
        return [Alarm(Level.INFO, f"new at the source, and in no row: {written}", stops=False)]


def _value(path: FieldPath, record: Record) -> Json:
    try:
        return path.get(record)
    except KeyError:
        return None


def _kind(value: Json) -> Kind:
    """The kind of a value. Whole numbers are numbers here: a price is 10 now and 9.5 then."""
    kind = kind_of(value)
    return Kind.INTEGER | Kind.NUMBER if kind & Kind.ANY_NUMBER else kind


def _union(kinds: Iterable[Kind]) -> Kind:
    whole = _NOTHING
    for kind in kinds:
        whole |= kind
    return whole
