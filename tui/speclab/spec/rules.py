"""The rules a spec gives in tables and check lists: Error Types, Alerts, Acceptance Criteria.

People write these for people too; a row that the engine cannot read is told of and left to them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from speclab.core.outcome import ErrorClass
from speclab.core.text import describe_choices, find_likely_name
from speclab.spec.document import Document
from speclab.spec.integration import Alert, ErrorAction, ErrorRule
from speclab.spec.outline import BlockKind, LineSpan, Section, comparable
from speclab.spec.problems import ProblemCollector
from speclab.spec.table import MarkdownTable, TableCell, TableRow
from speclab.spec.units import duration

RUN_LOG_FUNCTIONS: Final = (
    "success_rate",
    "error_count",
    "records",
    "bytes",
    "duration_p95",
    "retry_depth",
    "dead_letters",
    "lag",
    "since_success",
)
"""What an alert and an acceptance criterion may ask of the run log."""

_WHEN: Final = ("when", "error", "error type", "errors", "type", "status", "condition", "class")
_ACTION: Final = ("action", "handling", "response", "reaction", "strategy", "what to do")
_ALERT: Final = ("alert", "name", "alerts")
_ALERT_WHEN: Final = ("when", "condition", "trigger", "expression")
_FOR: Final = ("for", "hold", "duration")
_NOTIFY: Final = ("notify", "who", "channel", "notified")

_STATUS: Final = re.compile(
    r"(?:http\s*)?(?P<low>[1-5]\d\d)(?:\s*[-\u2013]\s*(?P<high>[1-5]\d\d))?(?:\s+[a-z ]+)?", re.IGNORECASE
)
_HUNDRED: Final = re.compile(r"(?:http\s*)?(?P<hundred>[1-5])xx", re.IGNORECASE)
_CALL: Final = re.compile(r"\b[a-z_][a-z0-9_]*\(")
_ITEM: Final = re.compile(r"(?<![^\r\n])[ \t]*(?:[-*+]|\d+[.)])(?:[ \t]+(?:\[(?P<tick>[ xX])\][ \t]+)?|(?=[\r\n]|\Z))")
_CODE_AT_END: Final = re.compile(r"(?<!`)(?P<ticks>`+)(?P<code>[^`]+)(?P=ticks)\s*\Z")

_DECIDED_BEFORE: Final = frozenset({ErrorClass.MAPPING, ErrorClass.CONTRACT})


@dataclass(frozen=True, slots=True)
class CheckExpression:
    """CEL in a spec, and where it stands; `names` and `functions` are what it may use beside CEL's own."""

    text: str
    start: int
    end: int
    names: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Criterion:
    """One acceptance criterion; executable if it ends in a code span with an expression over the run log."""

    text: str
    ticked: bool
    expression: CheckExpression | None
    line: int


def read_error_rules(document: Document, section: Section, findings: ProblemCollector) -> tuple[ErrorRule, ...]:
    """The rules of the section's first table, a row with several errors as several rules."""
    table = document.table(section)
    if table is None:
        return ()
    when, action = _column(table, _WHEN), _column(table, _ACTION)
    if when is None or action is None:
        missing = "When" if when is None else "Action"
        findings.warning("C201", table.header.span, f"this table is for people only: it has no column {missing}")
        return ()
    rules: list[ErrorRule] = []
    for row in table.rows:
        if not any(row.texts):
            continue
        for rule in _error_rules(row, row.cells[when], row.cells[action], findings):
            if (why := _never_decides(rule, rules)) is None:
                rules.append(rule)
            else:
                findings.warning("C202", row.cells[when].span, why)
    return tuple(rules)


def read_alerts(
    document: Document, section: Section, findings: ProblemCollector
) -> tuple[tuple[Alert, CheckExpression], ...]:
    """The alerts of the section's first table, each with the place of its expression."""
    table = document.table(section)
    if table is None:
        return ()
    when = _column(table, _ALERT_WHEN)
    if when is None:
        findings.warning("C301", table.header.span, "this table is for people only: it has no column When")
        return ()
    name, hold, notify = (_column(table, names) for names in (_ALERT, _FOR, _NOTIFY))
    alerts = []
    for row in table.rows:
        cell = row.cells[when]
        expression = _uncoded(cell)
        if not any(row.texts):
            continue
        if not _CALL.search(expression.text):
            functions = ", ".join(RUN_LOG_FUNCTIONS)
            message = f"{cell.text!r} is for people only; expected an expression with one of {functions}"
            findings.warning("C301", cell.span, message)
            continue
        try:
            seconds = duration(_text(row, hold) or "0")
        except ValueError as error:
            findings.warning("C301", row.cells[hold or 0].span, f"this row is for people only: {error}")
            continue
        title = _text(row, name) or expression.text
        alerts.append((Alert(title, expression.text, seconds, _text(row, notify), row.line), expression))
    return tuple(alerts)


