"""Linting a hostile spec takes time in proportion to its size, and lists a bounded number of its unknown keys."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from speclab.mapping.lint import lint
from speclab.spec.document import Document
from speclab.spec.problems import Problem

SPEC = (Path(__file__).parents[2] / "specs" / "crm-contacts-to-billing.md").read_text()
ROW = "| source.id |"


def with_settings(count: int) -> str:
    return SPEC.replace("connector: http\n", "connector: http\n" + lines("key{}: 1", count), 1)


def with_nested_settings(count: int) -> str:
    return SPEC.replace("read:\n", "read:\n" + lines("  key{}: 1", count), 1)


def with_checks(count: int) -> str:
    return SPEC.replace("check:\n", "check:\n" + lines("  mail{}: {{format: email}}", count), 1)


def with_rows_and_checks(count: int) -> str:
    return with_checks(count).replace(ROW, lines("| source.a{0} | target.b{0} | Trim | |", count) + ROW, 1)


def with_checks_around_rows(count: int) -> str:
    text = SPEC.replace(ROW, lines("| source.a{0} | target.b{0}.c | Trim | |", count) + ROW, 1)
    return text.replace("check:\n", "check:\n" + lines("  b{}: {{type: object}}", count), 1)


def with_unused_lookups(count: int) -> str:
    return SPEC.replace("lookups:\n", "lookups:\n" + lines("  table{}: {{a: b}}", count), 1)


def with_unknown_lookups(count: int) -> str:
    return with_unused_lookups(count).replace(ROW, lines("| a{0} | b{0} | Lookup(tabel{0}) | |", count) + ROW, 1)


def lines(form: str, count: int) -> str:
    return "".join(f"{form.format(number)}\n" for number in range(count))


def linted(text: str) -> tuple[int, list[Problem]]:
    """Return the number of function calls that linting takes, and the problems."""
    document = Document.parse(text)
    calls = 0

    def count(_frame: FrameType, _event: str, _argument: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        problems = lint(document)
    finally:
        sys.setprofile(None)
    return calls, problems


@pytest.mark.parametrize(
    "write",
    [
        with_settings,
        with_nested_settings,
        with_checks,
        with_rows_and_checks,
        with_checks_around_rows,
        with_unused_lookups,
        with_unknown_lookups,
    ],
)
def test_lint_time_grows_linearly_with_the_keys_of_a_block(write: Callable[[int], str]) -> None:
    linted(write(1))  # imports
    few, many = linted(write(300))[0], linted(write(1_200))[0]
    assert many < 6 * few


@pytest.mark.parametrize(
    ("write", "code", "message"),
    [
        (with_settings, "S202", "49,900 more unknown settings in this block"),
        (with_checks, "M112", "check: 49,900 more keys that no row writes"),
    ],
)
def test_unknown_keys_beyond_a_hundred_are_counted(write: Callable[[int], str], code: str, message: str) -> None:
    found = [problem for problem in lint(Document.parse(write(50_000))) if problem.code == code]
    assert len(found) == 101
    assert [problem.message for problem in found if "more" in problem.message] == [message]


def test_line_of_blanks_is_read_in_linear_time() -> None:
    text = SPEC.replace("Every 15 minutes", "Every" + " " * 200_000 + "15 fortnights", 1)
    assert "C101" in {problem.code for problem in lint(Document.parse(text))}
