"""Steps that read and write dates and times. A format names every part it reads; nothing is filled in."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from operator import itemgetter
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from speclab.core.json import Json
from speclab.mapping.types import (
    LookupTable,
    Parameter,
    ParameterType,
    Step,
    StepError,
    StepExample,
    ValueKind,
    format_value,
    to_decimal,
)

ISO_DATE: Final = "%Y-%m-%d"
_ISO: Final = "iso"
_UNIX: Final = {"unix": 1, "unix_ms": 1000}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ISO_TIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.([0-9]+))?)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?"
)
_WIDTHS: Final = {"d": 2, "m": 2, "Y": 4}
_THREE: Final = re.compile(r"%([dmY])([^%\s])%([dmY])([^%\s])%([dmY])")
_DIRECTIVE: Final = re.compile(r"%(.?)", re.DOTALL)
_DATE_PARTS: Final = frozenset("aAbBdjmyYGVu")
_TIME_PARTS: Final = frozenset("HIpMSfz")
DATE_FORMATS: Final = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%Y%m%d", ISO_DATE)
"""Those that are offered, and tried on values of which the format is not known."""


def read_date(text: str, form: str) -> date | None:
    """The date in `text` by `form`, if it is one."""
    try:
        return datetime.strptime(text, form).date()  # noqa: DTZ007  # a date has no zone
    except ValueError:
        return None


def _date(form: str = ISO_DATE, out: str = ISO_DATE) -> Callable[[str], str]:
    """Day, month and year in fixed places are cut out, six times faster than strptime; it is asked where that fails."""
    at = _fixed_places(form)
    iso = out == ISO_DATE

    def careful(value: str) -> str:
        try:
            day = datetime.strptime(value, form).date()  # noqa: DTZ007  # a date has no zone
        except ValueError:
            raise StepError(f"{format_value(value)} is no date as {format_value(form)}") from None
        return day.isoformat() if iso else _written(day, out)

    if at is None:
        return careful
    length, year, month, day, separators, between = at

    def apply(value: str) -> str:
        if iso and len(value) == length and separators(value) == between:
            text = f"{value[year]}-{value[month]}-{value[day]}"
            try:
                date.fromisoformat(text)
            except ValueError:
                return careful(value)
            return text
        return careful(value)

    return apply


def _fixed_places(form: str) -> tuple[int, slice, slice, slice, Callable[[str], object], object] | None:
    """For a format such as `%d/%m/%Y`: its length, its parts, and what finds its two separators, with what they are."""
    found = _THREE.fullmatch(form)
    if not found or set(found[1] + found[3] + found[5]) != set(_WIDTHS):
        return None
    at, parts = 0, {}
    for letter in (found[1], found[3], found[5]):
        parts[letter] = slice(at, at + _WIDTHS[letter])
        at += _WIDTHS[letter] + 1
    between = (parts[found[1]].stop, parts[found[3]].stop)
    return at - 1, parts["Y"], parts["m"], parts["d"], itemgetter(*between), (found[2], found[4])


def _datetime(form: str = _ISO, zone: str | None = None, out: str = _ISO) -> Callable[[str | float | Decimal], str]:
    local = ZoneInfo(zone) if zone else None
    unit = _UNIX.get(form)

    def apply(value: str | float | Decimal) -> str:
        if unit is not None:
            moment = _from_unix(value, unit)
        elif isinstance(value, str):
            moment = _in_zone(_read(value, form), local, value)
        else:
            raise StepError(
                f'expected text, not the number {format_value(value)}; DateTime("unix") reads seconds since 1970'
            )
        try:
            if out == _ISO:
                return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
            return _written(moment.astimezone(local or UTC), out)
        except OverflowError:
            raise StepError(f"{format_value(value)} is no time between the years 1 and 9999") from None

    return apply


def _from_unix(value: str | float | Decimal, unit: int) -> datetime:
    if isinstance(value, str):
        raise StepError(f"expected a number since 1970, not the text {format_value(value)}; put Decimal before it")
    micros = to_decimal(value) * (1_000_000 // unit)
    try:
        return _EPOCH + timedelta(microseconds=int(micros.to_integral_value()))
    except OverflowError:
        raise StepError(f"{format_value(value)} is no time between the years 1 and 9999") from None


def _read(value: str, form: str) -> datetime:
    try:
        if form != _ISO:
            return datetime.strptime(value, form)  # noqa: DTZ007  # the zone is seen to by `_in_zone`
        found = _ISO_TIME.fullmatch(value)
        if found and not (found[1] or "")[6:].strip("0"):
            return datetime.fromisoformat(value)
    except ValueError:
        found = None
    expected = "no ISO 8601 date and time" if form == _ISO else f"no time as {format_value(form)}"
    raise StepError(f"{format_value(value)} is {expected}{' to the microsecond' if form == _ISO and found else ''}")


def _in_zone(moment: datetime, zone: ZoneInfo | None, value: str) -> datetime:
    if moment.tzinfo is not None:
        return moment
    if zone is None:
        raise StepError(
            f'{format_value(value)} has no UTC offset; say its zone, as in DateTime("iso", "Europe/Berlin")'
        )
    first, second = (moment.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    if first.utcoffset() != second.utcoffset():  # the hour that clocks skip or go through twice
        raise StepError(f"{format_value(value)} was never or twice in {zone.key}: the clocks changed")
    return first


def _written(day: date, form: str) -> str:
    """`day`, which may be a time, by `form`, its year always with four digits."""
    if day.year <= 1000:  # at the latest the first ISO week of 1000 is of the year before
        years = {"Y": day.year, "G": day.isocalendar().year}
        form = _DIRECTIVE.sub(lambda found: f"{years[found[1]]:04}" if found[1] in years else found[0], form)
    return day.strftime(form)


def _directives(value: str) -> set[str] | str:
    """The letters of the directives in a format, or what is wrong with it."""
    letters = _DIRECTIVE.findall(value)
    unknown = [letter for letter in letters if letter not in _DATE_PARTS | _TIME_PARTS | {"%"}]
    if unknown:
        return f"has a directive that is not known: %{unknown[0]}"
    if len(set(letters) - {"%"}) != len([letter for letter in letters if letter != "%"]):
        return "has a directive twice"
    return set(letters)


def _date_format(value: str) -> str | None:
    letters = _directives(value)
    if isinstance(letters, str):
        return letters
    if letters >= {"G", "V", "u"} or (letters & {"Y", "y"} and "j" in letters):
        return _contradiction(value)
    parts = (({"Y", "y"}, "year, %Y"), ({"m", "b", "B"}, "month, %m"), ({"d"}, "day, %d"))
    missing = [name for wanted, name in parts if not letters & wanted]
    return f"does not say the {missing[0]}" if missing else _contradiction(value)


def _contradiction(form: str) -> str | None:
    try:
        datetime.strptime(_EPOCH.strftime(form), form)  # noqa: DTZ007  # asked only whether it can be read
    except ValueError as error:
        return f"contradicts itself: {str(error).rstrip('.')}"
    return None


def _time_format(value: str) -> str | None:
    if value == _ISO or value in _UNIX:
        return None
    problem = _date_format(value)
    if problem:
        return problem
    letters = _directives(value)
    if "H" in letters or ("I" in letters and "p" in letters):
        return None
    return "does not say the hour, %H; Date reads what has no time of day"


def _date_out(value: str) -> str | None:
    letters = _directives_out(value)
    if isinstance(letters, str):
        return letters
    times = sorted(letters & _TIME_PARTS)
    return f"has a directive for a time, which a date has not: %{times[0]}" if times else None


def _time_out(value: str) -> str | None:
    if value == _ISO:
        return None
    letters = _directives_out(value)
    return letters if isinstance(letters, str) else None


def _directives_out(value: str) -> set[str] | str:
    letters = _directives(value)
    return letters if isinstance(letters, str) or letters - {"%"} else "has no directive such as %Y"


def _zone(value: str) -> str | None:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return "is no IANA time zone such as Europe/Berlin"
    return None


def _kind_out(at: int, iso: str, kind: ValueKind) -> Callable[[ValueKind, Sequence[Json | LookupTable]], ValueKind]:
    """`kind` unless the argument at `at` asks for another way of writing than `iso`."""
    return lambda _, arguments: kind if len(arguments) <= at or arguments[at] == iso else ValueKind.TEXT


DATE_STEPS: Final = (
    Step(
        "Date",
        "Reads a date by `format` (ISO 8601 if not said) and writes it as ISO 8601, or as `out` says.",
        takes=ValueKind.ANY_TEXT,
        returns=_kind_out(1, ISO_DATE, ValueKind.DATE),
        make=_date,
        parameters=(
            Parameter("format", ParameterType.TEXT, optional=True, check=_date_format, choices=DATE_FORMATS),
            Parameter("out", ParameterType.TEXT, optional=True, check=_date_out, choices=DATE_FORMATS),
        ),
        may_fail=True,
        example=StepExample('Date("%d/%m/%Y")', "10/12/1815", "1815-12-10"),
        other_names=("todate", "parsedate", "isodate", "dateformat", "day"),
    ),
    Step(
        "DateTime",
        'Reads a time by `format` ("iso", "unix" or "unix_ms" too), in `zone` where it names no offset itself, and '
        "writes it in UTC as ISO 8601, or as `out` says, then in `zone`.",
        takes=ValueKind.TEXT | ValueKind.DATETIME | ValueKind.ANY_NUMBER,
        returns=_kind_out(2, _ISO, ValueKind.DATETIME),
        make=_datetime,
        parameters=(
            Parameter(
                "format",
                ParameterType.TEXT,
                optional=True,
                check=_time_format,
                choices=(_ISO, "unix", "unix_ms", "%d/%m/%Y %H:%M", "%Y-%m-%d %H:%M:%S"),
            ),
            Parameter("zone", ParameterType.TEXT, optional=True, check=_zone, choices=("UTC", "Europe/Berlin")),
            Parameter("out", ParameterType.TEXT, optional=True, check=_time_out, choices=(_ISO, "%d/%m/%Y %H:%M")),
        ),
        may_fail=True,
        example=StepExample('DateTime("%d/%m/%Y %H:%M", "Europe/Berlin")', "24/07/2024 14:30", "2024-07-24T12:30:00Z"),
        other_names=("timestamp", "time", "isotime", "parsetime", "epoch", "unixtime"),
    ),
)
"""In the order the help lists them."""