def read_criteria(document: Document, section: Section) -> tuple[Criterion, ...]:
    """The items of the section's check lists."""
    criteria: list[Criterion] = []
    for block in section.blocks:
        if block.kind is BlockKind.LIST:
            criteria += _criteria(document, block.span)
    return tuple(criteria)


def _criteria(document: Document, span: LineSpan) -> Iterator[Criterion]:
    items = list(_ITEM.finditer(document.text, span.start, span.end))
    ends = [*(item.start() for item in items), span.end][1:]
    for item, end in zip(items, ends, strict=True):
        if item["tick"] is None:
            continue
        text = document.text[item.end() : end].rstrip()
        code = _CODE_AT_END.search(text)
        expression = None
        if code and _CALL.search(code["code"]):
            at = item.end() + code.start("code")
            expression = CheckExpression(code["code"], at, at + len(code["code"]), functions=RUN_LOG_FUNCTIONS)
            text = text[: code.start()]
        line, _ = document.position(item.start())
        yield Criterion(" ".join(text.split()), item["tick"] != " ", expression, line)


def _column(table: MarkdownTable, names: Sequence[str]) -> int | None:
    headers = [comparable(text) for text in table.header.texts]
    return next((headers.index(name) for name in names if name in headers), None)


def _text(row: TableRow, column: int | None) -> str:
    return row.cells[column].text if column is not None else ""


def _uncoded(cell: TableCell) -> CheckExpression:
    """What the cell asks of the run log: its text without the marks of a code span around it."""
    text, start, end = cell.text, cell.span.start, cell.span.end
    ticks = len(text) - len(text.lstrip("`"))
    if ticks and text.endswith("`" * ticks) and len(text) > 2 * ticks:
        coded = text[ticks:-ticks]
        text = coded.strip()
        start += ticks + len(coded) - len(coded.lstrip())
        end -= ticks + len(coded) - len(coded.rstrip())
    return CheckExpression(text, start, end, functions=RUN_LOG_FUNCTIONS)


def _error_rules(row: TableRow, when: TableCell, action: TableCell, findings: ProblemCollector) -> list[ErrorRule]:
    """The rules of one row; none, and a warning, if it is for people only."""
    errors = [_error(part) for part in re.split(r",|/|\bor\b", when.text) if part.strip()]
    understood = [error for error in errors if error is not None]
    if not errors or len(understood) < len(errors):
        classes = ", ".join(member.value for member in ErrorClass)
        message = f"{when.text!r} is for people only; expected a status (429, 5xx, 400-404) or one of {classes}"
        findings.warning("C201", when.span, message)
        understood = []
    name, actions = _normal(action.text), [member.value for member in ErrorAction]
    if name not in actions:
        message = f"{action.text!r} is for people only; {describe_choices(name, actions, 'expected one of')}"
        findings.warning("C201", action.span, message, find_likely_name(name, actions))
        return []
    return [ErrorRule(low, high, error_class, ErrorAction(name), row.line) for low, high, error_class in understood]


def _error(text: str) -> tuple[int | None, int | None, ErrorClass | None] | None:
    """The statuses or the class that `text` names; None if it names neither."""
    text = text.strip().strip("`").strip()
    if match := _HUNDRED.fullmatch(text):
        low = int(match["hundred"]) * 100
        return low, low + 99, None
    if match := _STATUS.fullmatch(text):
        low, high = int(match["low"]), int(match["high"] or match["low"])
        return (low, high, None) if low <= high else None
    name = _normal(text)
    known = {member.value: member for member in ErrorClass}
    for tried in (name, name.removesuffix("s"), name.removesuffix("s").removesuffix("_error")):
        if tried in known:
            return None, None, known[tried]
    return None


def _normal(text: str) -> str:
    return re.sub(r"[\s-]+", "_", text.strip().strip("`").strip().casefold())


def _never_decides(rule: ErrorRule, earlier: Sequence[ErrorRule]) -> str | None:
    """Why a rule is without effect, if it is."""
    if rule.error_class in _DECIDED_BEFORE:
        return f"failures of class {rule.error_class} are dead letters at once and never come to this table"
    if rule.high is not None and rule.high < 300:
        return "an answer below 300 is no failure"
    for other in earlier:
        same_class = rule.error_class is not None and rule.error_class is other.error_class
        inside = (
            rule.low is not None
            and rule.high is not None
            and other.low is not None
            and other.high is not None
            and other.low <= rule.low
            and rule.high <= other.high
        )
        if same_class or inside:
            return f"line {other.line} decides all of this before"
    return None
