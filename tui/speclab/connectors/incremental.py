"""Incremental reading: from where to ask, what was had before, and how far a read has safely got.

A mark is the value of the `since` field up to which everything was read. It is asked for inclusively, so that records
that share it are not lost, and those delivered before are told by their digest, not by their key alone: a record that
changed again within the same second is another one.

A mark never passes the ceiling a read was given, such as the time at which it began: what changed behind its back
carries a later time than that, however large the largest value was that it saw.
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
Order: TypeAlias = "tuple[str, float | datetime | str]"
"""What a value is ordered by: its kind, and a value that compares within the kind."""

_MOST_TIES: Final = 1000
"""Digests a checkpoint holds; with more records at one mark they are read again, and found unchanged, instead."""
_SECONDS: Final = range(1_000_000_000, 10_000_000_000)  # numbers that are taken for Unix times, in seconds
_MILLISECONDS: Final = range(1_000_000_000_000, 10_000_000_000_000)  # and in milliseconds
_YEAR: Final = timedelta(days=366)
_DAY: Final = 86_400.0


class IncomparableValues(Exception):
    """Two values of the field that have no order between them; the message names both."""


@dataclass(frozen=True, slots=True)
class Bookmark:
    """How far a read got: `value` of the field, and the digests of the records delivered at or after it."""

    value: Scalar
    ties: tuple[str, ...] = ()

    @classmethod
    def load(cls, value: Json) -> Bookmark | None:
        """The mark a checkpoint holds as `value`; None for anything else."""
        match value:
            case {"value": str() | int() | float() as at, "ties": [*ties]}:
                return cls(at, tuple(map(str, ties)))
        return None

    def dump(self) -> Json:
        """The mark as a checkpoint holds it."""
        return {"value": self.value, "ties": list(self.ties)}


class Watermark:
    """Follows the `since` field through one read."""

    def __init__(
        self,
        field: FieldPath,
        ceiling: Callable[[Scalar], Scalar],
        *,
        before: Bookmark | None,
        reached: Bookmark | None = None,
    ) -> None:
        """A read from `before` on (None: from the start); `reached` is how far it had got when it was broken off.

        `ceiling` gives a value, or what it may count as at most.
        """
        self.ordered = True
        """Whether the values have come in ascending order so far."""
        self.missing = 0
        """Records without a value: they are delivered, but only a full read finds them."""
        self.passed = False
        """Whether a value was beyond the ceiling: something changed while it was read."""
        self._field = field
        self._ceiling = ceiling
        self._before = before
        self._floor = order(before.value) if before else None
        self._digests = frozenset(before.ties) if before else frozenset()
        self._value = reached.value if reached else None
        self._order = order(reached.value) if reached else None
        self._ties = list(reached.ties) if reached else []

    def take(self, records: Sequence[Record]) -> list[Record]:
        """The `records` the read before did not deliver; the mark follows. Raises `IncomparableValues`."""
        fresh: list[Record] = []
        at_mark: list[Record] = []  # digests are made once a page, for those still at the mark at its end
        for record in records:
            if not (self._digests and digest(record) in self._digests):
                fresh.append(record)
            value = value_of(self._field, record)
            if value is None:
                self.missing += 1
                continue
            value, told = self._ceiling(value), value
            self.passed = self.passed or value != told
            place = order(value)
            if self._order is None or is_after(place, self._order):
                self._value, self._order = value, place
                self._ties = []
                at_mark = [record]
            elif place == self._order:
                at_mark.append(record)
            else:
                self.ordered = False
        self._ties += map(digest, at_mark)
        if self._floor is not None and self._order is not None:
            _check_kinds(self._order, self._floor)
        return fresh

    def reached(self) -> Bookmark | None:
        """How far the read has got: never back behind where it began."""
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


def value_of(field: FieldPath, record: Record) -> Scalar | None:
    """The value of a `since` field in `record`; None where there is none that could be one."""
    try:
        value = field.get(record)
    except KeyError:
        return None
    return None if isinstance(value, bool) or not isinstance(value, str | int | float) else value


def no_later_than(moment: datetime) -> Callable[[Scalar], Scalar]:
    """A ceiling in time. A number counts as a Unix time if it would be one within a year from now."""

    def ceiling(value: Scalar) -> Scalar:
        time = _moment(value)
        if time is None or time <= moment or (not isinstance(value, str) and time > moment + _YEAR):
            return value
        return _written_like(value, moment)

    return ceiling


def no_more_than(most: Scalar) -> Callable[[Scalar], Scalar]:
    """A ceiling that is a value itself."""
    limit = order(most)

    def ceiling(value: Scalar) -> Scalar:
        return most if is_after(order(value), limit) else value

    return ceiling


def earlier(value: Scalar, seconds: float) -> Scalar:
    """`value` less `seconds`, in its own notation. Raises `IncomparableValues` if it is no time."""
    try:
        return later(value, -seconds, needed_by="lookback") if seconds else value
    except OverflowError:  # 0001-01-01, which stands for no time in places, has none before it
        return value


def later(value: Scalar, seconds: float, *, needed_by: str) -> Scalar:
    """`value` and `seconds` more, in its own notation, rounded down to its precision.

    Raises `IncomparableValues`, which names the setting it is `needed_by`, if the value is no time.
    """
    return _written_like(value, instant(value, needed_by=needed_by) + timedelta(seconds=seconds))


def precision(value: Scalar) -> float:
    """Seconds by which a time can be moved in the notation of `value`: a day for a date, one for what is finer."""
    return _DAY if isinstance(value, str) and len(value) <= len("2024-01-01") else 1.0


def has_zone(value: Scalar) -> bool:
    """Whether `value` says in which time zone it is, as Unix times do."""
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


def instant(value: Scalar, *, needed_by: str) -> datetime:
    """The time that `value` stands for. Raises `IncomparableValues`, as `later` does."""
    moment = _moment(value)
    if moment is None:
        raise IncomparableValues(f"`{needed_by}` needs times in the `since` field, not {value!r}")
    return moment


def order(value: Scalar) -> Order:
    """What `value` is ordered by: a number, an ISO 8601 time (UTC if it has no zone), or text."""
    if not isinstance(value, str):
        return "number", float(value) if isinstance(value, float) else value
    if (
        len(value) > len("20240101") and value.isdigit()
    ):  # a number as text: to Python, its ninth digit parts date and time
        return "text", value
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return "text", value
    return "time", moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def is_after(one: Order, other: Order) -> bool:
    """Whether `one` comes after `other`. Raises `IncomparableValues` for different kinds."""
    _check_kinds(one, other)
    return one[1] > other[1]  # type: ignore[operator]  # one kind, one type


def digest(record: Record) -> str:
    """What tells a record from another version of itself, in 16 hex digits."""
    return hashlib.blake2b(encode_canonical(record), digest_size=8).hexdigest()


def _check_kinds(one: Order, other: Order) -> None:
    if one[0] != other[0]:
        raise IncomparableValues(f"the `since` field holds {one[1]!s} (a {one[0]}) and {other[1]!s} (a {other[0]})")


def _moment(value: Scalar) -> datetime | None:
    if isinstance(value, str):
        kind, moment = order(value)
        return moment if kind == "time" and isinstance(moment, datetime) else None
    if int(value) in _SECONDS:
        return datetime.fromtimestamp(value, UTC)
    if int(value) in _MILLISECONDS:
        return datetime.fromtimestamp(value / 1000, UTC)
    return None


def _written_like(value: Scalar, moment: datetime) -> Scalar:
    """`moment` in the notation of `value`, rounded down to its precision."""
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
    precision = "seconds" if not digits else "milliseconds" if digits == 3 else "microseconds"
    text = moment.isoformat(sep=value[len("20240101") if compact else len("2024-01-01")], timespec=precision)
    if value.endswith("Z"):
        text = text.removesuffix("+00:00") + "Z"
    if compact:
        clock = len("2024-01-01T00:00:00")
        text = text[:clock].replace("-", "").replace(":", "") + text[clock:].replace(":", "")
    return text
