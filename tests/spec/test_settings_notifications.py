"""The section Error Notifications and the Notify column: what lint accepts, and what it reports."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from speclab.spec.document import Document
from speclab.spec.notifications import NotificationSettings, QuietHours
from speclab.spec.parser import lint

SPEC = """\
---
spec_id: people
type: integration
status: draft
---

## Error Handling & Retry Strategy

### Error Notifications

```yaml
{settings}
```

## Monitoring & Alerting

### Alerts

| Alert | When | For | Notify | Severity |
|-------|------|-----|--------|----------|
{row}
"""
CHANNELS = 'channels:\n  ops: {slack: "${env:HOOK}"}\n'
ROW = "| Late | lag() > 60.0 | 1m | ops | critical |"


def problems(settings: str, row: str = ROW) -> list[str]:
    text = SPEC.format(settings=settings, row=row)
    codes = ("S1", "S2", "A1", "C3")
    found = lint(Document.parse(text))
    return [f"{one.line}:{one.column} {one.code} {one.message}" for one in found if one.code.startswith(codes)]


def test_the_documented_settings_are_valid() -> None:
    assert (
        problems(f"""\
{CHANNELS}  team: {{email: {{to: [ops@example.org], smtp: "${{env:SMTP_URL}}"}}}}
on: {{failed: ops, dead_letters: {{above: 10, to: team}}, recovered: [ops, log]}}
reminder: 4h
quiet: {{from: "22:00", to: "07:00", zone: Europe/Berlin, except: critical}}
maintenance: [{{from: "2026-12-24 18:00", to: "2026-12-24 20:00"}}]""")
        == []
    )


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            'channels: {ops: {slack: "https://hooks.slack.com/services/T0/B0/x"}}',
            "A101 the file contains a secret; move it to the environment and write ${env:ALERT_SLACK}",
        ),
        (
            'channels: {ops: {email: {to: a@example.org, smtp: "smtp://ada:secret@mail"}}}',
            "A104 the file contains a password; move it to the environment and write ${env:ALERT_PASSWORD}",
        ),
        (
            'channels: {ops: {webhook: "https://x", headers: {Authorization: abc}}}',
            "A101 the file contains a secret; move it to the environment and write ${env:ALERT_AUTHORIZATION}",
        ),
        (
            f"{CHANNELS}on: {{failed: opps}}",
            "S205 no channel 'opps' in `channels`: expected one of ops, log, dashboard",
        ),
        (
            'channels: {ops: {slack: "${env:A}", log: true}}',
            "S205 a channel is one of slack, teams, email, webhook, apprise, log, dashboard; it has slack and log",
        ),
        (
            "channels: {ops: {timeout: 3s}}",
            "S205 a channel is one of slack, teams, email, webhook, apprise, log, dashboard; it has none",
        ),
        (
            "channels: {ops: {slak: x}}",
            "S202 unknown setting 'slak' in `channels.ops`; did you mean 'slack'?",
        ),
        (
            "channels: {ops: {email: {to: nobody, smtp: mail}}}",
            "S203 `channels.ops.email.to.0`: expected an e-mail address such as ops@example.org, got 'nobody'",
        ),
        (f"{CHANNELS}reminder: 4", "S203 `reminder`: expected a duration such as 30s, 5m or 24h, got 4"),
        (
            f'{CHANNELS}quiet: {{from: "25:00", to: "07:00"}}',
            "S203 `quiet.from`: expected a time of day in quotes such as \"22:00\", got '25:00'",
        ),
        (
            f'{CHANNELS}quiet: {{from: "22:00", to: "07:00", zone: Europe/Berlinn}}',
            "S203 `quiet.zone`: expected a time zone such as Europe/Berlin, got 'Europe/Berlinn'",
        ),
        (
            f'{CHANNELS}maintenance: [{{from: "2026-12-24 20:00", to: "2026-12-24 18:00"}}]',
            "S205 `to` is not after `from`",
        ),
    ],
)
def test_an_invalid_setting_is_reported_with_what_was_expected(settings: str, problem: str) -> None:
    assert problem in [one.split(" ", 1)[1] for one in problems(settings)]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (
            "| Late | lag() > 60.0 | 1m | ops, `team` | |",
            "C302 no channel 'team' in Error Notifications; expected one of ops, log, dashboard",
        ),
        (
            "| Late | lag() > 60.0 | 1m | log | hight |",
            "C302 unknown severity 'hight'; expected one of 'critical', 'warning'",
        ),
        (
            '| Bad | success_rate("1h") < 95 | 1m | ops | |',
            "C303 a success rate is between 0 and 1; write 0.95 for 95 %",
        ),
    ],
)
def test_a_row_with_an_unknown_channel_severity_or_unit_is_a_warning(row: str, problem: str) -> None:
    assert [one.split(" ", 1)[1] for one in problems(CHANNELS, row)] == [problem]


def test_quiet_hours_cross_midnight_in_their_zone_also_when_clocks_change() -> None:
    quiet = QuietHours.model_validate({"from": "22:00", "to": "07:00", "zone": "Europe/Berlin"})
    ends = quiet.find_end(datetime(2026, 3, 28, 22, tzinfo=UTC))  # 23:00; clocks go forward at 02:00
    assert ends is not None
    assert ends.astimezone(UTC) == datetime(2026, 3, 29, 5, tzinfo=UTC)
    assert quiet.find_end(datetime(2026, 3, 29, 5, tzinfo=UTC)) is None
    assert quiet.find_end(datetime(2026, 3, 29, 4, 59, tzinfo=UTC)) is not None


def test_channels_need_an_address() -> None:
    with pytest.raises(ValidationError):
        NotificationSettings.model_validate({"channels": {"ops": {"email": {"to": [], "smtp": "smtp://mail"}}}})
