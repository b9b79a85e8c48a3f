"""Rows of the tables and check lists that run: Field Mapping, Error Types, Alerts, Acceptance Criteria."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from speclab.core.outcome import ErrorClass
from speclab.core.paths import FieldPath, PathSyntaxError
from speclab.core.text import describe_choices, find_likely_name
from speclab.spec.document import Document
from speclab.spec.integration import Alert, ErrorAction, ErrorRule, MappingRow
from speclab.spec.outline import BlockKind, LineSpan, Section, comparable
from speclab.spec.problems import ProblemCollector
from speclab.spec.table import NOTES, SOURCE, TARGET, TRANSFORMATION, MarkdownTable, TableCell, TableRow

if TYPE_CHECKING:
    from speclab.spec.notifications import NotificationSettings

_EXAMPLES: Final = frozenset(
    {("source.field1", "target.field1", "Direct"), ("source.field2", "target.field2", "Uppercase")}
)
_NOTHING: Final = frozenset({"", "-", "\u2013", "\u2014"})
_SEPARATOR: Final = re.compile(r'\["(?:[^"\\]|\\.)*"\]|(?P<comma>,)')
_ESCAPED_PIPE: Final = re.compile(r"\\\|")


def read_rows(document: Document, section: Section, findings: ProblemCollector) -> tuple[MappingRow, ...]:
    """Return the rows of the Field Mapping, without invalid rows, which are reported."""
    table = document.mapping
    if table is None:
        _report_no_table(document, section, findings)
        return ()
    if TRANSFORMATION not in table.columns:
        findings.warning("D202", table.header.span, f"no column {TRANSFORMATION}; every row is treated as Direct")
    written = [row for row in table.rows if any(row.texts)]
    if all(_texts(table, row)[:3] in _EXAMPLES for row in written):
        what = "still has the template's example rows" if written else "has no rows"
        findings.need("D201", section.heading, f"the Field Mapping {what}; a run needs one row per target field")
        return ()
    rows: list[MappingRow] = []
    lines: dict[str, int] = {}
    for row in written:
        read = _row(table, row, findings)
        if read is None:
            continue
        target = str(FieldPath.parse(read.target))
        if target in lines:
            message = f"{read.target!r} is already the target on line {lines[target]}"
            findings.error("D301", row.cells[table.columns[TARGET]].span, message)
            continue
        lines[target] = read.line
        rows.append(read)
    return tuple(rows)


def _report_no_table(document: Document, section: Section, findings: ProblemCollector) -> None:
    table = document.table(section)
    if table is None:
        findings.need("D201", section.heading, "the Field Mapping has no table; a run needs one row per target field")
        return
    headers = list(table.header.texts)
    for name in (SOURCE, TARGET):
        if name not in headers:
            cell = table.header.cells[headers.index(meant)] if (meant := find_likely_name(name, headers)) else None
            message = f"the Field Mapping has no column {name!r}" + (
                f"; did you mean {meant!r} to be it?" if meant else ""
            )
            findings.error("D202", cell.span if cell else table.header.span, message, name if cell else None)


@dataclass(frozen=True, slots=True)
class _Text:
    """The text of a cell without the backticks of a code span, with the location of each character."""

    text: str
    start: int  # offset in the file
    column: int
    escapes: tuple[int, ...]  # offsets in `text` of characters with a backslash before them

    @classmethod
    def of(cls, cell: TableCell, source: str) -> _Text:
        raw = cell.span.of(source)
        escapes = [match.start() - nth for nth, match in enumerate(_ESCAPED_PIPE.finditer(raw))]
        whole = cls(cell.text, cell.span.start, cell.column, tuple(escapes))
        inner = cell.text[1:-1]
        coded = len(cell.text) > 2 and cell.text[0] == cell.text[-1] == "`" and "`" not in inner
        return whole.part(1, len(cell.text) - 1) if coded else whole

    def part(self, start: int, end: int) -> _Text:
        """Return the characters from `start` to `end`, stripped."""
        text = self.text[start:end]
        start += len(text) - len(text.lstrip())
        text = text.strip()
        before = start + bisect_left(self.escapes, start)
        inside = tuple(at - start for at in self.escapes if start <= at < start + len(text))
        return _Text(text, self.start + before, self.column + before, inside)

    def span(self, start: int = 0, end: int | None = None) -> LineSpan:
        """Return the span of these characters in the file."""
        end = len(self.text) if end is None else end
        return LineSpan(
            self.start + start + bisect_left(self.escapes, start), self.start + end + bisect_left(self.escapes, end)
        )

    def without(self, prefix: str) -> _Text:
        """Return the text without the system prefix."""
        for written in (f"{prefix}.", f"{prefix}["):
            if self.text.startswith(written):
                return self.part(len(prefix) + written.endswith("."), len(self.text))
        return self


def _texts(table: MarkdownTable, row: TableRow) -> tuple[str, ...]:
    return tuple(
        row.cells[table.columns[name]].text if name in table.columns else ""
        for name in (SOURCE, TARGET, TRANSFORMATION, NOTES)
    )


def _row(table: MarkdownTable, row: TableRow, findings: ProblemCollector) -> MappingRow | None:
    if row.surplus:
        at = LineSpan(row.cells[-1].span.end, row.span.end)
        findings.warning("D304", at, r"more cells than the table has columns; write a pipe inside a cell as \|")
    target_cell = row.cells[table.columns[TARGET]]
    target = _Text.of(target_cell, findings.text).without("target")
    sources = list(_sources(_Text.of(row.cells[table.columns[SOURCE]], findings.text)))
    good = [_check_path(source, "source", findings) for source in sources]
    if target.text in _NOTHING:
        findings.error("D302", target_cell.span, "this row has no target; name the field it fills, or delete the row")
        return None
    if not _check_path(target, "target", findings) or not all(good):
        return None
    transformation = _Text("", row.span.end, row.cells[-1].column, ())
    if TRANSFORMATION in table.columns:
        transformation = _Text.of(row.cells[table.columns[TRANSFORMATION]], findings.text)
    return MappingRow(
        sources=tuple(source.text for source in sources),
        target=target.text,
        transformation=transformation.text,
        notes=_texts(table, row)[3],
        line=row.line,
        source_columns=tuple(source.column for source in sources),
        target_column=target.column,
        transformation_column=transformation.column,
        escapes=transformation.escapes,
    )


def _sources(cell: _Text) -> Iterator[_Text]:
    """Yield the source fields of a cell, without their prefix; none if the cell is blank or a dash."""
    if cell.text in _NOTHING:
        return
    commas = [match.start() for match in _SEPARATOR.finditer(cell.text) if match["comma"]]
    if cell.text.startswith("="):
        commas = []
    for start, end in zip([0, *(at + 1 for at in commas)], [*commas, len(cell.text)], strict=True):
        part = cell.part(start, end)
        if len(part.text) > 2 and part.text[0] == part.text[-1] == "`":
            part = part.part(1, len(part.text) - 1)
        yield part.without("source")


def _check_path(path: _Text, what: str, findings: ProblemCollector) -> bool:
    try:
        FieldPath.parse(path.text)
    except PathSyntaxError as error:
        offset = min(error.offset, max(len(path.text) - 1, 0))
        message = f"{path.text!r} is not a valid {what} path: {error}"
        if path.text.startswith("="):
            message, offset = f"{path.text!r} is not a valid {what} path; write expressions in {TRANSFORMATION}", 0
        findings.error("D303", path.span(offset), message)
        return False
    return True


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
    "reconciled",
    "failing",
)
"""The run log functions available to alerts and acceptance criteria."""

_WHEN: Final = ("when", "error", "error type", "errors", "type", "status", "condition", "class")
_ACTION: Final = ("action", "handling", "response", "reaction", "strategy", "what to do")
_ALERT: Final = ("alert", "name", "alerts")
_ALERT_WHEN: Final = ("when", "condition", "trigger", "expression")
_FOR: Final = ("for", "hold", "duration")
_SEVERITY: Final = ("severity", "priority")
_NOTIFY: Final = ("notify", "who", "channel", "notified")

_STATUS: Final = re.compile(
    r"(?:http\s*)?(?P<low>[1-5]\d\d)(?:\s*[-\u2013]\s*(?P<high>[1-5]\d\d))?(?:\s+[a-z ]+)?", re.IGNORECASE
)
_HUNDRED: Final = re.compile(r"(?:http\s*)?(?P<hundred>[1-5])xx", re.IGNORECASE)
_CALL: Final = re.compile(r"\b[a-z_][a-z0-9_]*\(")
_ITEM: Final = re.compile(r"(?<![^\r\n])[ \t]*(?:[-*+]|\d+[.)])(?:[ \t]+(?:\[(?P<tick>[ xX])\][ \t]+)?|(?=[\r\n]|\Z))")
_CODE_AT_END: Final = re.compile(r"(?<!`)(?P<ticks>`+)(?P<code>[^`]+)(?P=ticks)\s*\Z")

_STAMP: Final = re.compile(r"[ \t]+\((?:run [\w-]+, )?\d{4}-\d\d-\d\d\)\s*\Z")
"""What `speclab verify --write` appends to a criterion."""

_RATE_THRESHOLD: Final = re.compile(r"\bsuccess_rate\([^()]*\)\s*(?:[<>]=?|[!=]=)\s*(?P<number>\d+(?:\.\d+)?)")
_SEVERITIES: Final = ("critical", "warning")
_DEFAULT_SEVERITY: Final = "warning"
_ALWAYS_DEAD: Final = frozenset({ErrorClass.MAPPING, ErrorClass.CONTRACT})


@dataclass(frozen=True, slots=True)
class CheckExpression:
    """A CEL expression in a spec, with its span and the names and functions it may use beside CEL's own."""

    text: str
    start: int
    end: int
    names: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Criterion:
    """An acceptance criterion; executable if it ends in a code span with an expression over the run log.

    `stamp` is the run and date that it was verified with, and `box`, `stamp_at` and `end` the offsets in the file of
    the character in its box, of the stamp, and of its end.
    """

    text: str
    ticked: bool
    expression: CheckExpression | None
    line: int
    stamp: str = ""
    box: int = 0
    stamp_at: int = 0
    end: int = 0


