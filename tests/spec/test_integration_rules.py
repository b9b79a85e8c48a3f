"""Error Types, Alerts and Acceptance Criteria: rows that are read, and rows that are ignored."""

from __future__ import annotations

import pytest

from speclab.core.outcome import ErrorClass, Level
from speclab.spec.document import Document
from speclab.spec.integration import Alert, ErrorAction, ErrorRule
from speclab.spec.problems import Problem, ProblemCollector
from speclab.spec.rules import (
    RUN_LOG_FUNCTIONS,
    CheckExpression,
    Criterion,
    read_alerts,
    read_criteria,
    read_error_rules,
)

ERRORS = "### Error Types\n\n| When | Action | Notes |\n|---|---|---|\n"
ALERTS = "### Alerts\n\n| Alert | When | For | Notify |\n|---|---|---|---|\n"
FIRST = 5
"""Line of the first row below either head."""


def error_rules(text: str) -> tuple[tuple[ErrorRule, ...], list[Problem]]:
    document = Document.parse(text)
    findings = ProblemCollector("spec.md", text, document.position)
    return read_error_rules(document, document.sections[0], findings), findings.in_order()


def alerts(text: str) -> tuple[list[Alert], list[CheckExpression], list[Problem]]:
    document = Document.parse(text)
    findings = ProblemCollector("spec.md", text, document.position)
    found = read_alerts(document, document.sections[0], findings)
    return [alert for alert, _ in found], [expression for _, expression in found], findings.in_order()


def criteria(text: str) -> tuple[Criterion, ...]:
    document = Document.parse(text)
    return read_criteria(document, document.sections[0])


def render(problems: list[Problem]) -> list[str]:
    return [f"{problem.line}:{problem.column} {problem.code} {problem.message}" for problem in problems]


@pytest.mark.parametrize(
    ("when", "low", "high", "error_class"),
    [
        ("429", 429, 429, None),
        ("`429`", 429, 429, None),
        ("HTTP 429 Too Many Requests", 429, 429, None),
        ("5xx", 500, 599, None),
        ("400-404", 400, 404, None),
        ("network", None, None, ErrorClass.NETWORK),
        ("Rate limits", None, None, ErrorClass.RATE_LIMIT),
        ("Timeouts", None, None, ErrorClass.TIMEOUT),
        ("server errors", None, None, ErrorClass.SERVER),
        ("bad_answer", None, None, ErrorClass.BAD_ANSWER),
    ],
)
def test_error_is_a_status_a_range_or_a_class(
    when: str, low: int | None, high: int | None, error_class: ErrorClass | None
) -> None:
    found, problems = error_rules(f"{ERRORS}| {when} | retry | |\n")
    assert problems == []
    assert found == (ErrorRule(low, high, error_class, ErrorAction.RETRY, FIRST),)


@pytest.mark.parametrize(
    ("action", "meant"),
    [
        ("retry", ErrorAction.RETRY),
        ("Dead letter", ErrorAction.DEAD_LETTER),
        ("`dead-letter`", ErrorAction.DEAD_LETTER),
        ("STOP", ErrorAction.STOP),
    ],
)
def test_action_is_read_in_any_case_and_spacing(action: str, meant: ErrorAction) -> None:
    assert [rule.action for rule in error_rules(f"{ERRORS}| 422 | {action} | |\n")[0]] == [meant]


def test_several_errors_in_a_row_are_several_rules_in_order() -> None:
    found, problems = error_rules("### Error Types\n\n| Error | Handling |\n|--|--|\n| 408, 5xx, network | retry |\n")
    assert problems == []
    assert found == (
        ErrorRule(408, 408, None, ErrorAction.RETRY, 5),
        ErrorRule(500, 599, None, ErrorAction.RETRY, 5),
        ErrorRule(None, None, ErrorClass.NETWORK, ErrorAction.RETRY, 5),
    )


def test_unreadable_row_is_a_warning_and_not_a_rule() -> None:
    found, problems = error_rules(
        ERRORS + "| The CRM is down | retry | |\n| 429 | retyr | |\n| | | |\n| 422 | stop | |\n"
    )
    assert [rule.line for rule in found] == [8]
    assert {problem.level for problem in problems} == {Level.WARNING}
    assert render(problems) == [
        "5:3 C201 'The CRM is down' is ignored; expected a status (429, 5xx, 400-404) or one of "
        + ", ".join(ErrorClass),
        "6:9 C201 'retyr' is ignored; did you mean 'retry'?",
    ]
    assert problems[1].fix == "retry"


def test_table_without_the_columns_is_ignored_with_a_warning() -> None:
    found, problems = error_rules("### Error Types\n\n| Error | Meaning |\n|--|--|\n| 429 | too many |\n")
    assert found == ()
    assert render(problems) == ["3:1 C201 this table is ignored: it has no column Action"]
    assert error_rules("### Error Types\n\nOnly prose.\n") == ((), [])


