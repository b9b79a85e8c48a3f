"""Incremental reads: where to start, which records were delivered before, and how far a read has safely got.

A bookmark is the value of the `since` field up to which everything was read. The next read includes that value, so that
records that share it are not lost. Records delivered before are recognized by a digest instead of their key, because a
record can change twice within a second.

A bookmark never exceeds the ceiling of a read, such as its start time: a record that changes during the read gets a
later time, whatever the largest value was that the read saw.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from speclab.core.json import Json, Record, encode_canonical
from speclab.core.paths import FieldPath

Scalar: TypeAlias = "str | int | float"
SortKey: TypeAlias = "tuple[str, float | datetime | str]"
"""The sort key of a value: its kind, and a value that compares within the kind."""

_MOST_TIES: Final = 1000
"""Digests in a checkpoint; with more records at one value, they are read again and found unchanged."""
_SECONDS: Final = range(1_000_000_000, 10_000_000_000)  # numbers treated as Unix times in seconds
_MILLISECONDS: Final = range(1_000_000_000_000, 10_000_000_000_000)  # and in milliseconds
_YEAR: Final = timedelta(days=366)
_DAY: Final = 86_400.0


class IncomparableValues(Exception):
    """Two values of the field that cannot be compared; the message names both."""


@dataclass(frozen=True, slots=True)
class Bookmark:
    """The `value` of the field that a read reached, and the digests of the records delivered at or after it."""

    value: Scalar
    ties: tuple[str, ...] = ()

    @classmethod
    def load(cls, value: Json) -> Bookmark | None:
        """Return the bookmark that a checkpoint stores as `value`, or None."""
        match value:
            case {"value": str() | int() | float() as at, "ties": [*ties]}:
                return cls(at, tuple(map(str, ties)))
        return None

    def dump(self) -> Json:
        """Return the bookmark as a checkpoint stores it."""
        return {"value": self.value, "ties": list(self.ties)}


class Watermark:
    """Tracks the `since` field through one read."""

    def __init__(
        self,
        field: FieldPath,
        ceiling: Callable[[Scalar], Scalar],
        *,
        before: Bookmark | None,
        reached: Bookmark | None = None,
    ) -> None:
        """Track a read that starts at `before` (None: at the start), and had `reached` a bookmark if it is resumed.

        `ceiling` returns the value, limited to the largest one allowed.
        """
        self.ordered = True
        """Whether the values have been ascending so far."""
        self.missing = 0
        """Number of records without a value: they are delivered, but only a full read finds them."""
        self.passed = False
        """Whether a value exceeded the ceiling, which means that records changed during the read."""
        self._field = field
        self._ceiling = ceiling
        self._before = before
        self._floor = build_sort_key(before.value) if before else None
        self._digests = frozenset(before.ties) if before else frozenset()
        self._value = reached.value if reached else None
        self._order = build_sort_key(reached.value) if reached else None
        self._ties = list(reached.ties) if reached else []

    def advance(self, records: Sequence[Record]) -> list[Record]:
        """Return the `records` that were not delivered before, and advance. Raises `IncomparableValues`."""
        fresh: list[Record] = []
        at_mark: list[Record] = []  # digests are computed once per page, for records at the final value
        for record in records:
            if not (self._digests and compute_digest(record) in self._digests):
                fresh.append(record)
            value = read_value(self._field, record)
            if value is None:
                self.missing += 1
                continue
            value, original = self._ceiling(value), value
            self.passed = self.passed or value != original
            place = build_sort_key(value)
            if self._order is None or is_after(place, self._order):
                self._value, self._order = value, place
                self._ties = []
                at_mark = [record]
            elif place == self._order:
                at_mark.append(record)
            else:
                self.ordered = False
        self._ties += map(compute_digest, at_mark)
        if self._floor is not None and self._order is not None:
            _check_kinds(self._order, self._floor)
        return fresh

    def get_reached(self) -> Bookmark | None:
        """Return the bookmark that the read has reached, which is never before its start."""
        before, floor = self._before, self._floor
        if self._value is None or self._order is None:
            return before
        ties = self._ties
        if before is not None and floor is not None:
            if is_after(floor, self._order):
                return before
            if floor == self._order:
                ties = [*before.ties, *ties]
        unique = tuple(dict.fromkeys(ties))
        return Bookmark(self._value, unique if len(unique) <= _MOST_TIES else ())


def read_value(field: FieldPath, record: Record) -> Scalar | None:
    """Return the value of a `since` field in `record`, or None if it has no usable one."""
    try:
        value = field.get(record)
    except KeyError:
        return None
    return None if isinstance(value, bool) or not isinstance(value, str | int | float) else value


def build_time_ceiling(moment: datetime) -> Callable[[Scalar], Scalar]:
    """Return a ceiling in time. Numbers are Unix times unless they are more than a year after `moment`."""

    def ceiling(value: Scalar) -> Scalar:
        time = _moment(value)
        if time is None or time <= moment or (not isinstance(value, str) and time > moment + _YEAR):
            return value
        return _format_like(value, moment)

    return ceiling


def build_value_ceiling(most: Scalar) -> Callable[[Scalar], Scalar]:
    """Return a ceiling at the value `most`."""
    limit = build_sort_key(most)

    def ceiling(value: Scalar) -> Scalar:
        return most if is_after(build_sort_key(value), limit) else value

    return ceiling


def subtract_seconds(value: Scalar, seconds: float) -> Scalar:
    """Return `value` minus `seconds` in its own notation. Raises `IncomparableValues` if it is not a time."""
    try:
        return add_seconds(value, -seconds, needed_by="lookback") if seconds else value
    except OverflowError:  # 0001-01-01, used for "no time", has no earlier one
        return value


def add_seconds(value: Scalar, seconds: float, *, needed_by: str) -> Scalar:
    """Return `value` plus `seconds` in its own notation, rounded down to its precision.

    Raises `IncomparableValues`, which names the setting `needed_by`, if the value is not a time.
    """
    return _format_like(value, parse_instant(value, needed_by=needed_by) + timedelta(seconds=seconds))


def get_precision(value: Scalar) -> float:
    """Return the precision of the notation of `value` in seconds: a day for a date, otherwise one."""
    return _DAY if isinstance(value, str) and len(value) <= len("2024-01-01") else 1.0


def has_zone(value: Scalar) -> bool:
    """Return whether `value` has a time zone; Unix times do."""
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


def parse_instant(value: Scalar, *, needed_by: str) -> datetime:
    """Return the time that `value` represents. Raises `IncomparableValues` as `add_seconds` does."""
    moment = _moment(value)
    if moment is None:
        raise IncomparableValues(f"`{needed_by}` needs times in the `since` field, not {value!r}")
    return moment


def build_sort_key(value: Scalar) -> SortKey:
    """Return the sort key of `value`: a number, an ISO 8601 time (UTC if it has no time zone), or text."""
    if not isinstance(value, str):
        return "number", float(value) if isinstance(value, float) else value
    if (
        len(value) > len("20240101") and value.isdigit()
    ):  # a number as text, whose ninth digit Python would take for the separator
        return "text", value
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return "text", value
    return "time", moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def is_after(one: SortKey, other: SortKey) -> bool:
    """Return whether `one` is after `other`. Raises `IncomparableValues` for different kinds."""
    _check_kinds(one, other)
    return one[1] > other[1]  # type: ignore[operator]  # the same kind has the same type


def compute_digest(record: Record) -> str:
    """Return a digest of a record in 16 hex digits, which differs between its versions."""
    return hashlib.blake2b(encode_canonical(record), digest_size=8).hexdigest()


def _check_kinds(one: SortKey, other: SortKey) -> None:
    if one[0] != other[0]:
        raise IncomparableValues(f"the `since` field has both {one[1]!s} (a {one[0]}) and {other[1]!s} (a {other[0]})")


def _moment(value: Scalar) -> datetime | None:
    if isinstance(value, str):
        kind, moment = build_sort_key(value)
        return moment if kind == "time" and isinstance(moment, datetime) else None
    if int(value) in _SECONDS:
        return datetime.fromtimestamp(value, UTC)
    if int(value) in _MILLISECONDS:
        return datetime.fromtimestamp(value / 1000, UTC)
    return None


def _format_like(value: Scalar, moment: datetime) -> Scalar:
    """Return `moment` in the notation of `value`, rounded down to its precision."""
    if not isinstance(value, str):
        stamp = moment.timestamp() * (1000 if int(value) in _MILLISECONDS else 1)
        return stamp if isinstance(value, float) else int(stamp)
    compact = value[4] != "-"  # ISO 8601's basic format
    if len(value) <= len("2024-01-01"):
        day = moment.astimezone(UTC).date().isoformat()
        return day.replace("-", "") if compact else day
    written = datetime.fromisoformat(value)
    moment = moment.astimezone(written.tzinfo or UTC).replace(tzinfo=written.tzinfo)
    digits = len(value.partition(".")[2].rstrip("Z").partition("+")[0].partition("-")[0])
    timespec = "seconds" if not digits else "milliseconds" if digits == 3 else "microseconds"
    text = moment.isoformat(sep=value[len("20240101") if compact else len("2024-01-01")], timespec=timespec)
    if value.endswith("Z"):
        text = text.removesuffix("+00:00") + "Z"
    if compact:
        clock = len("2024-01-01T00:00:00")
        text = text[:clock].replace("-", "").replace(":", "") + text[clock:].replace(":", "")
    return text
