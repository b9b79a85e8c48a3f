"""Messages about alerts: what they say, as text and in the formats of Slack, Teams and webhooks.

They contain counts, classes and places of failures, and no contents of records.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Final

from speclab.core.clock import format_timestamp
from speclab.core.json import Json, Record
from speclab.core.outcome import NoticeKind, RunState
from speclab.core.text import format_count
from speclab.monitor.checks import CheckResult
from speclab.runlog import AlertRow, FailureGroup, RunLogReader
from speclab.spec.integration import Alert
from speclab.spec.settings_types import format_duration, parse_duration

DETAILED: Final = 10
"""Alerts of one message that are shown in full; of the others only the name."""
_GROUPS: Final = 3
_REASON: Final = 200
"""Maximum length of the error of a run in a message."""
_COMPARISON: Final = re.compile(
    r"\s*(?P<name>\w+)\((?P<arguments>[^()]*)\)\s*(?P<operator>[<>]=?|[=!]=)\s*"
    r"(?:duration\(\s*[\"'](?P<duration>[^\"']+)[\"']\s*\)|(?P<number>\d+(?:\.\d+)?))\s*"
)
_QUOTED: Final = re.compile(r"\"[^\"]*\"|'[^']*'")
_OF_TARGET: Final = re.compile(r"(?:; last error| says for): .*", re.DOTALL)
_LABELS: Final = {
    "success_rate": "Success rate within {0}",
    "error_count": "Errors within {0}",
    "records": "Records read within {0}",
    "bytes": "Data received within {0}",
    "duration_p95": "Duration of runs within {0}, 95th percentile",
    "retry_depth": "Records in the retry queue",
    "dead_letters": "Dead letters",
    "lag": "Lag",
    "since_success": "Time since the last success",
}
_OPERATORS: Final = {
    "<": "below {}", "<=": "{} or less", ">": "above {}", ">=": "{} or more", "==": "{}", "!=": "not {}"
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Notice:
    """A message about one alert. Times are UTC, in the format of the run log; `until` is when it was resolved."""

    kind: NoticeKind
    spec_id: str
    title: str
    alert: str
    severity: str
    since: str
    until: str | None
    figure: str
    """The figure against its threshold, with units: `Dead letters: 14 (alert: above 10)`."""
    reason: str
    """The error of the last run, if it failed."""
    groups: tuple[str, ...]
    """The largest groups of failures, with mapping row and line of the spec."""
    command: str
    """The command that shows more."""

    def to_json(self) -> Record:
        """Return the message as the outbox and webhooks have it."""
        return {**asdict(self), "kind": self.kind.value, "groups": [*self.groups]}

    @classmethod
    def from_json(cls, stored: Mapping[str, Json]) -> Notice:
        """Return a message from the outbox; fields that a newer version stored are ignored."""
        known = {one.name: stored[one.name] for one in fields(cls)}
        groups = known["groups"]
        texts = tuple(str(group) for group in groups) if isinstance(groups, list) else ()
        return cls(**{**known, "kind": NoticeKind(str(known["kind"])), "groups": texts})  # type: ignore[arg-type]

    @property
    def headline(self) -> str:
        """The message in one line."""
        return f"{_WORDS[self.kind]}: {self.title}: {self.alert}"

    def list_lines(self) -> Iterator[str]:
        """Yield the lines below the headline."""
        since = _format_time(self.since)
        if self.until is not None:
            age = (datetime.fromisoformat(self.until) - datetime.fromisoformat(self.since)).total_seconds()
            yield f"Resolved at {_format_time(self.until)}, after {format_duration(max(round(age), 0))}"
        else:
            yield f"Since {since} ({self.severity})"
        if self.figure:
            yield self.figure
        if self.reason:
            yield f"Last run: {self.reason}"
        yield from self.groups
        yield f"More: {self.command}"


_WORDS: Final = {NoticeKind.FIRING: "ALERT", NoticeKind.REMINDER: "STILL FIRING", NoticeKind.RESOLVED: "RESOLVED"}


class NoticeBuilder:
    """Builds the messages about the alerts of one integration at one moment."""

    def __init__(self, reader: RunLogReader, spec_id: str, title: str, now: datetime) -> None:
        self._reader = reader
        self._spec_id = spec_id
        self._title = title
        self._now = now

    def build(self, kind: NoticeKind, row: AlertRow, alert: Alert, result: CheckResult | None) -> Notice:
        """Return the message about an alert that fires, or fired as `row` says."""
        resolved = kind is NoticeKind.RESOLVED
        figure = describe_figure(alert.when, result) if result is not None else ""
        groups = [] if resolved else self._reader.groups(self._spec_id)
        texts = [self._describe_group(group) for group in groups[:_GROUPS]]
        if more := groups[_GROUPS:]:
            failures = format_count(sum(group.count for group in more), "failure")
            texts.append(f"and {failures} in {format_count(len(more), 'other group')}")
        reason = "" if resolved else self._get_reason()
        command = "speclab status" if resolved else "speclab failures" if groups else "speclab runs"
        return Notice(
            kind=kind,
            spec_id=self._spec_id,
            title=self._title,
            alert=row.name,
            severity=alert.severity,
            since=row.since,
            until=format_timestamp(self._now) if resolved else None,
            figure=figure,
            reason=reason,
            groups=tuple(texts),
            command=f"{command} {self._spec_id}",
        )

    def _describe_group(self, group: FailureGroup) -> str:
        """Return the size, the class and the place of a group of failures."""
        status = f" {group.status}" if group.status is not None else ""
        newest = next(iter(self._reader.get_group_failures(group, limit=1)), None)
        row = f"target.{group.row}" if group.row else f"stage {group.stage}"
        place = f" at {newest.file}:{newest.line}" if newest is not None and newest.file else ""
        return f"{format_count(group.count, 'record')}: {group.error_class}{status}, {group.state}, {row}{place}"

    def _get_reason(self) -> str:
        """Return the error of the last run that ended, if it failed, without quoted text and the target's own words."""
        for run in self._reader.runs(self._spec_id, limit=5):
            if run.state in (RunState.FAILED, RunState.INTERRUPTED):
                first = (run.error or str(run.state)).strip().partition("\n")[0]
                return _QUOTED.sub("…", _OF_TARGET.sub("", first))[:_REASON]
            if run.state in (RunState.SUCCEEDED, RunState.PARTIAL):
                return ""
        return ""


