"""Acceptance criteria: evaluated over the run log, ticked in the spec, and suggested for criteria in plain words."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from speclab.core.json import Json
from speclab.mapping.cel import EvaluationError
from speclab.mapping.cel.functions import ExpressionSyntaxError
from speclab.monitor.checks import Checks
from speclab.runlog import RunLogReader
from speclab.spec.document import CRITERIA, Document
from speclab.spec.rules import Criterion, read_criteria


class CriterionState(StrEnum):
    """The result of an acceptance criterion."""

    PASS = "pass"  # noqa: S105 - not a password
    FAIL = "fail"
    NO_DATA = "no data"  # the run log does not have enough data to decide
    MANUAL = "manual"  # without an expression: a person decides

    @property
    def is_met(self) -> bool:
        """Whether `speclab verify` exits with 0."""
        return self in (CriterionState.PASS, CriterionState.MANUAL)


@dataclass(frozen=True, slots=True)
class CriterionResult:
    """A criterion, its state, and the figures found; `suggestion` is an expression for a criterion in plain words."""

    criterion: Criterion
    state: CriterionState
    detail: str = ""
    suggestion: str | None = None

    def to_json(self) -> dict[str, Json]:
        """Return the result as a JSON row."""
        expression = self.criterion.expression
        return {
            "criterion": self.criterion.text,
            "state": self.state.value,
            "ticked": self.criterion.ticked,
            "expression": expression.text if expression is not None else None,
            "detail": self.detail,
            "line": self.criterion.line,
            "suggestion": self.suggestion,
        }


@dataclass(frozen=True, slots=True)
class Verification:
    """The results of all criteria of a spec, and the id of the last run that has ended; if any."""

    results: Sequence[CriterionResult]
    run: str | None
    at: datetime

    @property
    def stamp(self) -> str:
        """The run and date that are appended to a criterion when it is ticked."""
        return f"({f'run {self.run}, ' if self.run else ''}{self.at:%Y-%m-%d})"


def verify(document: Document, reader: RunLogReader, spec_id: str, now: datetime) -> Verification:
    """Evaluate the acceptance criteria of `document` over the run log. Raises `RunLogError`."""
    with reader.snapshot():
        run = next((row.run for row in reader.runs(spec_id, limit=20) if row.ended_at is not None), None)
        checks = Checks(reader, spec_id, now)
        results = [_evaluate(criterion, checks, has_run=run is not None) for criterion in find_criteria(document)]
    return Verification(results, run, now)


def find_criteria(document: Document) -> tuple[Criterion, ...]:
    """Return the criteria of `document`."""
    sections = document.outline.at(CRITERIA)
    return read_criteria(document, sections[0]) if sections else ()


def update_ticks(document: Document, verification: Verification, *, tick: bool, untick: bool) -> Document:
    """Return `document` with changed boxes, each in its own line.

    With `tick`, a criterion that passes and is not ticked is ticked, and run and date are appended. With `untick`, a
    ticked criterion that fails is no longer ticked. Raises `EditRejected` if the results are of another version of the
    section, and as every edit.
    """
    after = document
    for result in reversed(verification.results):  # from the end, so that the offsets of the others stay valid
        criterion = result.criterion
        if tick and result.state is CriterionState.PASS and not criterion.ticked:
            after = _set_box(after, criterion, "x", f" {verification.stamp}")
        elif untick and result.state is CriterionState.FAIL and criterion.ticked:
            after = _set_box(after, criterion, " ", "")
    return after


def add_expression(document: Document, criterion: Criterion, expression: str) -> Document:
    """Return `document` with `expression` at the end of `criterion`. Raises `EditRejected`."""
    return _replace(document, criterion.stamp_at, criterion.stamp_at, f" `{expression}`")


def _set_box(document: Document, criterion: Criterion, box: str, stamp: str) -> Document:
    before = document.text[criterion.box + 1 : criterion.stamp_at]
    return _replace(document, criterion.box, criterion.end, f"{box}{before}{stamp}")


def _replace(document: Document, start: int, end: int, text: str) -> Document:
    section = document.outline.at(CRITERIA)[0]
    at, body = section.body.start, document.body(section)
    return document.with_body(section, body[: start - at] + text + body[end - at :])


def _evaluate(criterion: Criterion, checks: Checks, *, has_run: bool) -> CriterionResult:
    if criterion.expression is None:
        return CriterionResult(criterion, CriterionState.MANUAL, suggestion=suggest_expression(criterion.text))
    expression = criterion.expression.text
    if not has_run and "reconciled" not in expression:  # otherwise an integration that never ran has no dead letters
        return CriterionResult(criterion, CriterionState.NO_DATA, "no run has ended yet")
    try:
        result = checks.evaluate(expression)
    except (ExpressionSyntaxError, EvaluationError) as error:
        return CriterionResult(criterion, CriterionState.FAIL, f"cannot be evaluated: {error}")
    if result.holds is None:
        return CriterionResult(criterion, CriterionState.NO_DATA, result.detail)
    state = CriterionState.PASS if result.holds else CriterionState.FAIL
    return CriterionResult(criterion, state, f"{result.detail}{_format_threshold(expression)}")


_COMPARISON: Final = re.compile(r"\s*\w+\s*\([^()]*\)\s*(?P<threshold>(?:[<>]=?|[!=]=)\s*[^&|]+?)\s*")


def _format_threshold(expression: str) -> str:
    """Return what a simple comparison expects, such as `, expected >= 0.995`; empty for another expression."""
    comparison = _COMPARISON.fullmatch(expression)
    return f", expected {comparison['threshold']}" if comparison else ""


# --- suggestions

_NUMBER: Final = r"(?P<number>\d{1,3}(?:,\d{3})+|\d+(?:[.,]\d+)?)"
_UNIT: Final = r"(?P<unit>s(?:ec(?:onds?)?)?|m(?:in(?:utes?)?)?|h(?:ours?)?|d(?:ays?)?|w(?:eeks?)?)\b"
_TIME: Final = re.compile(
    rf"(?:{_NUMBER}\s*|(?P<one>an?|one|every|each|per)\s+|(?P<daily>dai(?=ly)))(?:{_UNIT}|ly\b)", re.IGNORECASE
)
_PERCENT: Final = re.compile(rf"{_NUMBER}\s*(?:%|percent\b|per cent\b)", re.IGNORECASE)
_COUNT: Final = re.compile(_NUMBER)
_NONE: Final = re.compile(r"\b(?:no|zero|without|none|never|empty)\b", re.IGNORECASE)
_OPERATORS: Final = (
    (re.compile(r"\b(?:at least|no less than|no fewer than|minimum)\b|≥|>=", re.IGNORECASE), ">="),
    (
        re.compile(
            r"\b(?:at most|no more than|not more than|maximum|up to|within|no longer than)\b|≤|<=", re.IGNORECASE
        ),
        "<=",
    ),
    (re.compile(r"\b(?:less than|fewer than|below|under)\b|<", re.IGNORECASE), "<"),
    (re.compile(r"\b(?:more than|above|over|exceeds?)\b|>", re.IGNORECASE), ">"),
)


@dataclass(frozen=True, slots=True)
class _Words:
    """A criterion in plain words, with the numbers found in it."""

    text: str

    def find_time(self) -> str | None:
        """Return the first duration as a setting is written, such as `24h`."""
        match = _TIME.search(self.text)
        if match is None:
            return None
        unit = (match["unit"] or "d")[0].lower()
        number = _parse_number(match["number"]) if match["number"] else "1"
        return "24h" if (number, unit) == ("1", "d") else f"{number}{unit}"

    def find_share(self) -> float | None:
        """Return the first percentage as a share of 1."""
        match = _PERCENT.search(self.text)
        return round(float(_parse_number(match["number"])) / 100, 6) if match else None

    def find_count(self, operator: str) -> str | None:
        """Return a comparison with the first number that is not a share or a duration, such as `< 10`."""
        rest = _TIME.sub(" ", _PERCENT.sub(" ", self.text))
        if match := _COUNT.search(rest):
            return f"{self.find_operator(operator)} {_parse_number(match['number'])}"
        return "== 0" if _NONE.search(rest) else None

    def find_operator(self, default: str) -> str:
        """Return the comparison that the words name."""
        return next((operator for words, operator in _OPERATORS if words.search(self.text)), default)


def _parse_number(text: str) -> str:
    return text.replace(",", "") if re.fullmatch(r"\d{1,3}(,\d{3})+", text) else text.replace(",", ".")


def _suggest_share(words: _Words) -> str | None:
    share, window = words.find_share(), words.find_time() or "24h"
    if share is None:
        return None
    if re.search(r"\b(?:error|fail|reject|lost|dead)", words.text, re.IGNORECASE):
        operator = {"<": ">", "<=": ">="}.get(words.find_operator("<="))
        return f'success_rate("{window}") {operator} {round(1 - share, 6)}' if operator else None
    return f'success_rate("{window}") {">" if words.find_operator(">=") == ">" else ">="} {share}'


def _suggest_count(function: str, operator: str) -> Callable[[_Words], str | None]:
    def suggest(words: _Words) -> str | None:
        count = words.find_count(operator)
        return f"{function}() {count}" if count else None

    return suggest


def _suggest_window(function: str, operator: str) -> Callable[[_Words], str | None]:
    def suggest(words: _Words) -> str | None:
        count = words.find_count(operator)
        return f'{function}("{words.find_time() or "24h"}") {count}' if count else None

    return suggest


def _suggest_time(call: str) -> Callable[[_Words], str | None]:
    def suggest(words: _Words) -> str | None:
        time = words.find_time()
        operator = "<" if words.find_operator("<=") == "<" else "<="
        return f'{call} {operator} duration("{time}")' if time else None

    return suggest


_SUGGESTIONS: Final[Sequence[tuple[re.Pattern[str], Callable[[_Words], str | None]]]] = tuple(
    (re.compile(pattern, re.IGNORECASE), suggest)
    for pattern, suggest in (
        (r"%|\bpercent\b|\bper cent\b", _suggest_share),
        (r"\bdead[- ]?letters?\b", _suggest_count("dead_letters", "<=")),
        (r"\bretry queue\b|\bretries\b|\bwaiting\b", _suggest_count("retry_depth", "<=")),
        (
            (
                r"\breconcil|\b(?:counts?|source and target|systems?|totals?)\b.*\b(?:match|agree|equal|identical|same)"
                r"|\b(?:no|without)\b.*\b(?:missing|duplicates?|differences?)\b"
            ),
            lambda _words: "reconciled()",
        ),
        (r"\b(?:last )?success(?:ful)?\b.*\bago\b|\blast success|\bruns? success", _suggest_time("since_success()")),
        (r"\b(?:errors?|failures?)\b", _suggest_window("error_count", "<=")),
        (
            (
                r"\b(?:runs?|sync|job|it)\b.*\b(?:takes?|finish(?:es)?|completes?|lasts?|ends?)\b"
                r"|\bduration\b|\brun time\b"
            ),
            _suggest_time('duration_p95("7d")'),
        ),
        (
            (
                r"\b(?:arrives?|appears?|lag|delay|latency|old|visible|up to date|changes?|updates?|synced)\b"
                r"|\bsynchroni[sz]ed\b"
            ),
            _suggest_time("lag()"),
        ),
        (r"\b(?:records?|rows?|contacts?|orders?|customers?|items?|messages?)\b", _suggest_window("records", ">=")),
    )
)


def suggest_expression(text: str) -> str | None:
    """Return an expression for a criterion in plain words, to be offered to a person; None if nothing is similar."""
    words = _Words(text)
    for pattern, suggest in _SUGGESTIONS:
        if pattern.search(text) and (expression := suggest(words)) is not None:
            return expression
    return None
