"""What messages about alerts say: the figure against its threshold, the places of failures, no contents of records."""

from __future__ import annotations

from dataclasses import replace

import jsonschema_rs
import pytest
from tests.monitor.conftest import World

from speclab.core.json import encode
from speclab.core.outcome import AlertState, FailureState, NoticeKind, Outcome, Stage
from speclab.core.outcome import ErrorClass as Class
from speclab.monitor.checks import CheckResult, Checks
from speclab.monitor.notices import (
    Notice,
    NoticeBuilder,
    describe_figure,
    render_slack,
    render_subject,
    render_teams,
    render_text,
    render_webhook,
)
from speclab.runlog import AlertRow, NewFailure, PageResult
from speclab.spec.integration import Alert

NOTICE = Notice(
    NoticeKind.FIRING, "crm", "CRM <to> Billing", "Too *many*", "critical", "2026-11-24T10:42:07.000Z", None,
    "Dead letters: 14 (alert: above 10)", "", ("9 records: mapping, dead, target.email at crm.md:41",),
    "speclab failures crm",
)  # fmt: skip
RESOLVED = replace(NOTICE, kind=NoticeKind.RESOLVED, until="2026-11-24T12:43:37.000Z", groups=())

TEXT = {"type": "object", "required": ["type", "text"], "properties": {"text": {"type": "string", "minLength": 1}}}
SLACK = {  # https://docs.slack.dev/reference/block-kit/blocks: limits of blocks, headers and sections
    "type": "object",
    "additionalProperties": False,
    "required": ["text", "blocks"],
    "properties": {
        "text": {"type": "string", "minLength": 1, "maxLength": 40000},
        "blocks": {
            "type": "array",
            "minItems": 1,
            "maxItems": 50,
            "items": {
                "oneOf": [
                    {
                        "required": ["type", "text"],
                        "additionalProperties": False,
                        "properties": {
                            "type": {"const": "header"},
                            "text": {
                                **TEXT,
                                "additionalProperties": False,
                                "properties": {
                                    "type": {"const": "plain_text"},
                                    "text": {"type": "string", "minLength": 1, "maxLength": 150},
                                    "emoji": {"type": "boolean"},
                                },
                            },
                        },
                    },
                    {
                        "required": ["type", "text"],
                        "additionalProperties": False,
                        "properties": {
                            "type": {"const": "section"},
                            "text": {
                                **TEXT,
                                "additionalProperties": False,
                                "properties": {
                                    "type": {"const": "mrkdwn"},
                                    "text": {"type": "string", "minLength": 1, "maxLength": 3000},
                                },
                            },
                        },
                    },
                ]
            },
        },
    },
}
TEAMS = {  # https://adaptivecards.io/explorer, in the envelope of a Teams workflow
    "type": "object",
    "required": ["type", "attachments"],
    "properties": {
        "type": {"const": "message"},
        "attachments": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": {
                "required": ["contentType", "content"],
                "properties": {
                    "contentType": {"const": "application/vnd.microsoft.card.adaptive"},
                    "content": {
                        "required": ["type", "version", "body"],
                        "properties": {
                            "type": {"const": "AdaptiveCard"},
                            "version": {"const": "1.4"},
                            "body": {
                                "type": "array",
                                "items": {
                                    "type": "object",
                                    "required": ["type", "text"],
                                    "additionalProperties": False,
                                    "properties": {
                                        "type": {"const": "TextBlock"},
                                        "text": {"type": "string", "minLength": 1},
                                        "wrap": {"type": "boolean"},
                                        "spacing": {"enum": ["none", "small", "default", "medium", "large"]},
                                        "weight": {"enum": ["lighter", "default", "bolder"]},
                                        "size": {"enum": ["small", "default", "medium", "large", "extraLarge"]},
                                        "color": {"enum": ["default", "good", "warning", "attention"]},
                                    },
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}


@pytest.mark.parametrize("count", [1, 2, 60])
def test_payloads_match_the_schemas_of_slack_and_teams(count: int) -> None:
    notices = [replace(NOTICE, alert=f"{'x' * 200} {number}") for number in range(count - 1)] + [RESOLVED]
    jsonschema_rs.validate(SLACK, render_slack(notices))
    jsonschema_rs.validate(TEAMS, render_teams(notices))
    assert len(str(render_teams(notices))) < 28_000  # bytes that Teams accepts


def test_markup_of_names_is_escaped() -> None:
    assert render_slack([NOTICE])["text"] == "ALERT: CRM &lt;to&gt; Billing: Too *many*"
    teams = encode(render_teams([NOTICE])).decode()
    assert r'"text":"ALERT: CRM <to> Billing: Too \\*many\\*"' in teams


def test_the_text_says_what_since_when_how_much_where_and_what_to_do() -> None:
    assert render_text([NOTICE, RESOLVED]) == (
        "ALERT: CRM <to> Billing: Too *many*\n"
        "  Since 2026-11-24 10:42 UTC (critical)\n"
        "  Dead letters: 14 (alert: above 10)\n"
        "  9 records: mapping, dead, target.email at crm.md:41\n"
        "  More: speclab failures crm\n"
        "\n"
        "RESOLVED: CRM <to> Billing: Too *many*\n"
        "  Resolved at 2026-11-24 12:43 UTC, after 2h1m30s\n"
        "  Dead letters: 14 (alert: above 10)\n"
        "  More: speclab failures crm"
    )
    assert render_subject([NOTICE, RESOLVED]) == "speclab: 1 firing, 1 resolved: CRM <to> Billing"
    assert render_subject([NOTICE, replace(NOTICE, title="ERP")]) == "speclab: 2 firing: 2 integrations"


def test_a_message_survives_the_outbox() -> None:
    assert Notice.from_json({**RESOLVED.to_json(), "of a newer version": 1}) == RESOLVED
    assert render_webhook([NOTICE])["alerts"] == [NOTICE.to_json()]


@pytest.mark.parametrize(
    ("when", "figures", "text"),
    [
        (
            'success_rate("1h") < 0.9',
            {'success_rate("1h")': 0.8214},
            "Success rate within 1h: 82.14 % (alert: below 90 %)",
        ),
        ("dead_letters()>=10", {"dead_letters()": 1234}, "Dead letters: 1,234 (alert: 10 or more)"),
        (
            "since_success() > duration('2h')",
            {"since_success()": 7321.4},
            "Time since the last success: 2h2m1s (alert: above 2h)",
        ),
        (
            'error_count("10m", "timeout") > 5',
            {'error_count("10m", "timeout")': 6},
            "Errors within 10m, timeout: 6 (alert: above 5)",
        ),
        ('bytes("1d") == 0', {'bytes("1d")': 0}, "Data received within 1d: 0 bytes (alert: 0 bytes)"),
        ("dead_letters() > 1 || retry_depth() > 2", {"dead_letters()": 2}, "the detail"),
        ("failing()", {}, ""),
    ],
)
def test_the_figure_is_compared_with_its_threshold_in_its_unit(when: str, figures: dict[str, float], text: str) -> None:
    assert describe_figure(when, CheckResult(holds=True, detail="the detail", figures=figures)) == text


def fail(number: int, row: str, message: str) -> NewFailure:
    return NewFailure(
        key=f"{row}{number}", state=FailureState.DEAD, stage=Stage.MAP, error_class=Class.MAPPING, message=message,
        row=row, file="specs/crm.md", line=40 + len(row), source={"email": "ada@example.org"}, next_attempt_at=None,
    )  # fmt: skip


def test_the_three_largest_groups_are_listed_with_place_and_without_contents(world: World) -> None:
    run = world.start()
    failures = [
        fail(number, row, f'no entry for "ada{number}@example.org"')
        for row, count in (("a", 9), ("bb", 5), ("ccc", 3), ("dddd", 1), ("eeeee", 1))
        for number in range(count)
    ]
    world.log.commit_page(
        run,
        PageResult(
            read=19, outcomes={Outcome.DEAD: 19}, effects={}, bytes_in=0, bytes_out=0, cursor=None, failures=failures
        ),
    )
    world.log.finish_run(run, "'ada@example.org' is odd\nmore; last error: ada@example.org")
    row = AlertRow("crm", "Dead", AlertState.FIRING, "2026-11-24T10:42:07.000Z", "dead_letters() is 19")
    alert = Alert("Dead", "dead_letters() > 10", 0.0, "", 1)
    result = Checks(world.reader, "crm", world.now).evaluate(alert.when)
    notice = NoticeBuilder(world.reader, "crm", "CRM", world.now).build(NoticeKind.FIRING, row, alert, result)
    assert list(notice.list_lines())[1:] == [
        "Dead letters: 19 (alert: above 10)",
        "Last run: … is odd",
        "9 records: mapping, dead, target.a at specs/crm.md:41",
        "5 records: mapping, dead, target.bb at specs/crm.md:42",
        "3 records: mapping, dead, target.ccc at specs/crm.md:43",
        "and 2 failures in 2 other groups",
        "More: speclab failures crm",
    ]
    assert "ada" not in str(notice.to_json())
