"""Acceptance criteria: evaluated, ticked with one line of diff each, and suggested for plain words."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest
from tests.monitor.conftest import World

from speclab.monitor.checks import Checks
from speclab.monitor.criteria import CriterionState, add_expression, suggest_expression, update_ticks, verify
from speclab.runlog import ReconciliationRow
from speclab.spec.document import Document

SPEC = """\
---
spec_id: crm
type: integration
---

# Spec: CRM

## Acceptance Criteria

Both teams agree:

- [ ] Nearly all contacts arrive the same day `success_rate("24h") >= 0.9`
- [x] Few dead letters `dead_letters() < 3` (run 0a1, 2026-11-01)
- [ ] Source and target are equal `reconciled()`
- [ ] The sales team signed
* [ ] Fast, also
  on Mondays `duration_p95("7d") < duration("1m")`

## Tasks Created

- [ ] Not a criterion `dead_letters() == 0`
"""


def changed_lines(before: Document, after: Document) -> list[str]:
    diff = difflib.unified_diff(before.text.splitlines(), after.text.splitlines(), lineterm="", n=0)
    return [line for line in diff if line[:1] in "+-" and line[:3] not in ("+++", "---")]


def document(text: str = SPEC) -> Document:
    return Document.parse(text, Path("crm.md"))


def test_criteria_pass_fail_have_no_data_or_are_manual(world: World) -> None:
    world.run(written=95, dead=5, seconds=40)
    results = verify(document(), world.reader, "crm", world.now).results
    assert [(result.state.value, result.detail) for result in results] == [
        ("pass", 'success_rate("24h") is 0.95, expected >= 0.9'),
        ("fail", "dead_letters() is 5, expected < 3"),
        ("no data", "reconciled() has no value: source and target were never compared"),
        ("manual", ""),
        ("pass", 'duration_p95("7d") is 40.0 s, expected < duration("1m")'),
    ]


def test_nothing_passes_before_a_run_has_ended(world: World) -> None:
    world.start()
    states = [result.state for result in verify(document(), world.reader, "crm", world.now).results]
    assert states == ["no data", "no data", "no data", "manual", "no data"]


def test_invalid_expression_fails_with_the_reason(world: World) -> None:
    world.run(written=1)
    text = SPEC.replace("dead_letters() < 3", "dead_leters() < 3")
    result = verify(document(text), world.reader, "crm", world.now).results[1]
    assert result.state is CriterionState.FAIL
    assert "unknown function 'dead_leters'" in result.detail


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_passing_criterion_is_ticked_in_its_line_once(world: World, newline: str) -> None:
    run = world.run(written=95, dead=5).run
    before = document(SPEC.replace("\n", newline))
    after = update_ticks(before, verify(before, world.reader, "crm", world.now), tick=True, untick=False)
    stamp = f"(run {run}, 2026-11-24)"
    assert changed_lines(before, after) == [
        '-- [ ] Nearly all contacts arrive the same day `success_rate("24h") >= 0.9`',
        f'+- [x] Nearly all contacts arrive the same day `success_rate("24h") >= 0.9` {stamp}',
        "-* [ ] Fast, also",
        '-  on Mondays `duration_p95("7d") < duration("1m")`',
        "+* [x] Fast, also",
        f'+  on Mondays `duration_p95("7d") < duration("1m")` {stamp}',
    ]
    again = update_ticks(after, verify(after, world.reader, "crm", world.now), tick=True, untick=False)
    assert again.text == after.text


def test_failing_criterion_is_unticked_when_asked_and_its_stamp_is_removed(world: World) -> None:
    world.run(written=80, dead=20)
    verification = verify(document(), world.reader, "crm", world.now)
    after = update_ticks(document(), verification, tick=False, untick=True)
    assert changed_lines(document(), after) == [
        "-- [x] Few dead letters `dead_letters() < 3` (run 0a1, 2026-11-01)",
        "+- [ ] Few dead letters `dead_letters() < 3`",
    ]


def test_tick_without_data_stays(world: World) -> None:
    verification = verify(document(), world.reader, "crm", world.now)
    assert update_ticks(document(), verification, tick=True, untick=True).text == SPEC


def test_reconciled_is_the_last_comparison(world: World) -> None:
    def reconciled(call: str = "reconciled()") -> bool | None:
        return Checks(world.reader, "crm", world.now).evaluate(call).holds

    def save(differences: int, sample: int | None = None) -> None:
        at = world.now.isoformat()
        world.log.save_reconciliation(ReconciliationRow("crm", at, "abc", sample, differences, {"source": 9}), "done")

    assert reconciled() is None
    save(0, sample=5)
    assert reconciled() is None
    save(2, sample=5)
    assert reconciled() is False
    save(3)
    assert Checks(world.reader, "crm", world.now).evaluate("reconciled()").detail == (
        "reconciled() is false (3 differences)"
    )
    save(0)
    assert reconciled() is True
    world.wait(hours=25)
    assert reconciled('reconciled("1d")') is None
    assert reconciled('reconciled("2d")') is True


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("at least 99.5 % of contacts within 24 h", 'success_rate("24h") >= 0.995'),
        ("At least 99,5% of records arrive within a day", 'success_rate("24h") >= 0.995'),
        ("More than 98 percent of orders per week", 'success_rate("1w") > 0.98'),
        ("Error rate below 1 %", 'success_rate("24h") > 0.99'),
        ("No dead letters", "dead_letters() == 0"),
        ("Fewer than 10 dead letters", "dead_letters() < 10"),
        ("The retry queue is empty", "retry_depth() == 0"),
        ("No errors in 7 days", 'error_count("7d") == 0'),
        ("A run takes less than 10 minutes", 'duration_p95("7d") < duration("10m")'),
        ("Changes arrive within 15 minutes", 'lag() <= duration("15m")'),
        ("At least 10,000 records daily", 'records("24h") >= 10000'),
        ("The last successful run is at most 2 h ago", 'since_success() <= duration("2h")'),
        ("Source and target match", "reconciled()"),
        ("No missing or duplicate customers", "reconciled()"),
        ("The sales team signed", None),
        ("Criterion 1", None),
    ],
)
def test_plain_words_get_a_suggestion_that_can_be_evaluated(world: World, text: str, expression: str | None) -> None:
    assert suggest_expression(text) == expression
    if expression is not None:
        world.run(written=1)
        Checks(world.reader, "crm", world.now).evaluate(expression)


def test_suggestion_is_added_only_when_chosen(world: World) -> None:
    before = document(SPEC.replace("The sales team signed", "No dead letters"))
    result = verify(before, world.reader, "crm", world.now).results[3]
    assert (result.state, result.suggestion) == (CriterionState.MANUAL, "dead_letters() == 0")
    after = add_expression(before, result.criterion, result.suggestion or "")
    assert changed_lines(before, after) == ["-- [ ] No dead letters", "+- [ ] No dead letters `dead_letters() == 0`"]
