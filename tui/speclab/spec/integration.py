"""An `Integration`: the machine-readable content of a spec, typed and frozen, with locations for failures."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypeVar

from speclab.core.clock import LONGEST
from speclab.core.outcome import ErrorClass
from speclab.core.text import describe_choices, find_likely_name
from speclab.spec.outline import LineSpan
from speclab.spec.problems import ProblemCollector

if TYPE_CHECKING:
    from speclab.spec.auth import Auth
    from speclab.spec.notifications import NotificationSettings
    from speclab.spec.settings import LoggingSettings, MappingSettings, RetrySettings, System, VolumeSettings

Role: TypeAlias = Literal["source", "target"]
"""The role of an endpoint in an integration."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint of an integration: its system and authentication."""

    role: Role
    system: System
    auth: Auth

    @property
    def login(self) -> str:
        """The authentication method, with the flow of OAuth 2.0: `bearer`, `oauth2 device_code`."""
        return f"oauth2 {self.auth.flow}" if self.auth.type == "oauth2" else self.auth.type


@dataclass(frozen=True, slots=True)
class MappingRow:
    """One row of the Field Mapping table, as written; a row's identity is its target path.

    `sources` and `target` are without their system prefix (`source.`, `target.`) and otherwise as written;
    `sources` is empty if the row computes its value. `line` and the columns (of each cell's first
    character; one for each source field) count from 1.
    """

    sources: tuple[str, ...]
    target: str
    transformation: str
    notes: str
    line: int
    source_columns: tuple[int, ...]
    target_column: int
    transformation_column: int
    escapes: tuple[int, ...] = ()
    """Offsets in `transformation` of characters that the file escapes with a backslash (`\\|` in a table)."""

    def column(self, offset: int) -> int:
        """Return the column in the file of the character at `offset` in `transformation`."""
        return self.transformation_column + offset + bisect_left(self.escapes, offset)


class ErrorAction(StrEnum):
    """The action for a failed write."""

    RETRY = "retry"  # put it in the retry queue, with backoff
    WAIT = "wait"  # pause all requests for as long as the target says, then retry
    REFRESH = "refresh"  # refresh the credentials once, then stop
    SKIP = "skip"  # count it as filtered
    DEAD_LETTER = "dead_letter"
    STOP = "stop"  # end the run


@dataclass(frozen=True, slots=True)
class ErrorRule:
    """A row of the Error Types table: the first one that matches applies.

    It matches by HTTP status (from `low` to `high`, inclusive) or by class; the other is None.
    """

    low: int | None
    high: int | None
    error_class: ErrorClass | None
    action: ErrorAction
    line: int


@dataclass(frozen=True, slots=True)
class Alert:
    """A row of the Alerts table; `when` is a CEL expression over the run log."""

    name: str
    when: str
    hold: float  # seconds it must be true
    notify: str  # the Notify cell: names of channels, separated by commas
    line: int  # 0 for an alert without a row
    severity: str = "warning"  # or critical

    @property
    def channels(self) -> tuple[str, ...]:
        """The names of the channels to notify."""
        return tuple(name for name in re.split(r"[,;\s]+", self.notify.replace("`", "")) if name)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The choice of the Frequency section: `text` as written, and its meaning."""

    kind: str  # hourly | daily | every | cron | real_time | on_demand
    text: str
    every: float | None = None  # seconds, for `every`
    at: str | None = None  # HH:MM, for `daily`
    zone: str | None = None  # IANA time zone, for `daily`
    cron: str | None = None


@dataclass(frozen=True, slots=True)
class Integration:
    """A complete spec, ready to run. `hash` is the SHA-256 of the file's bytes, in hex."""

    spec_id: str
    title: str
    path: Path
    hash: str
    status: str
    source: System
    target: System
    source_auth: Auth
    target_auth: Auth
    rows: tuple[MappingRow, ...]
    mapping: MappingSettings
    mapping_line: int  # of the Field Mapping heading
    retry: RetrySettings
    error_rules: tuple[ErrorRule, ...]
    schedule: Schedule
    alerts: tuple[Alert, ...]
    notifications: NotificationSettings
    logging: LoggingSettings
    volume: VolumeSettings
    source_line: int  # of the Source System heading: where failures of reading point
    target_line: int  # of the Target System heading: where failures of writing point if no row is to blame

    @property
    def runs_elsewhere(self) -> bool:
        """Whether another tool runs the integration, and reports its runs."""
        return self.source.runs_elsewhere or self.target.runs_elsewhere

    @property
    def ends(self) -> tuple[Endpoint, Endpoint]:
        """The source and the target."""
        return Endpoint("source", self.source, self.source_auth), Endpoint("target", self.target, self.target_auth)


