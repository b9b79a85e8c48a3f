"""Reads in time windows: required and contradicting settings."""

from __future__ import annotations

import pytest
from tests.spec.test_settings_models import FIRST, problems_of, render

from speclab.connectors.http.settings import HttpSystem

CURSOR = "pagination: {by: cursor, next: next, param: cursor}"


def problems(since: str, more: str = CURSOR) -> list[str]:
    yaml = f"connector: http\nbase_url: https://x\nkey: id\nread:\n  path: /a\n  since: {{{since}}}\n  {more}\n"
    return render(problems_of(HttpSystem, yaml))


@pytest.mark.parametrize(
    "start",
    ["2024-01-31", "2024-01-31T00:00:00Z", "2024-01-31 00:00:00.000", "1706659200", "1706659200000", '"${env:START}"'],
)
def test_windows_can_start_at_any_time(start: str) -> None:
    assert problems(f"param: after, until: before, field: at, window: 30d, start: {start}") == []


@pytest.mark.parametrize(
    ("since", "blamed", "message"),
    [
        ("until: b, ", "until", "`until` needs `window`; without it, a read has no upper bound"),
        ("window: 1d, ", "window", "`window` needs `until`, the parameter that carries a window's end"),
        (
            "until: b, window: 1d, ",
            "window",
            "`window` needs `start`, the start of the first window in the first run",
        ),
        (
            "until: a, window: 1d, start: 2024-01-31, ",
            "until",
            "`param` and `until` are the same; expected one parameter for each bound of a window",
        ),
        (
            "until: b, window: 30s, start: 2024-01-31, ",
            "window",
            "expected a window of at least one minute, such as 1d; each window is a separate request",
        ),
        (
            "until: b, window: 1d, start: yesterday, ",
            "start",
            "with `window`, expected `start` to be a time: 2024-01-31, 2024-01-31T00:00:00Z or Unix",
        ),
        (
            "until: b, window: 1d, start: 20240131, ",
            "start",
            "with `window`, expected `start` to be a time: 2024-01-31, 2024-01-31T00:00:00Z or Unix",
        ),
    ],
)
def test_incomplete_window_settings_are_reported_at_the_setting(since: str, blamed: str, message: str) -> None:
    since = f"param: a, field: updated, {since}"
    column = f"  since: {{{since}}}".index(f"{blamed}:") + 1
    assert problems(since) == [f"{FIRST + 5}:{column} S205 {message}"]


def test_windows_are_for_one_list() -> None:
    each = '{path: /b, as: account}\n  params: {q: "{account.id}"}'
    (problem,) = problems("param: a, until: b, field: at, window: 1d, start: 2024-01-31", f"for_each: {each}")
    assert problem.endswith("`window` is not supported with `for_each`, which reads the parents concurrently")


@pytest.mark.parametrize("by", ["page", "offset"])
def test_windows_of_numbered_pages_need_a_total_to_detect_shifts(by: str) -> None:
    since = "param: a, until: b, field: at, window: 1d, start: 2024-01-31"
    (problem,) = problems(since, f"pagination: {{by: {by}, param: p}}")
    assert "`window` needs `total` in `pagination`" in problem
    assert problems(since, f"pagination: {{by: {by}, param: p, total: total}}") == []