def describe_figure(when: str, result: CheckResult) -> str:
    """Return the figure against the threshold of an expression with one comparison; otherwise all its figures."""
    match = _COMPARISON.fullmatch(when)
    if match is None:
        return "" if when == "failing()" else result.detail
    call = _normalize(f"{match['name']}({match['arguments']})")
    value = next((value for name, value in result.figures.items() if _normalize(name) == call), None)
    label = _LABELS.get(match["name"])
    if value is None or label is None:
        return result.detail
    window, *rest = [part.strip(" \"'") for part in match["arguments"].split(",")]
    name = label.format(window) + (f", {rest[0]}" if rest else "")
    threshold = parse_duration(match["duration"]) if match["duration"] else float(match["number"])
    bound = _OPERATORS[match["operator"]].format(_format_value(match["name"], threshold))
    return f"{name}: {_format_value(match['name'], value)} (alert: {bound})"


def render_subject(notices: Sequence[Notice]) -> str:
    """Return one line for all messages."""
    if len(notices) == 1:
        return notices[0].headline
    counts = {kind: sum(notice.kind is kind for notice in notices) for kind in NoticeKind}
    parts = [f"{count} {kind}" for kind, count in counts.items() if count]
    titles = list(dict.fromkeys(notice.title for notice in notices))
    return f"speclab: {', '.join(parts)}: {titles[0] if len(titles) == 1 else format_count(len(titles), 'integration')}"


def render_text(notices: Sequence[Notice]) -> str:
    """Return all messages as plain text."""
    blocks = [
        "\n".join([notice.headline, *(f"  {line}" for line in notice.list_lines())]) for notice in notices[:DETAILED]
    ]
    return "\n\n".join([*blocks, *(notice.headline for notice in notices[DETAILED:])])


def render_webhook(notices: Sequence[Notice]) -> Record:
    """Return all messages as the JSON of a webhook."""
    return {
        "version": 1,
        "subject": render_subject(notices),
        "text": render_text(notices),
        "alerts": [notice.to_json() for notice in notices],
    }


def render_slack(notices: Sequence[Notice]) -> Record:
    """Return all messages as the payload of a Slack incoming webhook, within Slack's limits (50 blocks)."""
    blocks: list[Json] = []
    for notice in notices[:DETAILED]:
        body = "\n".join(_escape_slack(line) for line in notice.list_lines())
        header = f"{_ICONS[notice.kind]} {notice.headline}"[:150]
        blocks.append({"type": "header", "text": {"type": "plain_text", "text": header, "emoji": True}})
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": body[:3000]}})
    if more := notices[DETAILED:]:
        names = "\n".join(_escape_slack(notice.headline) for notice in more)
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": names[:3000]}})
    return {"text": _escape_slack(render_subject(notices)), "blocks": blocks}


def render_teams(notices: Sequence[Notice]) -> Record:
    """Return all messages as an Adaptive Card 1.4 for a Teams workflow."""
    body: list[Json] = []
    for notice in notices[:DETAILED]:
        color = {NoticeKind.RESOLVED: "good"}.get(notice.kind, "attention")
        body.append(_text_block(notice.headline, weight="bolder", size="medium", color=color))
        body += [_text_block(line) for line in notice.list_lines()]
    body += [_text_block(notice.headline) for notice in notices[DETAILED:]]
    card: Record = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "fallbackText": render_subject(notices),
        "body": body,
    }
    attachment: Json = {
        "contentType": "application/vnd.microsoft.card.adaptive",
        "contentUrl": None,
        "content": card,
    }
    return {"type": "message", "summary": render_subject(notices), "attachments": [attachment]}


_ICONS: Final = {
    NoticeKind.FIRING: ":red_circle:",
    NoticeKind.REMINDER: ":red_circle:",
    NoticeKind.RESOLVED: ":large_green_circle:",
}


def _text_block(text: str, **more: Json) -> Record:
    """Return a text block; Teams would format `*`, `_` and `[` as Markdown."""
    escaped = re.sub(r"([*_\[\]])", r"\\\1", text)
    return {"type": "TextBlock", "text": escaped, "wrap": True, "spacing": "small", **more}


def _escape_slack(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _normalize(call: str) -> str:
    return re.sub(r"[\s\"']", "", call)


def _format_value(function: str, value: float) -> str:
    match function:
        case "success_rate":
            return f"{value * 100:.4g} %"
        case "duration_p95" | "lag" | "since_success":
            return format_duration(round(value)) if value >= 1 else f"{value:g}s"
        case "bytes":
            return f"{value:,.0f} bytes"
        case _:
            return f"{value:,.0f}"


def _format_time(at: str) -> str:
    return f"{at[:10]} {at[11:16]} UTC"