def test_rule_without_effect_is_reported_with_the_earlier_rule() -> None:
    rows = ["400-499, network | stop", "404 | skip", "network | retry", "mapping | skip", "200 | skip"]
    found, problems = error_rules(ERRORS + "".join(f"| {row} | |\n" for row in rows))
    assert len(found) == 2
    assert render(problems) == [
        "6:3 C202 line 5 already matches all of this",
        "7:3 C202 line 5 already matches all of this",
        "8:3 C202 failures of class mapping become dead letters at once and never reach this table",
        "9:3 C202 a response with a status below 300 is not a failure",
    ]


def test_alert_has_a_name_an_expression_a_hold_time_and_recipients() -> None:
    line = r'| Many fail | `success_rate("1h") < 0.9 \|\| dead_letters() > 3` | 15m | #ops |'
    found, expressions, problems = alerts(f"{ALERTS}{line}\n")
    assert problems == []
    assert found == [Alert("Many fail", 'success_rate("1h") < 0.9 || dead_letters() > 3', 900.0, "#ops", FIRST)]
    assert expressions[0].functions == RUN_LOG_FUNCTIONS
    text = f"{ALERTS}{line}\n"
    assert text[expressions[0].start : expressions[0].end].startswith('success_rate("1h")')
    assert text[expressions[0].start : expressions[0].end].endswith("> 3")


@pytest.mark.parametrize("marks", ["`{}`", "`` {} ``", "`{} `", "{}"])
def test_expression_of_an_alert_has_its_exact_location(marks: str) -> None:
    text = f"{ALERTS}| a | {marks.format('lag() > 3')} | | |\n"
    (expression,) = alerts(text)[1]
    assert (expression.text, text[expression.start : expression.end]) == ("lag() > 3", "lag() > 3")


def test_name_hold_time_and_recipients_of_an_alert_are_optional() -> None:
    found, _, problems = alerts("### Alerts\n\n| When |\n|--|\n| dead_letters() > 0 |\n")
    assert problems == []
    assert found == [Alert("dead_letters() > 0", "dead_letters() > 0", 0.0, "", 5)]


def test_unreadable_alert_is_a_warning() -> None:
    found, _, problems = alerts(ALERTS + "| a | too many errors | | |\n| b | lag() > 3 | 5 | |\n| | | | |\n")
    assert found == []
    assert render(problems) == [
        "5:7 C301 'too many errors' is ignored; expected an expression with one of " + ", ".join(RUN_LOG_FUNCTIONS),
        "6:19 C301 this row is ignored: expected a duration such as 30s, 5m or 24h, got '5'",
    ]
    assert {problem.level for problem in problems} == {Level.WARNING}
    assert render(alerts("### Alerts\n\n| Alert | Who |\n|--|--|\n| a | b |\n")[2]) == [
        "3:1 C301 this table is ignored: it has no column When"
    ]


def test_criterion_that_ends_in_an_expression_is_executable() -> None:
    text = (
        "## Acceptance Criteria\n\nBoth teams agree:\n\n"
        '- [ ] Nearly all contacts arrive the same day `success_rate("24h") >= 0.995`\n'
        "- [x] Nobody waits for a retry\n  overnight ``retry_depth() == 0``\n"
        "- [ ] The file is `out/customers.jsonl`\n"
        "* [X] Finance has looked\n"
        "- no box\n\n"
        "```markdown\n- [ ] an example `lag() == 0`\n```\n"
    )
    found = criteria(text)
    assert [(item.text, item.ticked, item.line) for item in found] == [
        ("Nearly all contacts arrive the same day", False, 5),
        ("Nobody waits for a retry overnight", True, 6),
        ("The file is `out/customers.jsonl`", False, 8),
        ("Finance has looked", True, 9),
    ]
    expressions = [item.expression for item in found]
    assert [expression and text[expression.start : expression.end] for expression in expressions] == [
        'success_rate("24h") >= 0.995',
        "retry_depth() == 0",
        None,
        None,
    ]


def test_criteria_of_the_template_are_not_executable() -> None:
    found = criteria("## Acceptance Criteria\n\n- [ ] Criterion 1\n- [ ] Criterion 2\n")
    assert [(item.text, item.ticked, item.expression) for item in found] == [
        ("Criterion 1", False, None),
        ("Criterion 2", False, None),
    ]


@pytest.mark.parametrize(
    ("text", "found"), [("-\n", []), ("+\n\n1.\n", []), ("- [ ] one\n-\n", ["one"]), ("-\r- [ ] one", ["one"])]
)
def test_item_without_text_yet_is_not_a_criterion(text: str, found: list[str]) -> None:
    assert [criterion.text for criterion in criteria(f"## Acceptance Criteria\n\n{text}")] == found


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_criteria_are_items_with_any_line_ends(newline: str) -> None:
    text = "## Acceptance Criteria\n\n- [ ] one `lag() < 5.0`\n- [x] two\n".replace("\n", newline)
    found = criteria(text)
    assert [(one.text, one.ticked, one.line) for one in found] == [("one", False, 3), ("two", True, 4)]
    assert found[0].expression is not None
    assert found[0].expression.text == "lag() < 5.0"
