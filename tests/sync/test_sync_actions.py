"""The action table: which action a write error leads to."""

from __future__ import annotations

import pytest

from speclab.connectors.api import WriteError
from speclab.core.outcome import ErrorClass
from speclab.spec.integration import ErrorAction, ErrorRule
from speclab.sync.retry_policy import ActionTable, may_be_applied


def write_error(error_class: ErrorClass, status: int | None = None, *, sent: bool = True) -> WriteError:
    return WriteError(error_class, "no", "PUT /customers/1", status=status, sent=sent)


@pytest.mark.parametrize(
    ("status", "error_class", "action"),
    [
        (400, ErrorClass.REJECTED, ErrorAction.DEAD_LETTER),
        (401, ErrorClass.UNAUTHORIZED, ErrorAction.REFRESH),
        (403, ErrorClass.UNAUTHORIZED, ErrorAction.DEAD_LETTER),
        (408, ErrorClass.TIMEOUT, ErrorAction.RETRY),
        (409, ErrorClass.CONFLICT, ErrorAction.DEAD_LETTER),
        (422, ErrorClass.REJECTED, ErrorAction.DEAD_LETTER),
        (429, ErrorClass.RATE_LIMIT, ErrorAction.WAIT),
        (500, ErrorClass.SERVER, ErrorAction.RETRY),
        (503, ErrorClass.SERVER, ErrorAction.RETRY),
        (None, ErrorClass.NETWORK, ErrorAction.RETRY),
        (None, ErrorClass.TIMEOUT, ErrorAction.RETRY),
        (None, ErrorClass.SERVER, ErrorAction.RETRY),
        (None, ErrorClass.RATE_LIMIT, ErrorAction.WAIT),
        (None, ErrorClass.UNAUTHORIZED, ErrorAction.REFRESH),
        (None, ErrorClass.REJECTED, ErrorAction.DEAD_LETTER),
        (None, ErrorClass.BAD_ANSWER, ErrorAction.DEAD_LETTER),
    ],
)
def test_defaults_decide_without_rules(status: int | None, error_class: ErrorClass, action: ErrorAction) -> None:
    assert ActionTable([], idempotent=True).get_action(write_error(error_class, status)) is action


def test_first_matching_rule_decides_before_the_defaults() -> None:
    rules = [
        ErrorRule(422, 422, None, ErrorAction.SKIP, 80),
        ErrorRule(400, 499, None, ErrorAction.STOP, 81),
        ErrorRule(None, None, ErrorClass.NETWORK, ErrorAction.DEAD_LETTER, 82),
    ]
    table = ActionTable(rules, idempotent=True)
    assert table.get_action(write_error(ErrorClass.REJECTED, 422)) is ErrorAction.SKIP
    assert table.get_action(write_error(ErrorClass.REJECTED, 404)) is ErrorAction.STOP
    assert table.get_action(write_error(ErrorClass.NETWORK)) is ErrorAction.DEAD_LETTER
    assert table.get_action(write_error(ErrorClass.SERVER, 500)) is ErrorAction.RETRY


def test_rule_for_a_status_does_not_match_an_error_without_one() -> None:
    table = ActionTable([ErrorRule(0, 999, None, ErrorAction.STOP, 80)], idempotent=True)
    assert table.get_action(write_error(ErrorClass.NETWORK)) is ErrorAction.RETRY


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (write_error(ErrorClass.TIMEOUT), True),
        (write_error(ErrorClass.NETWORK), True),
        (write_error(ErrorClass.NETWORK, sent=False), False),
        (write_error(ErrorClass.SERVER, 500), True),
        (write_error(ErrorClass.SERVER, 502), True),
        (write_error(ErrorClass.SERVER, 504), True),
        (write_error(ErrorClass.SERVER, 520), True),
        (write_error(ErrorClass.SERVER, 501), False),
        (write_error(ErrorClass.SERVER, 503), False),
        (write_error(ErrorClass.SERVER, 507), False),
        (write_error(ErrorClass.TIMEOUT, 408), False),
        (write_error(ErrorClass.BAD_ANSWER, 200), True),
        (write_error(ErrorClass.REJECTED, 422), False),
    ],
)
def test_outcome_is_unknown_if_the_target_may_have_applied_the_write(error: WriteError, *, expected: bool) -> None:
    assert may_be_applied(error) is expected
    assert ActionTable([], idempotent=False).is_outcome_unknown(error) is expected
    assert not ActionTable([], idempotent=True).is_outcome_unknown(error)
