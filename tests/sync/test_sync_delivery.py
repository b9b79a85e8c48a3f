"""Delivery: batches, holds, bisection, the budget, and the halts that leave the rest undecided."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

import pytest
from tests.clocks import HeldClock
from tests.sync.conftest import MemoryTarget, no

from speclab.connectors.api import MappedRecord, RuntimeContext, WriteResult
from speclab.core.errors import Unauthorized, Unreachable
from speclab.core.outcome import Effect, ErrorClass, Level, RunState
from speclab.spec.integration import ErrorAction, ErrorRule
from speclab.spec.settings import RetrySettings
from speclab.sync.delivery import UNDECIDED, Delivery, WaitBudget
from speclab.sync.retry_policy import ActionTable, RetryBudget


def items(count: int) -> list[MappedRecord]:
    return [MappedRecord(str(number), {"id": number}, {"id": number}, "") for number in range(count)]


@dataclass
class Way:
    """A delivery to `target` and all that can be seen of it."""

    target: MemoryTarget
    rules: Sequence[ErrorRule] = ()
    wait_budget: float = 60
    budget: RetryBudget = field(default_factory=RetryBudget)
    clock: HeldClock = field(default_factory=HeldClock)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.delivery = Delivery(
            writer=self.target,
            table=ActionTable(self.rules, idempotent=self.target.idempotent),
            retry=RetrySettings.model_validate({"attempts": 3}),
            context=RuntimeContext(self.clock, Random(0), report=self._report),
            wait_budget=WaitBudget(self.clock, self.wait_budget, self.cancelled),
            budget=self.budget,
        )

    def _report(self, level: Level, message: str) -> None:
        self.told.append(f"{level}: {message}")

    async def send(self, count: int, attempt: int = 1) -> list[WriteResult]:
        return await self.delivery.send(items(count), attempt)


def written(answers: Sequence[WriteResult]) -> list[str]:
    return [str(number) for number, answer in enumerate(answers) if answer.effect]


async def test_items_go_out_in_batches_as_big_as_the_writer_takes() -> None:
    way = Way(MemoryTarget(batch=4))
    answers = await way.send(10)
    assert [len(call) for call in way.target.calls] == [4, 4, 2]
    assert [answer.effect for answer in answers] == [Effect.CREATED] * 10
    assert way.delivery.halt is None


async def test_one_bad_record_costs_its_batch_only_a_few_requests() -> None:
    way = Way(MemoryTarget(lambda item, _: no(status=422) if item.key == "77" else None, batch=500, whole=True))
    answers = await way.send(500)
    assert len(written(answers)) == 499
    assert answers[77].error is not None
    assert len(way.target.calls) <= 1 + 18


async def test_an_answer_for_each_is_not_bisected() -> None:
    way = Way(MemoryTarget(lambda item, _: no(status=422) if item.key in "13" else None))
    answers = await way.send(4)
    assert written(answers) == ["0", "2"]
    assert len(way.target.calls) == 1


async def test_a_batch_that_may_heal_is_bisected_only_on_its_last_try() -> None:
    way = Way(MemoryTarget(lambda item, _: no(ErrorClass.SERVER, 500) if item.key == "2" else None, whole=True))
    assert written(await way.send(4, attempt=2)) == []
    assert len(way.target.calls) == 1
    assert written(await way.send(4, attempt=3)) == ["0", "1", "3"]


@pytest.mark.parametrize("error", [no(ErrorClass.TIMEOUT), no(ErrorClass.SERVER, 500), no(ErrorClass.SERVER, 502)])
async def test_a_batch_in_doubt_is_never_sent_again_to_a_target_that_is_not_idempotent(error: WriteResult) -> None:
    way = Way(MemoryTarget(lambda *_: error, whole=True, idempotent=False))
    answers = await way.send(4, attempt=3)
    assert len(way.target.calls) == 1
    assert all(answer.error for answer in answers)


async def test_a_target_that_asks_to_wait_is_waited_for_and_asked_again() -> None:
    way = Way(MemoryTarget(lambda _, nth: no(ErrorClass.RATE_LIMIT, 429, retry_after=7) if nth == 1 else None, batch=2))
    answers = await way.send(4)
    assert written(answers) == ["0", "1", "2", "3"]
    assert way.clock.naps == [7, 7]
    assert way.target.calls == [["0", "1"], ["0", "1"], ["2", "3"], ["2", "3"]]
    assert way.told[0] == "warning: the target is to be left alone: 429 rate_limit, next in 7.0 s"


async def test_only_what_was_held_is_sent_again() -> None:
    def second_is_held_twice(item: MappedRecord, nth: int) -> WriteResult | None:
        return no(ErrorClass.RATE_LIMIT, 429, retry_after=nth) if item.key == "1" and nth <= 2 else None

    way = Way(MemoryTarget(second_is_held_twice))
    assert written(await way.send(3)) == ["0", "1", "2"]
    assert way.target.calls == [["0", "1", "2"], ["1"], ["1"]]
    assert way.clock.naps == [1, 2]


async def test_a_wait_that_says_no_time_grows_with_full_jitter() -> None:
    way = Way(MemoryTarget(lambda _, nth: no(ErrorClass.RATE_LIMIT, 429) if nth <= 3 else None))
    await way.send(1)
    assert len(way.clock.naps) == 3
    assert all(nap <= 2 * 2**number for number, nap in enumerate(way.clock.naps))


async def test_a_wait_longer_than_the_run_may_take_parks_it() -> None:
    way = Way(MemoryTarget(lambda item, _: no(ErrorClass.RATE_LIMIT, 429, retry_after=900) if item.key == "3" else None,
                           batch=2))  # fmt: skip
    answers = await way.send(6)
    assert written(answers) == ["0", "1", "2"]
    assert answers[3:] == [UNDECIDED] * 3
    assert way.clock.naps == []
    assert way.delivery.halt is not None
    assert way.delivery.halt.state is RunState.PARTIAL
    assert way.delivery.halt.reason.startswith("parked: the target is to be left alone for 15m: 429 rate_limit; ")


async def test_being_asked_to_stop_ends_a_hold() -> None:
    way = Way(MemoryTarget(lambda *_: no(ErrorClass.RATE_LIMIT, 429, retry_after=5)))
    way.cancelled.set()
    assert await way.send(2) == [UNDECIDED] * 2
    assert way.delivery.halt is not None
    assert way.delivery.halt.state is RunState.CANCELLED


async def test_refused_credentials_stop_everything() -> None:
    way = Way(MemoryTarget(lambda item, _: no(ErrorClass.UNAUTHORIZED, 401) if item.key == "2" else None, batch=2))
    answers = await way.send(6)
    assert written(answers) == ["0", "1", "3"]
    assert [answer is UNDECIDED for answer in answers] == [False, False, True, False, True, True]
    assert way.delivery.halt is not None
    assert isinstance(way.delivery.halt.error, Unauthorized)
    assert await way.send(1) == [UNDECIDED]


async def test_an_error_of_the_writer_stops_everything() -> None:
    class Broken(MemoryTarget):
        async def write(self, items: Sequence[MappedRecord]) -> Sequence[WriteResult]:
            raise Unreachable(f"no route for {len(items)}")

    way = Way(Broken(batch=2))
    assert await way.send(4) == [UNDECIDED] * 4
    assert way.delivery.halt is not None
    assert way.delivery.halt.reason == "no route for 2"
    assert isinstance(way.delivery.halt.error, Unreachable)


async def test_the_spec_can_say_stop() -> None:
    rules = [ErrorRule(422, 422, None, ErrorAction.STOP, 80)]
    way = Way(MemoryTarget(lambda item, _: no(status=422) if item.key == "1" else None, batch=2), rules)
    answers = await way.send(4)
    assert written(answers) == ["0"]
    assert answers[1:] == [UNDECIDED] * 3
    assert way.delivery.halt is not None
    assert way.delivery.halt.reason == "stopped, as the spec says for: 422 rejected"


async def test_a_dying_target_is_given_up_before_it_is_stormed() -> None:
    way = Way(MemoryTarget(lambda *_: no(ErrorClass.SERVER, 503)), budget=RetryBudget(capacity=25))
    answers = await way.send(1000)
    assert len(way.target.calls) == 3
    assert sum(answer is UNDECIDED for answer in answers) == 970
    assert way.delivery.halt is not None
    assert way.delivery.halt.state is RunState.FAILED
    assert "503 server" in way.delivery.halt.reason


async def test_a_batch_that_fails_whole_is_one_failed_request() -> None:
    way = Way(
        MemoryTarget(lambda *_: no(ErrorClass.SERVER, 503), whole=True, batch=100), budget=RetryBudget(capacity=9)
    )
    await way.send(800)
    assert way.delivery.halt is None
    await way.send(100)
    assert way.delivery.halt is not None


async def test_a_target_that_ended_the_run_before_is_probed_a_record_at_a_time_until_it_takes_one() -> None:
    down = iter([no(ErrorClass.SERVER, 503)] * 3)
    way = Way(MemoryTarget(lambda *_: next(down, None)), budget=RetryBudget(half_open=True))
    answers = await way.send(25)
    assert [len(call) for call in way.target.calls] == [1, 1, 1, 1, 10, 10, 1]
    assert len(written(answers)) == 22
    assert way.delivery.halt is None


async def test_a_target_that_is_still_down_is_asked_no_more_than_shows_it() -> None:
    way = Way(MemoryTarget(lambda *_: no(ErrorClass.SERVER, 503)), budget=RetryBudget(half_open=True))
    answers = await way.send(100)
    assert len(way.target.calls) == 10
    assert answers[10:] == [UNDECIDED] * 90
    assert way.delivery.halt is not None