_COMMENT: Final = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_NOT_LINE_END: Final = re.compile(r"[^\r\n]")
_FIRST_LINE: Final = re.compile(
    r"(?<![^\r\n])[ \t]*(?:[-*+][ \t]+)?(?P<marks>[*_]{1,3}(?=\w)|`(?=\w))?"
    r"(?P<text>\S[^\r\n]*)"
)
_PROSE_AFTER: Final = re.compile(r"\s*(?:$|[.;:](?:\s|$)|[(\u2013\u2014]|- )")


class IntegrationType(StrEnum):
    """The Integration Type: what causes records to be moved."""

    BATCH = "batch"
    REAL_TIME = "real_time"
    EVENT_DRIVEN = "event_driven"
    HYBRID = "hybrid"


class Direction(StrEnum):
    """The Direction: between which systems records move."""

    ONE_WAY = "one_way"
    BIDIRECTIONAL = "bidirectional"
    MULTI = "multi"


@dataclass(frozen=True, slots=True)
class SectionChoice:
    """A choice of a section: its text, its meaning, and whether this version supports it."""

    text: str
    summary: str
    runs: bool = True


INTEGRATION_TYPES: Final = {
    IntegrationType.BATCH: SectionChoice("Batch sync", "reads changed records and writes them, run by run"),
    IntegrationType.REAL_TIME: SectionChoice("Real-time sync", "writes each change as it happens", runs=False),
    IntegrationType.EVENT_DRIVEN: SectionChoice("Event-driven", "writes records from events and webhooks", runs=False),
    IntegrationType.HYBRID: SectionChoice(
        "Hybrid", "events as they arrive, and batch runs for records that events missed", runs=False
    ),
}
DIRECTIONS: Final = {
    Direction.ONE_WAY: SectionChoice("One-way (Source → Target)", "the source is authoritative, the target follows it"),
    Direction.BIDIRECTIONAL: SectionChoice("Bidirectional", "changes in either system reach the other", runs=False),
    Direction.MULTI: SectionChoice("Multi-directional", "several systems are kept in sync with each other", runs=False),
}
FREQUENCIES: Final = (
    SectionChoice("Hourly", "every hour, on the hour"),
    SectionChoice("Daily at 02:00 Europe/Berlin", "once a day, at a time in a time zone"),
    SectionChoice("Every 15 minutes", "at a fixed interval of seconds, minutes, hours or days"),
    SectionChoice("`*/5 * * * *`", "a cron expression; a time zone may follow"),
    SectionChoice("On-demand", "only when you start a run"),
    SectionChoice(
        "Real-time", "continuously: one second after a run that wrote records, otherwise up to a minute later"
    ),
)

