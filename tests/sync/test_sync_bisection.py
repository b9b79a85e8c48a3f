"""Bisection: the bad records of a rejected batch are isolated, and the others are written."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speclab.connectors.api import MappedRecord, WriteError, WriteResult
from speclab.core.outcome import Effect, ErrorClass
from speclab.sync.delivery import bisect, find_shared_error

GOOD = WriteResult(effect=Effect.WRITTEN)


def items(count: int) -> list[MappedRecord]:
    return [MappedRecord(str(number), {"id": number}, {"id": number}, "") for number in range(count)]


class PickyTarget:
    """A target that accepts a batch as a whole or not at all."""

    def __init__(self, poison: set[str]) -> None:
        self.poison = poison
        self.taken: list[str] = []
        self.sends = 0

    async def send(self, batch: Sequence[MappedRecord]) -> list[WriteResult]:
        self.sends += 1
        bad = [item.key for item in batch if item.key in self.poison]
        if bad:
            write_error = WriteError(ErrorClass.REJECTED, f"bad: {', '.join(bad)}", "POST /batch", status=422)
            return [WriteResult(error=write_error)] * len(batch)
        self.taken += [item.key for item in batch]
        return [GOOD] * len(batch)


def always(write_error: WriteError) -> bool:
    return write_error.error_class is ErrorClass.REJECTED


@given(st.integers(2, 40).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), min_size=1))))
async def test_all_records_except_the_bad_ones_are_accepted_once(case: tuple[int, set[int]]) -> None:
    count, bad = case
    target = PickyTarget({str(number) for number in bad})
    results = await bisect(target.send, items(count), always)
    assert sorted(target.taken, key=int) == [str(n) for n in range(count) if n not in bad]
    for number, answer in enumerate(results):
        assert (answer.error is not None) == (number in bad)
        if answer.error:
            assert answer.error.message == f"bad: {number}"


@pytest.mark.parametrize("position", [0, 1, 249, 250, 498, 499])
async def test_one_bad_record_of_500_costs_at_most_18_requests(position: int) -> None:
    target = PickyTarget({str(position)})
    await bisect(target.send, items(500), always)
    assert target.sends <= 2 * ceil(log2(500))
    assert len(target.taken) == 499


async def test_part_that_fails_for_another_reason_is_not_split() -> None:
    async def send(batch: Sequence[MappedRecord]) -> list[WriteResult]:
        write_error = WriteError(ErrorClass.SERVER, "down", "POST /batch", status=503)
        return [WriteResult(error=write_error)] * len(batch)

    results = await bisect(send, items(8), lambda write_error: write_error.error_class is not ErrorClass.SERVER)
    assert [result.error.status if result.error else None for result in results] == [503] * 8


def test_shared_error_needs_a_single_rejection() -> None:
    one = WriteError(ErrorClass.REJECTED, "no", "POST /batch")
    same = WriteError(ErrorClass.REJECTED, "no", "POST /batch")
    assert find_shared_error([WriteResult(error=one)] * 3) is one
    assert find_shared_error([WriteResult(error=one), WriteResult(error=same)]) is None
    assert find_shared_error([WriteResult(error=one)]) is None
    assert find_shared_error([WriteResult(error=one), GOOD]) is None
