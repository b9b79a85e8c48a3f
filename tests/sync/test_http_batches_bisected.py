"""Bisection of a batch that a target rejects as a whole, over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest
from aiohttp import web
from tests.clocks import HeldClock

from speclab.connectors.api import MappedRecord, RuntimeContext, WriteResult
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.registry import open_writer
from speclab.connectors.secrets.references import References
from speclab.core.json import Json
from speclab.core.outcome import Effect, ErrorClass
from speclab.spec.auth import NoAuth
from speclab.spec.settings import RetrySettings
from speclab.sync.delivery import Delivery, WaitBudget
from speclab.sync.retry_policy import ActionTable, RetryBudget

POISON = {"3", "11"}


class AllOrNothing:
    """A target that accepts a batch as a whole or not at all, and no batch larger than `most`."""

    def __init__(self, most: int = 1000) -> None:
        self.rows: list[str] = []
        self.batches: list[int] = []
        self.most = most
        self.down = 0
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        batch = [row["id"] for row in (await request.json())["data"]]
        self.batches.append(len(batch))
        if self.down:
            self.down -= 1
            return web.Response(status=503)
        if len(batch) > self.most:
            return web.Response(status=413)
        if set(batch) & POISON:
            return web.json_response({"message": "a record of this batch is not valid"}, status=422)
        self.rows += batch
        return web.Response(status=200)


@pytest.fixture
async def target() -> AsyncIterator[AllOrNothing]:
    made = AllOrNothing()
    app = web.Application()
    app.router.add_post("/batch", made.take)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    made.url = f"http://{host}:{port}"
    yield made
    await runner.cleanup()


async def send(target: AllOrNothing, directory: Path, *, attempt: int = 1) -> list[WriteResult]:
    """Send sixteen records to `target`, in one batch at first."""
    write: Json = {"batch": "POST /batch", "size": 16, "envelope": "data"}
    system = HttpSystem.model_validate({"connector": "http", "base_url": target.url, "key": "id", "write": write})
    clock = HeldClock()
    context, retry = RuntimeContext(clock, Random(0)), RetrySettings.model_validate({"attempts": 3})
    writer = open_writer(system, NoAuth(), References({}, directory), context, retry)
    delivery = Delivery(
        writer=writer,
        actions=ActionTable((), idempotent=writer.idempotent),
        retry=retry,
        context=context,
        wait_budget=WaitBudget(clock, 60, asyncio.Event()),
        budget=RetryBudget(),
    )
    delivered = await delivery.send([MappedRecord(str(n), {"id": str(n)}, {"id": n}, "") for n in range(16)], attempt)
    await writer.close()
    return list(delivered.results)


async def test_rejected_records_are_isolated_and_all_others_written_once(target: AllOrNothing, tmp_path: Path) -> None:
    write_results = await send(target, tmp_path)
    assert sorted(target.rows, key=int) == [str(n) for n in range(16) if str(n) not in POISON]
    rejected = {str(n): answer.error for n, answer in enumerate(write_results) if answer.error}
    assert rejected.keys() == POISON
    assert {write_error.error_class for write_error in rejected.values()} == {ErrorClass.REJECTED}
    assert all(write_error.request.endswith(f'{{"data":[{{"id":"{key}"}}]}}') for key, write_error in rejected.items())
    assert target.batches[0] == 16
    assert len(target.batches) <= 1 + 2 * 2 * 4


async def test_batch_that_is_too_large_is_sent_in_parts(target: AllOrNothing, tmp_path: Path) -> None:
    target.most = 4
    good = [answer for n, answer in enumerate(await send(target, tmp_path)) if str(n) not in POISON]
    assert {result.effect for result in good} == {Effect.WRITTEN}
    assert len(target.rows) == len(set(target.rows)) == 14


async def test_unavailable_target_gets_no_halves(target: AllOrNothing, tmp_path: Path) -> None:
    target.down = 1
    write_results = await send(target, tmp_path)
    assert target.batches == [16]
    assert {result.error.error_class for result in write_results if result.error} == {ErrorClass.SERVER}
    assert len(write_results) == 16
