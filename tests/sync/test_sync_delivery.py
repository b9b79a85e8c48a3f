"""Delivery: batches, holds, bisection, the retry budget, and halts that leave the rest undecided."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

import pytest
from tests.clocks import HeldClock
from tests.sync.conftest import MemoryTarget, error_result

from speclab.connectors.api import MappedRecord, RuntimeContext, WriteResult
from speclab.core.errors import Unauthorized, Unreachable
from speclab.core.outcome import Effect, ErrorClass, Level, RunState
from speclab.spec.integration import ErrorAction, ErrorRule
from speclab.spec.settings import RetrySettings
from speclab.sync.delivery import UNDECIDED, Delivery, Halt, WaitBudget
from speclab.sync.retry_policy import ActionTable, RetryBudget


def items(count: int) -> list[MappedRecord]:
    return [MappedRecord(str(number), {"id": number}, {"id": number}, "") for number in range(count)]


@dataclass
class Rig:
    """A delivery to `target` that keeps its messages and the halt of the last call."""

    target: MemoryTarget
    rules: Sequence[ErrorRule] = ()
    wait_budget: float = 60
    budget: RetryBudget = field(default_factory=RetryBudget)
    clock: HeldClock = field(default_factory=HeldClock)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    reported: list[str] = field(default_factory=list)
    halt: Halt | None = None

    def __post_init__(self) -> None:
        self.delivery = Delivery(
            writer=self.target,
            actions=ActionTable(self.rules, idempotent=self.target.idempotent),
            retry=RetrySettings.model_validate({"attempts": 3}),
            context=RuntimeContext(self.clock, Random(0), report=self._report),
            wait_budget=WaitBudget(self.clock, self.wait_budget, self.cancelled),
            budget=self.budget,
        )

    def _report(self, level: Level, message: str) -> None:
        self.reported.append(f"{level}: {message}")

    async def send(self, count: int, attempt: int = 1) -> list[WriteResult]:
        delivered = await self.delivery.send(items(count), attempt)
        self.halt = delivered.halt
        return list(delivered.results)


def written(write_results: Sequence[WriteResult]) -> list[str]:
    return [str(number) for number, answer in enumerate(write_results) if answer.effect]


async def test_items_are_sent_in_batches_of_the_size_of_the_writer() -> None:
    rig = Rig(MemoryTarget(batch=4))
    write_results = await rig.send(10)
    assert [len(call) for call in rig.target.calls] == [4, 4, 2]
    assert [result.effect for result in write_results] == [Effect.CREATED] * 10
    assert rig.halt is None


async def test_one_bad_record_costs_its_batch_few_requests() -> None:
    rig = Rig(
        MemoryTarget(lambda item, _: error_result(status=422) if item.key == "77" else None, batch=500, whole=True)
    )
    write_results = await rig.send(500)
    assert len(written(write_results)) == 499
    assert write_results[77].error is not None
    assert len(rig.target.calls) <= 1 + 18


async def test_batch_with_a_result_per_record_is_not_bisected() -> None:
    rig = Rig(MemoryTarget(lambda item, _: error_result(status=422) if item.key in "13" else None))
    write_results = await rig.send(4)
    assert written(write_results) == ["0", "2"]
    assert len(rig.target.calls) == 1


async def test_batch_with_a_transient_error_is_bisected_only_at_the_last_attempt() -> None:
    rig = Rig(
        MemoryTarget(lambda item, _: error_result(ErrorClass.SERVER, 500) if item.key == "2" else None, whole=True)
    )
    assert written(await rig.send(4, attempt=2)) == []
    assert len(rig.target.calls) == 1
    assert written(await rig.send(4, attempt=3)) == ["0", "1", "3"]


@pytest.mark.parametrize(
    "error",
    [error_result(ErrorClass.TIMEOUT), error_result(ErrorClass.SERVER, 500), error_result(ErrorClass.SERVER, 502)],
)
async def test_batch_with_unknown_outcome_is_never_sent_again_to_a_target_that_is_not_idempotent(
    error: WriteResult,
) -> None:
    rig = Rig(MemoryTarget(lambda *_: error, whole=True, idempotent=False))
    write_results = await rig.send(4, attempt=3)
    assert len(rig.target.calls) == 1
    assert all(result.error for result in write_results)


async def test_target_that_requests_a_wait_is_called_again_after_it() -> None:
    rig = Rig(
        MemoryTarget(
            lambda _, nth: error_result(ErrorClass.RATE_LIMIT, 429, retry_after=7) if nth == 1 else None, batch=2
        )
    )
    write_results = await rig.send(4)
    assert written(write_results) == ["0", "1", "2", "3"]
    assert rig.clock.naps == [7, 7]
    assert rig.target.calls == [["0", "1"], ["0", "1"], ["2", "3"], ["2", "3"]]
    assert rig.reported[0] == "warning: the target is rate-limiting (429 rate_limit); retrying in 7.0 s"


async def test_only_held_records_are_sent_again() -> None:
    def second_is_held_twice(item: MappedRecord, nth: int) -> WriteResult | None:
        return error_result(ErrorClass.RATE_LIMIT, 429, retry_after=nth) if item.key == "1" and nth <= 2 else None

    rig = Rig(MemoryTarget(second_is_held_twice))
    assert written(await rig.send(3)) == ["0", "1", "2"]
    assert rig.target.calls == [["0", "1", "2"], ["1"], ["1"]]
    assert rig.clock.naps == [1, 2]


async def test_wait_without_a_time_grows_with_full_jitter() -> None:
    rig = Rig(MemoryTarget(lambda _, nth: error_result(ErrorClass.RATE_LIMIT, 429) if nth <= 3 else None))
    await rig.send(1)
    assert len(rig.clock.naps) == 3
    assert all(nap <= 2 * 2**number for number, nap in enumerate(rig.clock.naps))


async def test_wait_longer_than_the_wait_budget_parks_the_run() -> None:
    too_long = error_result(ErrorClass.RATE_LIMIT, 429, retry_after=900)
    rig = Rig(MemoryTarget(lambda item, _: too_long if item.key == "3" else None, batch=2))
    write_results = await rig.send(6)
    assert written(write_results) == ["0", "1", "2"]
    assert write_results[3:] == [UNDECIDED] * 3
    assert rig.clock.naps == []
    assert rig.halt is not None
    assert rig.halt.state is RunState.PARTIAL
    assert rig.halt.reason.startswith("parked: the target asks to wait 15m: 429 rate_limit; ")


async def test_stop_request_ends_a_hold() -> None:
    rig = Rig(MemoryTarget(lambda *_: error_result(ErrorClass.RATE_LIMIT, 429, retry_after=5)))
    rig.cancelled.set()
    assert await rig.send(2) == [UNDECIDED] * 2
    assert rig.halt is not None
    assert rig.halt.state is RunState.CANCELLED


async def test_rejected_credentials_stop_everything() -> None:
    rig = Rig(
        MemoryTarget(lambda item, _: error_result(ErrorClass.UNAUTHORIZED, 401) if item.key == "2" else None, batch=2)
    )
    write_results = await rig.send(6)
    assert written(write_results) == ["0", "1", "3"]
    assert [result is UNDECIDED for result in write_results] == [False, False, True, False, True, True]
    assert rig.halt is not None
    assert isinstance(rig.halt.error, Unauthorized)
    assert rig.target.calls == [["0", "1"], ["2", "3"]]


async def test_error_of_the_writer_stops_everything() -> None:
    class Broken(MemoryTarget):
        async def write(self, items: Sequence[MappedRecord]) -> Sequence[WriteResult]:
            raise Unreachable(f"no route for {len(items)}")

    rig = Rig(Broken(batch=2))
    assert await rig.send(4) == [UNDECIDED] * 4
    assert rig.halt is not None
    assert rig.halt.reason == "no route for 2"
    assert isinstance(rig.halt.error, Unreachable)


async def test_spec_can_request_a_stop() -> None:
    rules = [ErrorRule(422, 422, None, ErrorAction.STOP, 80)]
    rig = Rig(MemoryTarget(lambda item, _: error_result(status=422) if item.key == "1" else None, batch=2), rules)
    write_results = await rig.send(4)
    assert written(write_results) == ["0"]
    assert write_results[1:] == [UNDECIDED] * 3
    assert rig.halt is not None
    assert rig.halt.reason == "stopped, as Error Types of the spec says for: 422 rejected"


async def test_failing_target_is_given_up_before_it_is_overloaded() -> None:
    rig = Rig(MemoryTarget(lambda *_: error_result(ErrorClass.SERVER, 503)), budget=RetryBudget(capacity=25))
    write_results = await rig.send(1000)
    assert len(rig.target.calls) == 3
    assert sum(result is UNDECIDED for result in write_results) == 970
    assert rig.halt is not None
    assert rig.halt.state is RunState.FAILED
    assert "503 server" in rig.halt.reason


async def test_batch_that_fails_as_a_whole_is_one_failed_request() -> None:
    rig = Rig(
        MemoryTarget(lambda *_: error_result(ErrorClass.SERVER, 503), whole=True, batch=100),
        budget=RetryBudget(capacity=9),
    )
    await rig.send(800)
    assert rig.halt is None
    await rig.send(100)
    assert rig.halt is not None


async def test_target_that_ended_the_last_run_is_probed_one_record_at_a_time_until_one_succeeds() -> None:
    down = iter([error_result(ErrorClass.SERVER, 503)] * 3)
    rig = Rig(MemoryTarget(lambda *_: next(down, None)), budget=RetryBudget(half_open=True))
    write_results = await rig.send(25)
    assert [len(call) for call in rig.target.calls] == [1, 1, 1, 1, 10, 10, 1]
    assert len(written(write_results)) == 22
    assert rig.halt is None


async def test_target_that_is_still_down_gets_few_requests() -> None:
    rig = Rig(MemoryTarget(lambda *_: error_result(ErrorClass.SERVER, 503)), budget=RetryBudget(half_open=True))
    write_results = await rig.send(100)
    assert len(rig.target.calls) == 10
    assert write_results[10:] == [UNDECIDED] * 90
    assert rig.halt is not None
