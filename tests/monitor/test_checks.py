"""Checks: the functions of acceptance criteria and alerts over the run log, and their results."""

from __future__ import annotations

import pytest
from tests.monitor.conftest import World

from speclab.core.outcome import ErrorClass, FailureState
from speclab.mapping.cel import EvaluationError
from speclab.mapping.cel.functions import ExpressionSyntaxError
from speclab.monitor.checks import CheckResult, Checks
from speclab.spec.rules import RUN_LOG_FUNCTIONS


@pytest.fixture
def checks(world: World) -> Checks:
    """A busy day: two successful runs, a failed one, and an hour without runs."""
    world.run(written=95, dead=4, waiting=1, seconds=40)
    world.wait(minutes=30)
    world.run(written=100, seconds=20)
    world.wait(minutes=30)
    run = world.start()
    world.page(run, waiting=2, error_class=ErrorClass.TIMEOUT)
    world.log.finish_run(run, "the target is gone")
    world.wait(hours=1)
    return Checks(world.reader, "crm", world.now)


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ('success_rate("24h") >= 0.96', True),
        ('success_rate("24h") >= 0.97', False),
        ('success_rate("90m") == 0', True),
        ('error_count("24h") == 8', True),
        ('error_count("24h", "timeout") == 2', True),
        ('error_count("24h", "server") == 5', True),
        ('error_count("24h", "conflict") > 0', False),
        ('records("24h") == 202', True),
        ('records("30m") == 0', True),
        ('bytes("24h") == 20200', True),
        ('bytes ("24h") / 1000 > 20', True),
        ('duration_p95("24h") == 40', True),
        ('duration_p95("100m") < 20.5', True),
        ("retry_depth() == 3", True),
        ("dead_letters() == 4 && retry_depth() < 10", True),
        ("since_success() == 5400.0", True),
        ("lag() > since_success()", True),
        ('since_success() == duration("1h30m")', True),
    ],
)
def test_check_is_true_or_false_for_the_run_log(checks: Checks, expression: str, holds: bool) -> None:  # noqa: FBT001
    assert checks.evaluate(expression).holds is holds


def test_result_has_the_figures_in_its_detail(checks: Checks) -> None:
    verdict = checks.evaluate('success_rate("24h") >= 0.995 || records("7d") > 1000')
    assert verdict == CheckResult(holds=False, detail='success_rate("24h") is 0.9653, records("7d") is 202')
    assert checks.evaluate("retry_depth() == 3").detail == "retry_depth() is 3"


@pytest.mark.parametrize(
    ("expression", "detail"),
    [
        ("since_success() > 60.0", "since_success() is 5,400.0 s"),
        ('duration_p95("24h") > 5.0', 'duration_p95("24h") is 40.0 s'),
        ('bytes("24h") > 5', 'bytes("24h") is 20,200 B'),
        ("lag() > 60.0", "lag() is 7,260.0 s"),
    ],
)
def test_detail_has_the_unit_of_seconds_and_bytes(checks: Checks, expression: str, detail: str) -> None:
    assert checks.evaluate(expression).detail == detail


def test_expression_without_data_is_neither_true_nor_false(checks: Checks) -> None:
    nothing = 'success_rate("10m") has no value: nothing was read'
    assert checks.evaluate('success_rate("10m") >= 0.995') == CheckResult(holds=None, detail=nothing)
    assert checks.evaluate('!(success_rate("10m") >= 0.995)') == CheckResult(holds=None, detail=nothing)
    no_run = 'duration_p95("10m") has no value: no run went through to the end'
    assert checks.evaluate('duration_p95("10m") > 5.0').detail == no_run
    both = checks.evaluate('dead_letters() > 3 || success_rate("10m") < 0.9')
    assert both.holds is True


def test_lag_is_the_age_of_the_oldest_change_that_may_be_missing(world: World) -> None:
    world.log.register("crm", title="", path="", status="", schedule="")
    world.wait(minutes=5)
    assert Checks(world.reader, "crm", world.now).lag() == 300
    run = world.start()
    world.page(run, waiting=1)
    world.wait(minutes=1)
    world.log.finish_run(run)
    assert Checks(world.reader, "crm", world.now).lag() == 60  # since the start of that run
    world.wait(minutes=1)
    world.run(written=1, seconds=0)
    assert Checks(world.reader, "crm", world.now).lag() == 120  # since the waiting record failed first
    world.log.discard([row.id for row in world.reader.failures(state=FailureState.WAITING)], "test")
    assert Checks(world.reader, "crm", world.now).lag() == 0


def test_integration_that_never_ran_has_no_data(world: World) -> None:
    checks = Checks(world.reader, "crm", world.now)
    assert checks.evaluate("since_success() < 60.0") == CheckResult(
        None, "since_success() has no value: it has never run"
    )
    assert checks.evaluate('success_rate("24h") >= 0.995').holds is None
    assert checks.evaluate("dead_letters() == 0").holds is True


@pytest.mark.parametrize(
    ("expression", "error", "message"),
    [
        ('succes_rate("24h") > 0.9', ExpressionSyntaxError, "unknown function 'succes_rate'"),
        ('success_rate("24h") >', ExpressionSyntaxError, "ends too early"),
        ('success_rate("a day") > 0.9', EvaluationError, "expected a duration such as 30s, 5m or 24h, got 'a day'"),
        (
            'error_count("1h", "http") > 5',
            EvaluationError,
            "unknown error class 'http'; expected one of mapping, contract",
        ),
        ('records("24h")', EvaluationError, "expected true or false, not 202"),
    ],
)
def test_invalid_expression_is_an_error(checks: Checks, expression: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        checks.evaluate(expression)


def test_every_documented_function_is_available(checks: Checks) -> None:
    calls = [
        f'{name}("24h")' if name in ("success_rate", "error_count", "records", "bytes", "duration_p95") else f"{name}()"
        for name in RUN_LOG_FUNCTIONS
        if name not in ("reconciled", "failing")
    ]
    verdict = checks.evaluate(" && ".join([*(f"{call} >= 0" for call in calls), "failing()"]))
    assert verdict.holds is True
    assert all(f"{call} is " in verdict.detail for call in calls)
