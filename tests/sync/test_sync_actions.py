"""The action table: what a refusal leads to."""

from __future__ import annotations

import pytest

from speclab.connectors.base import Refusal
from speclab.outcome import ErrorClass
from speclab.spec.integration import Action, ErrorRule
from speclab.sync.actions import ActionTable, in_doubt


def refusal(error_class: ErrorClass, status: int | None = None, *, sent: bool = True) -> Refusal:
    return Refusal(error_class, "no", "PUT /customers/1", status=status, sent=sent)


@pytest.mark.parametrize(
    ("status", "error_class", "action"),
    [
        (400, ErrorClass.REJECTED, Action.DEAD_LETTER),
        (401, ErrorClass.UNAUTHORIZED, Action.REFRESH),
        (403, ErrorClass.UNAUTHORIZED, Action.DEAD_LETTER),
        (408, ErrorClass.TIMEOUT, Action.RETRY),
        (409, ErrorClass.CONFLICT, Action.DEAD_LETTER),
        (422, ErrorClass.REJECTED, Action.DEAD_LETTER),
        (429, ErrorClass.RATE_LIMIT, Action.WAIT),
        (500, ErrorClass.SERVER, Action.RETRY),
        (503, ErrorClass.SERVER, Action.RETRY),
        (None, ErrorClass.NETWORK, Action.RETRY),
        (None, ErrorClass.TIMEOUT, Action.RETRY),
        (None, ErrorClass.SERVER, Action.RETRY),
        (None, ErrorClass.RATE_LIMIT, Action.WAIT),
        (None, ErrorClass.UNAUTHORIZED, Action.REFRESH),
        (None, ErrorClass.REJECTED, Action.DEAD_LETTER),
        (None, ErrorClass.BAD_ANSWER, Action.DEAD_LETTER),
    ],
)
def test_without_rules_the_defaults_decide(status: int | None, error_class: ErrorClass, action: Action) -> None:
    assert ActionTable([], idempotent=True).action(refusal(error_class, status)) is action


def test_the_first_rule_that_matches_decides_before_the_defaults() -> None:
    rules = [
        ErrorRule(422, 422, None, Action.SKIP, 80),
        ErrorRule(400, 499, None, Action.STOP, 81),
        ErrorRule(None, None, ErrorClass.NETWORK, Action.DEAD_LETTER, 82),
    ]
    table = ActionTable(rules, idempotent=True)
    assert table.action(refusal(ErrorClass.REJECTED, 422)) is Action.SKIP
    assert table.action(refusal(ErrorClass.REJECTED, 404)) is Action.STOP
    assert table.action(refusal(ErrorClass.NETWORK)) is Action.DEAD_LETTER
    assert table.action(refusal(ErrorClass.SERVER, 500)) is Action.RETRY


def test_a_rule_about_statuses_says_nothing_about_a_refusal_without_one() -> None:
    table = ActionTable([ErrorRule(0, 999, None, Action.STOP, 80)], idempotent=True)
    assert table.action(refusal(ErrorClass.NETWORK)) is Action.RETRY


@pytest.mark.parametrize(
    ("what", "doubt"),
    [
        (refusal(ErrorClass.TIMEOUT), True),
        (refusal(ErrorClass.NETWORK), True),
        (refusal(ErrorClass.NETWORK, sent=False), False),
        (refusal(ErrorClass.SERVER, 500), True),
        (refusal(ErrorClass.SERVER, 502), True),
        (refusal(ErrorClass.SERVER, 504), True),
        (refusal(ErrorClass.SERVER, 520), True),
        (refusal(ErrorClass.SERVER, 501), False),
        (refusal(ErrorClass.SERVER, 503), False),
        (refusal(ErrorClass.SERVER, 507), False),
        (refusal(ErrorClass.TIMEOUT, 408), False),
        (refusal(ErrorClass.BAD_ANSWER, 200), True),
        (refusal(ErrorClass.REJECTED, 422), False),
    ],
)
def test_what_was_sent_and_got_no_answer_of_the_target_is_in_doubt(what: Refusal, *, doubt: bool) -> None:
    assert in_doubt(what) is doubt
    assert ActionTable([], idempotent=False).unknown(what) is doubt
    assert not ActionTable([], idempotent=True).unknown(what)