def read_error_rules(document: Document, section: Section, findings: ProblemCollector) -> tuple[ErrorRule, ...]:
    """Return the rules in the section's first table; a row with several errors is several rules."""
    table = document.table(section)
    if table is None:
        return ()
    when, action = _column(table, _WHEN), _column(table, _ACTION)
    if when is None or action is None:
        missing = "When" if when is None else "Action"
        findings.warning("C201", table.header.span, f"this table is ignored: it has no column {missing}")
        return ()
    rules: list[ErrorRule] = []
    for row in table.rows:
        if not any(row.texts):
            continue
        for rule in _error_rules(row, row.cells[when], row.cells[action], findings):
            if (why := _explain_no_effect(rule, rules)) is None:
                rules.append(rule)
            else:
                findings.warning("C202", row.cells[when].span, why)
    return tuple(rules)


def read_alerts(
    document: Document,
    section: Section,
    findings: ProblemCollector,
    notifications: NotificationSettings | None = None,
) -> tuple[tuple[Alert, CheckExpression], ...]:
    """Return the alerts in the section's first table, each with its expression.

    With `notifications`, channels in `Notify` that they do not define are reported.
    """
    from speclab.spec.settings_types import parse_duration

    table = document.table(section)
    if table is None:
        return ()
    when = _column(table, _ALERT_WHEN)
    if when is None:
        findings.warning("C301", table.header.span, "this table is ignored: it has no column When")
        return ()
    name, hold, notify, grade = (_column(table, names) for names in (_ALERT, _FOR, _NOTIFY, _SEVERITY))
    alerts = []
    for row in table.rows:
        cell = row.cells[when]
        expression = _cell_expression(cell)
        if not any(row.texts):
            continue
        if not _CALL.search(expression.text):
            functions = ", ".join(RUN_LOG_FUNCTIONS)
            message = f"{cell.text!r} is ignored; expected an expression with one of {functions}"
            findings.warning("C301", cell.span, message)
            continue
        try:
            seconds = parse_duration(_text(row, hold) or "0")
        except ValueError as error:
            findings.warning("C301", row.cells[hold or 0].span, f"this row is ignored: {error}")
            continue
        title = _text(row, name) or expression.text
        severity = _text(row, grade).strip("`").casefold() or _DEFAULT_SEVERITY
        alert = Alert(title, expression.text, seconds, _text(row, notify), row.line, severity)
        _check_alert(alert, row.cells[notify or 0], row.cells[grade or 0], notifications, findings)
        _check_threshold(expression, findings)
        alerts.append((alert, expression))
    return tuple(alerts)


