"""Limits of systems: rates with one or several windows, and request weights."""

from __future__ import annotations

import pytest

from speclab.connectors.http.settings import HttpSystem
from speclab.spec.document import Document
from speclab.spec.problems import ProblemCollector
from speclab.spec.settings_block import read_block, to_model
from speclab.spec.settings_types import Rate


def limited(limits: str) -> tuple[HttpSystem | None, list[str]]:
    """Return the system with these limits, and their problems as `column message`."""
    yaml = f"connector: http\nbase_url: https://x.example\nkey: id\nlimits: {limits}\n"
    document = Document.parse(f"## Section\n```yaml\n{yaml}```\n")
    findings = ProblemCollector("spec.md", document.text, document.position)
    tree = read_block(document.sections[0], findings)
    assert tree is not None
    found = to_model(tree, HttpSystem, findings)
    return found, [f"{problem.column} {problem.message}" for problem in findings.in_order()]


@pytest.mark.parametrize(
    ("limits", "rates"),
    [
        ("{}", ()),
        ("{rate: 100/min}", (Rate(100, 60),)),
        ("{rate: [10/s, 1000/h]}", (Rate(10, 1), Rate(1000, 3600))),
        ("{rate: [5000/15min]}", (Rate(5000, 900),)),
        ('{rate: 100/min, weights: {POST: 100, "GET /search": 10}}', (Rate(100, 60),)),
    ],
)
def test_rate_has_one_window_or_several(limits: str, rates: tuple[Rate, ...]) -> None:
    found, reported = limited(limits)
    assert reported == []
    assert found is not None
    assert found.limits.rate == rates


@pytest.mark.parametrize(
    ("limits", "reported"),
    [
        (
            "{rate: 100}",
            "16 `limits.rate`: expected a rate such as 100/min or 10/s, got 100",
        ),
        (
            "{rate: [10/s, often]}",
            "23 `limits.rate`: expected a rate such as 100/min or 10/s, got 'often'",
        ),
        ("{weights: {POST: 2}}", "10 `weights` needs `rate`"),
        ("{rate: [100/min, 5/s], weights: {POST: 6}}", "42 a weight of 6 is more than `rate` allows in one window"),
        ("{rate: 9/s, weights: {/search: 2}}", "31 '/search': expected a method such as POST, or a method and a path"),
        ("{rate: 9/s, weights: {post: 2}}", "31 'post': expected a method such as POST, or a method and a path"),
        ("{rate: 9/s, weights: {POST: 0}}", "37 `limits.weights.POST`: expected at least 1, got '0'"),
    ],
)
def test_invalid_limit_is_reported_at_its_location(limits: str, reported: str) -> None:
    assert limited(limits)[1] == [reported]
