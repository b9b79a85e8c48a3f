"""The retry budget: short outages are survived, a failing target is not retried forever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from speclab.sync.retry_policy import RetryBudget


def test_failures_use_up_the_budget() -> None:
    budget = RetryBudget(capacity=3)
    budget.spend(2)
    assert not budget.exhausted
    budget.spend(1)
    assert budget.exhausted


def test_successes_refill_the_budget_up_to_its_limit() -> None:
    budget = RetryBudget(capacity=3, ratio=0.5)
    budget.earn(1000)
    budget.spend(3)
    assert budget.exhausted
    budget.earn(2)
    assert not budget.exhausted


@given(st.lists(st.booleans(), max_size=400))
def test_target_that_fails_less_than_a_third_of_the_time_never_exhausts_the_budget(order: list[bool]) -> None:
    budget = RetryBudget()
    for _ in order:
        budget.spend(1)
        budget.earn(2)
    assert not budget.exhausted


def test_target_is_strained_while_it_fails_regardless_of_the_batch() -> None:
    budget = RetryBudget()
    seen = []
    for spent, earned in ((9, 0), (0, 9), (0, 50), (7, 0)):
        budget.spend(spent)
        budget.earn(earned)
        seen.append(budget.strained)
    assert seen == [False, True, False, False]  # too few requests to decide at first


def test_half_open_budget_is_used_up_quickly_and_refills_like_any() -> None:
    budget = RetryBudget(half_open=True)
    budget.spend(10)
    assert (budget.exhausted, budget.strained, budget.probing) == (True, True, True)
    budget.earn(1000)
    assert not budget.probing
    budget.spend(99)
    assert not budget.exhausted