def _check_alert(
    alert: Alert,
    notify: TableCell,
    severity: TableCell,
    notifications: NotificationSettings | None,
    findings: ProblemCollector,
) -> None:
    """Warn of unknown channels and severities."""
    if alert.severity not in _SEVERITIES:
        choices = describe_choices(alert.severity, _SEVERITIES, "expected one of")
        message = f"unknown severity {alert.severity!r}; {choices}"
        findings.warning("C302", severity.span, message, find_likely_name(alert.severity, _SEVERITIES))
    for name in alert.channels if notifications else ():
        if notifications is not None and not notifications.has_channel(name):
            near = find_likely_name(name, list(notifications.channels))
            message = f"no channel {name!r} in Error Notifications; {notifications.describe_channels()}"
            findings.warning("C302", notify.span, message, near if notify.text == name else None)


def _check_threshold(expression: CheckExpression, findings: ProblemCollector) -> None:
    """Warn of a comparison that has always the same result, because its unit is wrong."""
    for match in _RATE_THRESHOLD.finditer(expression.text):
        if float(match["number"]) > 1:
            at = LineSpan(expression.start + match.start("number"), expression.start + match.end("number"))
            share = float(match["number"]) / 100
            message = f"a success rate is between 0 and 1; write {share:g} for {match['number']} %"
            findings.warning("C303", at, message, f"{share:g}" if share <= 1 else None)


