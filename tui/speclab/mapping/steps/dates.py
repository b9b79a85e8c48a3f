"""Steps that parse and format dates and times. A format names every part that is parsed; there are no defaults."""

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
"""Formats that completion offers, and that are tried on values of unknown format."""


def read_date(text: str, form: str) -> date | None:
    """Parse `text` by `form`; None if it does not match."""
    try:
        return datetime.strptime(text, form).date()  # noqa: DTZ007  # a date has no zone
    except ValueError:
        return None


def _date(form: str = ISO_DATE, out: str = ISO_DATE) -> Callable[[str], str]:
    """Parse fixed-width day, month and year by slices, six times faster than strptime, which handles the rest."""
    at = _fixed_places(form)
    iso = out == ISO_DATE

    def parse(value: str) -> str:
        try:
            day = datetime.strptime(value, form).date()  # noqa: DTZ007  # a date has no zone
        except ValueError:
            raise StepError(f"expected a date like {form}, got {format_value(value)}") from None
        return day.isoformat() if iso else _format(day, out)

    if at is None:
        return parse
    length, year, month, day, separators, between = at

    def apply(value: str) -> str:
        if iso and len(value) == length and separators(value) == between:
            text = f"{value[year]}-{value[month]}-{value[day]}"
            try:
                date.fromisoformat(text)
            except ValueError:
                return parse(value)
            return text
        return parse(value)

    return apply


def _fixed_places(form: str) -> tuple[int, slice, slice, slice, Callable[[str], object], object] | None:
    """Return the length, the slices, a getter of the separators and the separators of a format such as `%d/%m/%Y`."""
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
                f'expected text, got the number {format_value(value)}; DateTime("unix") reads seconds since 1970'
            )
        try:
            if out == _ISO:
                return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
            return _format(moment.astimezone(local or UTC), out)
        except OverflowError:
            raise StepError(f"expected a time between the years 1 and 9999, got {format_value(value)}") from None

    return apply


def _from_unix(value: str | float | Decimal, unit: int) -> datetime:
    if isinstance(value, str):
        raise StepError(f"expected a number since 1970, got the text {format_value(value)}; put Decimal before it")
    micros = to_decimal(value) * (1_000_000 // unit)
    try:
        return _EPOCH + timedelta(microseconds=int(micros.to_integral_value()))
    except OverflowError:
        raise StepError(f"expected a time between the years 1 and 9999, got {format_value(value)}") from None


def _read(value: str, form: str) -> datetime:
    try:
        if form != _ISO:
            return datetime.strptime(value, form)  # noqa: DTZ007  # `_in_zone` adds the zone
        found = _ISO_TIME.fullmatch(value)
        if found and not (found[1] or "")[6:].strip("0"):
            return datetime.fromisoformat(value)
    except ValueError:
        found = None
    expected = "an ISO 8601 date and time" if form == _ISO else f"a time like {form}"
    precision = " with at most microseconds" if form == _ISO and found else ""
    raise StepError(f"expected {expected}{precision}, got {format_value(value)}")


def _in_zone(moment: datetime, zone: ZoneInfo | None, value: str) -> datetime:
    if moment.tzinfo is not None:
        return moment
    if zone is None:
        raise StepError(
            f'{format_value(value)} has no UTC offset; add its zone, as in DateTime("iso", "Europe/Berlin")'
        )
    first, second = (moment.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    if first.utcoffset() != second.utcoffset():  # the hour that is skipped or repeated
        raise StepError(f"{format_value(value)} is skipped or repeated in {zone.key}: the clocks changed")
    return first


def _format(day: date, form: str) -> str:
    """Format `day`, which may be a time, by `form`, with a year of four digits."""
    if day.year <= 1000:  # the first ISO week of 1000 may belong to 999
        years = {"Y": day.year, "G": day.isocalendar().year}
        form = _DIRECTIVE.sub(lambda found: f"{years[found[1]]:04}" if found[1] in years else found[0], form)
    return day.strftime(form)


def _directives(value: str) -> set[str] | str:
    """Return the letters of the directives in a format, or the error."""
    letters = _DIRECTIVE.findall(value)
    unknown = [letter for letter in letters if letter not in _DATE_PARTS | _TIME_PARTS | {"%"}]
    if unknown:
        return f"has the unknown directive %{unknown[0]}"
    if len(set(letters) - {"%"}) != len([letter for letter in letters if letter != "%"]):
        return "repeats a directive"
    return set(letters)


def _date_format(value: str) -> str | None:
    letters = _directives(value)
    if isinstance(letters, str):
        return letters
    if letters >= {"G", "V", "u"} or (letters & {"Y", "y"} and "j" in letters):
        return _inconsistency(value)
    parts = (({"Y", "y"}, "year, %Y"), ({"m", "b", "B"}, "month, %m"), ({"d"}, "day, %d"))
    missing = [name for wanted, name in parts if not letters & wanted]
    return f"lacks the {missing[0]}" if missing else _inconsistency(value)


def _inconsistency(form: str) -> str | None:
    try:
        datetime.strptime(_EPOCH.strftime(form), form)  # noqa: DTZ007  # only to see whether it can be parsed
    except ValueError as error:
        return f"is inconsistent: {str(error).rstrip('.')}"
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
    return "lacks the hour, %H; use Date for dates without a time of day"


def _date_out(value: str) -> str | None:
    letters = _directives_out(value)
    if isinstance(letters, str):
        return letters
    times = sorted(letters & _TIME_PARTS)
    return f"has a directive for a time of day, which a date does not have: %{times[0]}" if times else None


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
        return "is not an IANA time zone such as Europe/Berlin"
    return None


def _kind_out(at: int, iso: str, kind: ValueKind) -> Callable[[ValueKind, Sequence[Json | LookupTable]], ValueKind]:
    """Return `kind` unless the argument at `at` asks for another output format than `iso`."""
    return lambda _, arguments: kind if len(arguments) <= at or arguments[at] == iso else ValueKind.TEXT


DATE_STEPS: Final = (
    Step(
        "Date",
        "Parses a date by `format` (default: ISO 8601) and writes it as ISO 8601, or by the format `out`.",
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
        'Parses a time by `format` (also "iso", "unix" or "unix_ms"), in `zone` if it has no UTC offset, and writes '
        "it in UTC as ISO 8601, or by the format `out` in `zone`.",
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
"""In the order of the help."""
