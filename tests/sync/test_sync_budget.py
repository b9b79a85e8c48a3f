"""The retry budget: short trouble passes, a dying target does not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from speclab.sync.retry_policy import RetryBudget


def test_failures_alone_use_it_up() -> None:
    budget = RetryBudget(capacity=3)
    budget.spend(2)
    assert not budget.exhausted
    budget.spend(1)
    assert budget.exhausted


def test_successes_fill_it_up_again_but_not_over_the_brim() -> None:
    budget = RetryBudget(capacity=3, ratio=0.5)
    budget.earn(1000)
    budget.spend(3)
    assert budget.exhausted
    budget.earn(2)
    assert not budget.exhausted


@given(st.lists(st.booleans(), max_size=400))
def test_a_target_that_fails_less_than_a_third_of_the_time_is_never_given_up(order: list[bool]) -> None:
    budget = RetryBudget()
    for _ in order:
        budget.spend(1)
        budget.earn(2)
    assert not budget.exhausted


def test_a_target_is_strained_while_it_fails_whatever_it_is_sent() -> None:
    budget = RetryBudget()
    seen = []
    for spent, earned in ((9, 0), (0, 9), (0, 50), (7, 0)):
        budget.spend(spent)
        budget.earn(earned)
        seen.append(budget.strained)
    assert seen == [False, True, False, False]  # at first there is too little to say


def test_a_half_open_budget_is_soon_used_up_and_fills_like_any() -> None:
    budget = RetryBudget(half_open=True)
    budget.spend(10)
    assert (budget.exhausted, budget.strained, budget.probing) == (True, True, True)
    budget.earn(1000)
    assert not budget.probing
    budget.spend(99)
    assert not budget.exhausted
