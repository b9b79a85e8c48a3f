"""Guards: warn of, or stop, a run whose volume or schema differs from the spec and from earlier runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Final

from speclab.connectors.api import Page
from speclab.core.json import Json, Record
from speclab.core.outcome import Level
from speclab.core.paths import FieldPath
from speclab.mapping.compiler import CompiledRow
from speclab.mapping.types import ValueKind, describe_kind, get_kind
from speclab.spec.settings import GuardSettings, VolumeSettings
from speclab.spec.settings_types import format_share


@dataclass(frozen=True, slots=True)
class GuardAlarm:
    """A suspicious finding; `stops` if the spec says that it ends the run."""

    level: Level
    message: str
    stops: bool


@dataclass(frozen=True, slots=True)
class VolumeGuard:
    """Checks the counts of one run against the Volume section; a new value after each count."""

    volume: VolumeSettings
    from_start: bool = False
    read: int = 0
    deletes: int = 0
    reported: frozenset[str] = frozenset()

    def count_read(self, count: int, page: Page) -> tuple[VolumeGuard, GuardAlarm | None]:
        """Add `count` records of `page` that were read and not processed yet."""
        guard = replace(self, from_start=page.from_start, read=self.read + count)
        name, expected = ("records", self.volume.records) if page.from_start else ("per_run", self.volume.per_run)
        if not expected or guard.read <= expected * self.volume.guard.most:
            return guard, None
        message = f"{guard.read:,} records were read so far; `{name}` under Volume expects {expected:,}"
        return guard.raise_alarm("most", message)

    def count_deletes(self, count: int) -> tuple[VolumeGuard, GuardAlarm | None]:
        """Add `count` records that will be deleted."""
        guard = replace(self, deletes=self.deletes + count)
        expected = self.volume.records
        if not count or not expected or guard.deletes <= expected * self.volume.guard.deletes:
            return guard, None
        message = f"the run would delete {guard.deletes:,} of about {expected:,} records"
        return guard.raise_alarm("deletes", message)

    def check_missing(self, missing: int, known: int) -> GuardAlarm | None:
        """Return an alarm if too many of the `known` records at the target are `missing` from the source.

        The alarm always stops: a source that lost its records for an hour must not cost the target its own. A single
        record may be deleted if others are left; all of them only if `guard.deletes` allows everything.
        """
        share = self.volume.guard.deletes
        if not missing or share >= 1 or (missing <= max(1.0, known * share) and missing < known):
            return None
        message = (
            f"{missing:,} of {known:,} records at the target are missing from the source; `guard.deletes` under Volume "
            f"lets a run delete {format_share(share)}, so none was deleted; increase it if they should be deleted"
        )
        return GuardAlarm(Level.ERROR, message, stops=True)

    def check_end(self) -> GuardAlarm | None:
        """Return an alarm if the source, which was read to its end, has too few records."""
        expected = self.volume.records
        if not self.from_start or (self.read and not expected):
            return None
        if not self.read:
            volume = f"; `records` under Volume expects {expected:,}" if expected else ""
            level = Level.ERROR if expected else Level.WARNING
            return GuardAlarm(level, f"the source returned no records{volume}", stops=self._stops and bool(expected))
        if expected and self.read < expected * self.volume.guard.least:
            message = f"the source returned {self.read:,} records; `records` under Volume expects {expected:,}"
            return self.raise_alarm("least", message)[1]
        return None

    @property
    def _stops(self) -> bool:
        return self.volume.guard.action == "stop"

    def raise_alarm(self, name: str, message: str) -> tuple[VolumeGuard, GuardAlarm | None]:
        """Return an alarm, unless one with this `name` was raised before."""
        if name in self.reported:
            return self, None
        alarm = GuardAlarm(Level.ERROR if self._stops else Level.WARNING, message, self._stops)
        return replace(self, reported=self.reported | {name}), alarm


_SAMPLE_SIZE: Final = 25
"""Records of a page that are checked."""
_MIN_RECORDS: Final = 10
"""A field is only reported as missing after at least this many records without it."""
_CHANCE: Final = 1e-6
"""A field is reported as missing if it is less likely than this that the records lack it by chance."""
_NONE: Final = ValueKind(0)
_MAX_FIELDS: Final = 300
"""With more field names than this, the names are values, such as a count for each day, and not a schema."""


@dataclass(slots=True)
class FieldStats:
    """Statistics of a field: not null in `seen` of `of` records, and missing from the `missing` records after them."""

    seen: int = 0
    of: int = 0
    missing: int = 0
    kinds: ValueKind = _NONE

    @classmethod
    def from_json(cls, value: Json) -> FieldStats:
        """Return the statistics that `as_json` returned."""
        match value:
            case [int(seen), int(of), int(missing), [*kinds]]:
                known = [ValueKind[name] for name in kinds if isinstance(name, str) and name in ValueKind.__members__]
                return cls(seen, of, missing, _join(known))
        return cls()

    def as_json(self) -> Json:
        """Return the statistics as the run log stores them."""
        return [self.seen, self.of, self.missing, [kind.name for kind in self.kinds]]

    def add(self, values: Sequence[Json]) -> ValueKind:
        """Add the values of more records, in the order of the records, and return their kinds."""
        present = [number for number, value in enumerate(values, 1) if value is not None]
        if not present:
            self.missing += len(values)
            return _NONE
        self.seen += len(present)
        self.of += self.missing + present[-1]
        self.missing = len(values) - present[-1]
        one_of_each = {type(value): value for value in values}  # flags are slow to join
        kinds = _join(map(_kind, one_of_each.values()))
        self.kinds |= kinds
        return kinds

    @property
    def is_gone(self) -> bool:
        """Whether chance does not explain that the latest records lack the field.

        Counted with one more record, without the field, so that even a field that was always present may be missing
        once (Laplace's rule of succession).
        """
        if not self.seen or self.missing < _MIN_RECORDS:
            return False
        return (1 - self.seen / (self.of + 1)) ** self.missing < _CHANCE


class SchemaDrift:
    """Compares the source records of one run with the field profile of earlier runs."""

    def __init__(
        self,
        profile: Json,
        rows: Sequence[CompiledRow],
        file: str,
        is_mapped: Callable[[Record], bool],
        guard: GuardSettings,
    ) -> None:
        """Start with the field `profile` of the previous run; None for the first run.

        `rows` are the mapping rows in the spec's `file`; records for which `is_mapped` returns False are ignored.
        """
        stored = profile if isinstance(profile, dict) else {}
        fields, names = stored.get("fields"), stored.get("names", [])
        before = fields if isinstance(fields, dict) else {}
        paths = dict.fromkeys(path for row in rows for path in row.source_paths)
        self._stats = {path: FieldStats.from_json(before.get(str(path))) for path in paths}
        self._names = {name for name in names if isinstance(name, str)} if isinstance(names, list) else None
        self._known_kinds = {path: stats.kinds for path, stats in self._stats.items() if stats.of >= _MIN_RECORDS}
        self._known_names = frozenset(self._names or ())
        self._reported: set[FieldPath | str] = set()
        self._rows = rows
        self._file = file
        self._is_mapped = is_mapped
        self._guard = guard
        self.stopped = False
        """Whether drift ends the run; its records must then not change the profile."""

    def build_profile(self) -> Json:
        """Return the field profile for the next run."""
        return {
            "fields": {str(path): stats.as_json() for path, stats in self._stats.items()},
            "names": None if self._names is None else list[Json](sorted(self._names)),
        }

    def check(self, records: Sequence[Record]) -> list[GuardAlarm]:
        """Add a page of `records`, and return an alarm for each new difference from the profile."""
        every = ceil(len(records) / _SAMPLE_SIZE) or 1
        sample = [record for record in records[::every] if self._is_mapped(record)]
        alarms = [alarm for path in self._stats if (alarm := self._check_field(path, sample))]
        alarms += self._check_names(sample)
        if not self._guard.drift:
            return []
        self.stopped = any(alarm.stops for alarm in alarms)
        return alarms

    def _check_field(self, path: FieldPath, records: Iterable[Record]) -> GuardAlarm | None:
        stats = self._stats[path]
        kinds = stats.add([_get(path, record) for record in records])
        if path not in self._known_kinds or path in self._reported:
            return None
        if stats.is_gone:
            before = f"it was in {stats.seen:,} of {stats.of:,} before"
            return self._alarm(path, f"is missing from the last {stats.missing:,} records checked; {before}")
        if other := kinds & ~self._known_kinds[path]:
            return self._alarm(
                path, f"is now {describe_kind(other)}; it was {describe_kind(self._known_kinds[path])} before"
            )
        return None

    def _alarm(self, path: FieldPath, change: str) -> GuardAlarm:
        self._reported.add(path)
        row = next(row for row in self._rows if path in row.source_paths)
        location = f"{self._file}:{row.written.line}"
        stops = self._guard.action == "stop"
        level = Level.ERROR if stops else Level.WARNING
        return GuardAlarm(level, f"{location}: source.{path}, the source of target.{row.target}, {change}", stops)

    def _check_names(self, records: Iterable[Record]) -> list[GuardAlarm]:
        """Add the field names of `records`, and return an alarm for new ones that no row reads."""
        if self._names is None:
            return []
        self._names.update(*records)
        if len(self._names) > _MAX_FIELDS:
            self._names = None
            return []
        mapped = {path.parts[0] for path in self._stats}
        new = self._names - self._known_names - mapped - self._reported if self._known_names else set()
        if not new:
            return []
        self._reported |= new
        fields = ", ".join(f"source.{FieldPath((name,))}" for name in sorted(new))
        return [GuardAlarm(Level.INFO, f"new source fields that no mapping row reads: {fields}", stops=False)]


def _get(path: FieldPath, record: Record) -> Json:
    try:
        return path.get(record)
    except KeyError:
        return None


def _kind(value: Json) -> ValueKind:
    """Return the kind of a value. An integer counts as any number: a price may be 10 now and 9.5 later."""
    kind = get_kind(value)
    return ValueKind.INTEGER | ValueKind.NUMBER if kind & ValueKind.ANY_NUMBER else kind


def _join(kinds: Iterable[ValueKind]) -> ValueKind:
    joined = _NONE
    for kind in kinds:
        joined |= kind
    return joined