_TYPE_FORMS: Final = {
    IntegrationType.BATCH: re.compile(r"batch\b", re.IGNORECASE),
    IntegrationType.REAL_TIME: re.compile(r"real[ -]?time\b", re.IGNORECASE),
    IntegrationType.EVENT_DRIVEN: re.compile(r"event[ -]?driven\b", re.IGNORECASE),
    IntegrationType.HYBRID: re.compile(r"hybrid\b", re.IGNORECASE),
}
_DIRECTION_FORMS: Final = {
    Direction.ONE_WAY: re.compile(r"(?:one[ -]?way|uni[ -]?directional)\b", re.IGNORECASE),
    Direction.BIDIRECTIONAL: re.compile(r"(?:bi[ -]?directional|two[ -]?way)\b", re.IGNORECASE),
    Direction.MULTI: re.compile(r"multi[ -]?directional\b", re.IGNORECASE),
}
_HOURLY: Final = re.compile(r"(?:hourly|every\s+hour)\b", re.IGNORECASE)
_ZONE: Final = r"(?:[A-Za-z]|\.{0,2}/)(?:[\w./+-]*\w)?"  # matches a path too, so that the message can show it
_DAILY: Final = re.compile(
    rf"(?:daily|every\s+day)\b(?:\s+at\s+(?P<at>[\w:.]*\w))?(?:\s+(?P<zone>{_ZONE}))?", re.IGNORECASE
)
_EVERY: Final = re.compile(r"every\s+(?:(?P<count>\d{1,9})\s*)?(?P<unit>[a-z]+)", re.IGNORECASE)
_CRON: Final = re.compile(rf"(?:`(?P<coded>[^`]+)`|(?P<bare>[\d*]\S*(?:\s+[\w*/,#-]+){{4}}))(?:\s+(?P<zone>{_ZONE}))?")
_REAL_TIME: Final = re.compile(r"real[ -]?time\b", re.IGNORECASE)
_ON_DEMAND: Final = re.compile(r"(?:on[ -]?demand|manual(?:ly)?)\b", re.IGNORECASE)
_TIME: Final = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_UNITS: Final = {
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "m": 60.0,
    "min": 60.0,
    "minute": 60.0,
    "h": 3600.0,
    "hour": 3600.0,
    "d": 86400.0,
    "day": 86400.0,
    "w": 604800.0,
    "week": 604800.0,
}

T = TypeVar("T", IntegrationType, Direction)


def find_first_line(body: str) -> LineSpan | None:
    """Return the span of the first line of text in `body`, without list and emphasis marks; comments are skipped."""
    visible = _COMMENT.sub(lambda match: _NOT_LINE_END.sub(" ", match[0]), body)
    match = _FIRST_LINE.search(visible)
    if match is None:
        return None
    start, text, marks = match.start("text"), match["text"].rstrip(" \t"), match["marks"] or ""
    if marks and not text.endswith(marks):  # emphasis that is not closed is text
        return LineSpan(match.start("marks"), start + len(text))
    return LineSpan(start, start + len(text) - len(marks))


def read_type(body: str, offset: int, findings: ProblemCollector) -> IntegrationType | None:
    """Return the Integration Type in `body`, which starts at `offset`; None if it is empty or unknown."""
    chosen, at = _choose(body, offset, _TYPE_FORMS, INTEGRATION_TYPES, findings)
    if chosen is not None and not INTEGRATION_TYPES[chosen].runs:
        what = "this version of speclab writes changes in batch runs only"
        findings.warning("C102", at, f"{INTEGRATION_TYPES[chosen].text} is not supported yet: {what}")
    return chosen


def read_direction(body: str, offset: int, findings: ProblemCollector) -> Direction | None:
    """Return the Direction in `body`, which starts at `offset`; None if it is empty or unknown."""
    chosen, at = _choose(body, offset, _DIRECTION_FORMS, DIRECTIONS, findings)
    if chosen is not None and not DIRECTIONS[chosen].runs:
        what = "this version of speclab only writes from the source to the target"
        findings.need("C102", at, f"{DIRECTIONS[chosen].text} is not supported yet: {what}")
    return chosen


def read_frequency(body: str, offset: int, findings: ProblemCollector) -> Schedule | None:
    """Return the schedule in `body`, which starts at `offset`; on demand if it is empty, None if it is not valid."""
    line = find_first_line(body)
    if line is None:
        return Schedule("on_demand", "")
    text, at = line.of(body), LineSpan(offset + line.start, offset + line.end)
    if _matches(_HOURLY, text):
        return Schedule("hourly", text)
    if _matches(_ON_DEMAND, text):
        return Schedule("on_demand", text)
    if _matches(_REAL_TIME, text):
        return Schedule("real_time", text)
    if match := _matches(_DAILY, text):
        return _daily(text, match, at.start, findings)
    if (match := _matches(_EVERY, text)) and _unit(match) in _UNITS:
        return _every(text, match, at.start, findings)
    if match := _matches(_CRON, text):
        return _cron(text, match, at.start, findings)
    _report_unknown(text, at, FREQUENCIES, findings)
    return None