def read_criteria(document: Document, section: Section) -> tuple[Criterion, ...]:
    """Return the entries of the section's check lists."""
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
        written = document.text[item.end() : end].rstrip()
        stamp = _STAMP.search(written)
        text = written[: stamp.start()] if stamp else written
        stamp_at = item.end() + len(text)
        code = _CODE_AT_END.search(text)
        expression = None
        if code and _CALL.search(code["code"]):
            at = item.end() + code.start("code")
            expression = CheckExpression(code["code"], at, at + len(code["code"]), functions=RUN_LOG_FUNCTIONS)
            text = text[: code.start()]
        line, _ = document.position(item.start())
        yield Criterion(
            " ".join(text.split()),
            item["tick"] != " ",
            expression,
            line,
            stamp=stamp[0].strip() if stamp else "",
            box=item.start("tick"),
            stamp_at=stamp_at,
            end=item.end() + len(written),
        )


def _column(table: MarkdownTable, names: Sequence[str]) -> int | None:
    headers = [comparable(text) for text in table.header.texts]
    return next((headers.index(name) for name in names if name in headers), None)


def _text(row: TableRow, column: int | None) -> str:
    return row.cells[column].text if column is not None else ""


def _cell_expression(cell: TableCell) -> CheckExpression:
    """Return the expression in a cell, without the backticks of a code span around it."""
    text, start, end = cell.text, cell.span.start, cell.span.end
    ticks = len(text) - len(text.lstrip("`"))
    if ticks and text.endswith("`" * ticks) and len(text) > 2 * ticks:
        coded = text[ticks:-ticks]
        text = coded.strip()
        start += ticks + len(coded) - len(coded.lstrip())
        end -= ticks + len(coded) - len(coded.rstrip())
    return CheckExpression(text, start, end, functions=RUN_LOG_FUNCTIONS)


def _error_rules(row: TableRow, when: TableCell, action: TableCell, findings: ProblemCollector) -> list[ErrorRule]:
    """Return the rules of one row; none, with a warning, if the engine cannot read it."""
    errors = [_error(part) for part in re.split(r",|/|\bor\b", when.text) if part.strip()]
    understood = [error for error in errors if error is not None]
    if not errors or len(understood) < len(errors):
        classes = ", ".join(member.value for member in ErrorClass)
        message = f"{when.text!r} is ignored; expected a status (429, 5xx, 400-404) or one of {classes}"
        findings.warning("C201", when.span, message)
        understood = []
    name, actions = _normalize(action.text), [member.value for member in ErrorAction]
    if name not in actions:
        message = f"{action.text!r} is ignored; {describe_choices(name, actions, 'expected one of')}"
        findings.warning("C201", action.span, message, find_likely_name(name, actions))
        return []
    return [ErrorRule(low, high, error_class, ErrorAction(name), row.line) for low, high, error_class in understood]


def _error(text: str) -> tuple[int | None, int | None, ErrorClass | None] | None:
    """Return the range of statuses or the error class that `text` names; None if it names neither."""
    text = text.strip().strip("`").strip()
    if match := _HUNDRED.fullmatch(text):
        low = int(match["hundred"]) * 100
        return low, low + 99, None
    if match := _STATUS.fullmatch(text):
        low, high = int(match["low"]), int(match["high"] or match["low"])
        return (low, high, None) if low <= high else None
    name = _normalize(text)
    known = {member.value: member for member in ErrorClass}
    for tried in (name, name.removesuffix("s"), name.removesuffix("s").removesuffix("_error")):
        if tried in known:
            return None, None, known[tried]
    return None


def _normalize(text: str) -> str:
    return re.sub(r"[\s-]+", "_", text.strip().strip("`").strip().casefold())


def _explain_no_effect(rule: ErrorRule, earlier: Sequence[ErrorRule]) -> str | None:
    """Return why a rule never applies; None if it can."""
    if rule.error_class in _ALWAYS_DEAD:
        return f"failures of class {rule.error_class} become dead letters at once and never reach this table"
    if rule.high is not None and rule.high < 300:
        return "a response with a status below 300 is not a failure"
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
            return f"line {other.line} already matches all of this"
    return None
