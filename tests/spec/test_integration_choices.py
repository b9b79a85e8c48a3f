"""Choice sections: valid first lines, and problems of invalid ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from speclab.core.outcome import Level
from speclab.spec.document import Document
from speclab.spec.integration import (
    DIRECTIONS,
    FREQUENCIES,
    INTEGRATION_TYPES,
    Direction,
    IntegrationType,
    Schedule,
    read_direction,
    read_frequency,
    read_type,
)
from speclab.spec.problems import Problem, ProblemCollector

FORMS = "Hourly · Daily at 02:00 Europe/Berlin · Every 15 minutes · `*/5 * * * *` · On-demand · Real-time"


def findings_of(body: str) -> ProblemCollector:
    return ProblemCollector("spec.md", body, Document.parse(body).position, needs=Level.INFO)


def frequency(body: str) -> tuple[Schedule | None, list[Problem]]:
    findings = findings_of(body)
    return read_frequency(body, 0, findings), findings.in_order()


def render(problems: list[Problem]) -> list[str]:
    return [f"{problem.line}:{problem.column} {problem.code} {problem.message}" for problem in problems]


@pytest.mark.parametrize(
    ("body", "schedule"),
    [
        ("Hourly", Schedule("hourly", "Hourly")),
        ("every hour", Schedule("hourly", "every hour")),
        ("Daily", Schedule("daily", "Daily", at="00:00")),
        ("Daily at 2:00", Schedule("daily", "Daily at 2:00", at="02:00")),
        (
            "Daily at 02:00 Europe/Berlin",
            Schedule("daily", "Daily at 02:00 Europe/Berlin", at="02:00", zone="Europe/Berlin"),
        ),
        ("Every 15 minutes", Schedule("every", "Every 15 minutes", every=900)),
        ("every 2 h", Schedule("every", "every 2 h", every=7200)),
        ("Every minute", Schedule("every", "Every minute", every=60)),
        ("Every 30s", Schedule("every", "Every 30s", every=30)),
        ("`*/5 * * * *`", Schedule("cron", "`*/5 * * * *`", cron="*/5 * * * *")),
        ("0 2 * * MON-FRI UTC", Schedule("cron", "0 2 * * MON-FRI UTC", cron="0 2 * * MON-FRI", zone="UTC")),
        ("On-demand", Schedule("on_demand", "On-demand")),
        ("on demand", Schedule("on_demand", "on demand")),
    ],
)
def test_each_form_of_frequency_is_read(body: str, schedule: Schedule) -> None:
    assert frequency(body) == (schedule, [])


@pytest.mark.parametrize(
    "body",
    [
        "Hourly.",
        "**Hourly**",
        "`Hourly`",
        "- hourly (the CRM asks for no more)",
        "\n\r**Hourly** \t\rAt the full hour.\r",
        "\n\n   Hourly   \r\n\r\nAt the full hour, for finance closes its books then.",
        "<!-- Real-time, hourly,\n daily, on-demand -->\nHourly",
        "Hourly: the CRM asks for no more",
    ],
)
def test_first_line_of_text_is_the_choice_and_prose_may_follow(body: str) -> None:
    schedule, problems = frequency(body)
    assert problems == []
    assert schedule is not None
    assert schedule.kind == "hourly"


@pytest.mark.parametrize("body", ["", "\n \n", "<!-- Real-time, hourly, daily, on-demand -->"])
def test_no_choice_means_on_demand(body: str) -> None:
    assert frequency(body) == (Schedule("on_demand", ""), [])


@pytest.mark.parametrize(
    "text",
    ["Weekly", "Hourly, at ten past", "Every other day", "Daily except Sundays", "Nightly", f"Every {'9' * 5000} days"],
)
def test_unknown_frequency_is_reported_with_the_valid_forms(text: str) -> None:
    schedule, problems = frequency(f"<!-- how often -->\n\n  {text}\n")
    assert schedule is None
    assert render(problems) == [f"3:3 C101 {text!r} is not one of the choices: {FORMS}"]
    assert problems[0].length == len(text)


@pytest.mark.parametrize(
    ("body", "location", "message"),
    [
        ("Daily at 25:00", "1:10", "expected a time of day such as 02:00, got '25:00'"),
        ("Daily at noon", "1:10", "expected a time of day such as 02:00, got 'noon'"),
        ("Every 0 minutes", "1:7", "expected some time between two runs, such as 15 minutes"),
        ("Every 99999 weeks", "1:7", "expected at most 36500 days between two runs, such as 15 minutes"),
        (
            "`*/5 * * *`",
            "1:2",
            "'*/5 * * *' is not a cron expression (wrong number of fields); expected five fields, such as */5 * * * *",
        ),
        (
            "`61 * * * *`",
            "1:2",
            "'61 * * * *' is not a cron expression (bad minute); expected five fields, such as */5 * * * *",
        ),
        (
            "`0 0 30 2 *`",
            "1:2",
            "'0 0 30 2 *' is not a cron expression (bad day-of-month); expected five fields, such as */5 * * * *",
        ),
    ],
)
def test_invalid_schedule_is_reported_at_its_location(body: str, location: str, message: str) -> None:
    schedule, problems = frequency(body)
    assert schedule is None
    assert render(problems) == [f"{location} C103 {message}"]


def test_unknown_time_zone_is_reported_with_the_nearest() -> None:
    _, problems = frequency("Daily at 02:00 Europe/Berln")
    assert [(problem.column, problem.code, problem.fix, problem.length) for problem in problems] == [
        (16, "C103", "Europe/Berlin", 12)
    ]
    assert problems[0].message.startswith("unknown time zone 'Europe/Berln'; did you mean 'Europe/Berlin'")


@pytest.mark.parametrize("zone", ["../../etc/passwd", "/etc/passwd", "../UTC"])
def test_path_is_not_a_time_zone(zone: str) -> None:
    schedule, problems = frequency(f"Daily at 02:00 {zone}")
    assert schedule is None
    assert (problems[0].code, problems[0].column, problems[0].length) == ("C103", 16, len(zone))
    assert problems[0].message.startswith(f"unknown time zone '{zone}'; ")


@pytest.mark.parametrize("zone", ["Europe", "Mars/Olympus"])
def test_directory_of_zones_is_not_a_time_zone(zone: str) -> None:
    _, problems = frequency(f"`0 2 * * *` {zone}")
    assert [(problem.column, problem.code) for problem in problems] == [(13, "C103")]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("Batch sync", IntegrationType.BATCH),
        ("batch, from the CRM's API", IntegrationType.BATCH),
        ("Real-time sync", IntegrationType.REAL_TIME),
        ("Event-driven, by webhooks", IntegrationType.EVENT_DRIVEN),
        ("Hybrid of both", IntegrationType.HYBRID),
    ],
)
def test_each_integration_type_is_known_and_only_batch_is_run(body: str, kind: IntegrationType) -> None:
    findings = findings_of(body)
    assert read_type(body, 0, findings) is kind
    reported = [(problem.code, problem.level) for problem in findings.in_order()]
    assert reported == ([] if kind is IntegrationType.BATCH else [("C102", Level.WARNING)])


@pytest.mark.parametrize(
    ("body", "direction"),
    [
        ("One-way (Source → Target)", Direction.ONE_WAY),
        ("one way: CRM to billing", Direction.ONE_WAY),
        ("Bidirectional", Direction.BIDIRECTIONAL),
        ("Two-way", Direction.BIDIRECTIONAL),
        ("Multi-directional", Direction.MULTI),
    ],
)
def test_each_direction_is_known_and_only_one_way_is_run(body: str, direction: Direction) -> None:
    findings = findings_of(body)
    assert read_direction(body, 0, findings) is direction
    reported = [(problem.code, problem.level) for problem in findings.in_order()]
    assert reported == ([] if direction is Direction.ONE_WAY else [("C102", Level.INFO)])


def test_unsupported_choice_is_reported() -> None:
    findings = findings_of("Bidirectional")
    read_direction("Bidirectional", 0, findings)
    assert render(findings.in_order()) == [
        "1:1 C102 Bidirectional is not supported yet: this version of speclab only writes from the source to the target"
    ]


def test_real_time_is_a_schedule_like_any_other() -> None:
    assert frequency("Real-time") == (Schedule("real_time", "Real-time"), [])


@pytest.mark.parametrize(
    ("read", "choices"),
    [
        (read_type, "Batch sync · Real-time sync · Event-driven · Hybrid"),
        (read_direction, "One-way (Source → Target) · Bidirectional · Multi-directional"),
    ],
)
def test_any_other_type_or_direction_is_reported_with_the_choices(
    read: Callable[[str, int, ProblemCollector], object], choices: str
) -> None:
    findings = findings_of("Streaming")
    assert read("Streaming", 0, findings) is None
    assert render(findings.in_order()) == [f"1:1 C101 'Streaming' is not one of the choices: {choices}"]


def test_every_offered_choice_is_valid() -> None:
    for body, kind in ((choice.text, kind) for kind, choice in INTEGRATION_TYPES.items()):
        assert read_type(body, 0, findings_of(body)) is kind
    for body, direction in ((choice.text, direction) for direction, choice in DIRECTIONS.items()):
        assert read_direction(body, 0, findings_of(body)) is direction
    assert [frequency(choice.text)[0] is not None for choice in FREQUENCIES] == [True] * len(FREQUENCIES)