def _matches(form: re.Pattern[str], text: str) -> re.Match[str] | None:
    """Match `form` at the start of `text`, if the text ends there or a new clause follows."""
    match = form.match(text)
    return match if match and _PROSE_AFTER.match(text, match.end()) else None


def _choose(
    body: str,
    offset: int,
    forms: Mapping[T, re.Pattern[str]],
    choices: Mapping[T, SectionChoice],
    findings: ProblemCollector,
) -> tuple[T | None, LineSpan]:
    line = find_first_line(body)
    if line is None:
        return None, LineSpan(offset, offset)
    text, at = line.of(body), LineSpan(offset + line.start, offset + line.end)
    for choice, form in forms.items():
        if form.match(text):
            return choice, at
    _report_unknown(text, at, list(choices.values()), findings)
    return None, at


def _report_unknown(text: str, at: LineSpan, choices: Sequence[SectionChoice], findings: ProblemCollector) -> None:
    forms = [choice.text for choice in choices]
    findings.error(
        "C101", at, f"{text!r} is not one of the choices: {' · '.join(forms)}", find_likely_name(text, forms)
    )


def _daily(text: str, match: re.Match[str], offset: int, findings: ProblemCollector) -> Schedule | None:
    time = _TIME.fullmatch(match["at"] or "00:00")
    if time is None:
        at = LineSpan(offset + match.start("at"), offset + match.end("at"))
        findings.error("C103", at, f"expected a time of day such as 02:00, got {match['at']!r}")
    if not _check_zone(match, offset, findings) or time is None:
        return None
    return Schedule("daily", text, at=f"{int(time[1]):02}:{time[2]}", zone=match["zone"])


def _every(text: str, match: re.Match[str], offset: int, findings: ProblemCollector) -> Schedule | None:
    seconds = int(match["count"] or 1) * _UNITS[_unit(match)]
    if not 0 < seconds <= LONGEST:
        at = LineSpan(offset + match.start("count"), offset + match.end("unit"))
        bound = "some time" if not seconds else f"at most {LONGEST / 86400:.0f} days"
        findings.error("C103", at, f"expected {bound} between two runs, such as 15 minutes")
        return None
    return Schedule("every", text, every=seconds)


def _unit(match: re.Match[str]) -> str:
    unit = match["unit"].casefold()
    return unit.removesuffix("s") or unit


def _cron(text: str, match: re.Match[str], offset: int, findings: ProblemCollector) -> Schedule | None:
    from cronsim import CronSim, CronSimError

    group = "coded" if match["coded"] else "bare"
    expression = match[group].strip()
    known = _check_zone(match, offset, findings)
    try:
        next(CronSim(expression, datetime(2000, 1, 1, tzinfo=UTC)))
    except (CronSimError, StopIteration) as error:
        why = str(error)[:1].lower() + str(error)[1:] if str(error) else "it never occurs"
        at = LineSpan(offset + match.start(group), offset + match.end(group))
        findings.error(
            "C103", at, f"{expression!r} is not a cron expression ({why}); expected five fields, such as */5 * * * *"
        )
        return None
    return Schedule("cron", text, cron=expression, zone=match["zone"]) if known else None


def _check_zone(match: re.Match[str], offset: int, findings: ProblemCollector) -> bool:
    from zoneinfo import ZoneInfo, available_timezones

    zone = match["zone"]
    if zone is None:
        return True
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):  # unknown zone, invalid path, a directory of zones
        zones = sorted(available_timezones())
        if not zones:  # the machine has no time zone database
            return True
        at = LineSpan(offset + match.start("zone"), offset + match.end("zone"))
        hint = describe_choices(zone, zones, "expected an IANA name such as Europe/Berlin, UTC;")
        findings.error("C103", at, f"unknown time zone {zone!r}; {hint}", find_likely_name(zone, zones))
        return False
    return True
