"""The HTTP server of `speclab up --listen`, over real connections."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
from aiohttp import web
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from tests.clocks import HeldClock

from speclab.core.clock import format_timestamp
from speclab.core.errors import SpeclabError, UsageError
from speclab.core.outcome import FailureState, RunState
from speclab.monitor.metrics import METRICS
from speclab.runlog import RunLog, RunLogReader
from speclab.service.heartbeat import Heartbeat, ServedSpec, write_heartbeat
from speclab.service.http_api import HttpApi, ListenOptions, build_ping_token, open_http_api
from speclab.service.openapi import ROUTES, build_openapi

TOKEN = "f0b1c2d3e4f5061728394a5b6c7d8e9f"
START = datetime(2026, 11, 24, 10, 42, 7, tzinfo=UTC)


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock(START)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / ".speclab").mkdir(mode=0o700)
    return tmp_path / ".speclab/runlog.db"


@pytest.fixture
async def client(tmp_path: Path, path: Path, clock: HeldClock) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the token of a server on loopback."""
    async with (
        open_http_api(ListenOptions("127.0.0.1", 0, TOKEN), tmp_path, path, clock) as url,
        httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False) as client,
    ):
        yield client


async def start(client: httpx.AsyncClient, **report: str) -> str:
    response = await client.post("/runs", json={"integration": "nightly-export"} | report)
    assert response.status_code == HTTPStatus.CREATED, response.text
    run = response.json()["run"]
    assert response.headers["Location"] == f"/runs/{run}"
    return str(run)


async def test_run_is_reported_from_its_start_to_its_end(client: httpx.AsyncClient, path: Path) -> None:
    run = await start(client, title="Nightly export", trigger="zapier")
    await client.post(f"/runs/{run}/progress", json={"read": 100, "created": 99, "message": "half"})
    failed = {"key": "c_1", "message": "no such country", "class": "rejected", "status": 422, "record": {"id": "c_1"}}
    await client.post(f"/runs/{run}/fail", json=failed)
    row = (await client.post(f"/runs/{run}/end", json={"read": 20, "unchanged": 20})).json()
    assert (row["state"], row["trigger"], row["read"], row["written"], row["dead"]) == ("partial", "zapier", 120, 99, 1)
    assert (await client.get(f"/runs/{run}")).json() == row
    with RunLogReader.open(path) as reader:
        (failure,) = reader.failures(full=True)
        assert (failure.key, failure.state, failure.source) == ("c_1", FailureState.DEAD, {"id": "c_1"})


async def test_repeated_end_has_no_effect_and_later_reports_conflict(client: httpx.AsyncClient) -> None:
    run = await start(client)
    first = await client.post(f"/runs/{run}/end", json={"written": 3})
    again = await client.post(f"/runs/{run}/end", json={"written": 3})
    assert (again.status_code, again.json()) == (HTTPStatus.OK, first.json())
    late = await client.post(f"/runs/{run}/progress", json={"written": 1})
    assert (late.status_code, late.json()["detail"]) == (HTTPStatus.CONFLICT, f"run {run} has ended: succeeded")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"integration": "a/b"}, "/integration"),
        ({"integration": "a", "colour": 1}, "/colour"),
        ({}, "/integration"),
        ([], ""),
    ],
)
async def test_invalid_values_are_refused_with_their_location(
    client: httpx.AsyncClient, body: Any, pointer: str
) -> None:
    response = await client.post("/runs", json=body)
    assert response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert response.headers["Content-Type"] == "application/problem+json"
    assert [one["pointer"] for one in response.json()["errors"]] == [pointer]


@pytest.mark.parametrize("count", [-1, 1.5, "7", True, 10**16])
async def test_counts_are_whole_numbers_in_bounds(client: httpx.AsyncClient, count: object) -> None:
    response = await client.post(f"/runs/{await start(client)}/progress", json={"written": count})
    assert response.json()["errors"][0]["pointer"] == "/written"


async def test_other_mistakes_are_answered_with_a_reason(client: httpx.AsyncClient) -> None:
    json_header = {"Content-Type": "application/json"}
    results = [
        await client.post("/runs", content=b"{", headers=json_header),
        await client.post("/runs", data={"integration": "a"}),
        await client.post("/runs", content=b"[" + b"1," * 600_000 + b"1]", headers=json_header),
        await client.post("/runs", content=b"\xff", headers=json_header),
        await client.get("/nowhere"),
        await client.delete("/runs"),
        await client.get("/runs/nowhere"),
    ]
    assert [one.status_code for one in results] == [400, 415, 413, 400, 404, 405, 404]
    for answer in results:
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["detail"]
        assert "Traceback" not in answer.text
    assert results[5].headers["Allow"] == "POST"


async def test_everything_but_health_and_the_document_needs_the_token(client: httpx.AsyncClient) -> None:
    for route in ROUTES:
        for given in ("", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x"):
            url = route.path.replace("{run}", "x").replace("{token}", "x").replace("{signal}", "start")
            response = await client.request(route.method, url, headers={"Authorization": given}, json={})
            rejected = {"bearer": 401, "url": 404}.get(route.access)
            assert rejected is None or response.status_code == rejected, route.path
            if rejected == 401:
                assert response.headers["WWW-Authenticate"] == "Bearer"
            if rejected is None:
                assert response.status_code in (200, 503)


async def test_server_without_token_refuses_web_pages_and_other_hosts(
    tmp_path: Path, path: Path, clock: HeldClock
) -> None:
    async with (
        open_http_api(ListenOptions("127.0.0.1", 0), tmp_path, path, clock) as url,
        httpx.AsyncClient(base_url=url, trust_env=False) as client,
    ):
        assert (await client.get("/ping/job")).text == "OK"
        assert (await client.get("/ping/job", headers={"Sec-Fetch-Site": "cross-site"})).status_code == 403
        assert (await client.get("/metrics", headers={"Host": "evil.example"})).status_code == 403
    with RunLogReader.open(path) as reader:
        assert len(reader.runs()) == 1


def test_listening_for_other_machines_needs_a_token() -> None:
    for address in ("0.0.0.0:9464", ":9464", "[::]:9464", "10.0.0.5:80"):
        with pytest.raises(UsageError, match="other machines would have access"):
            ListenOptions.parse(address)
        assert ListenOptions.parse(address, TOKEN).token == TOKEN
    for address in ("9464", "localhost:0", "[::1]:9464"):
        assert ListenOptions.parse(address).host in ("127.0.0.1", "::1", "localhost")
    for address in ("", "x", "127.0.0.1", "127.0.0.1:99999", "http://127.0.0.1:80", "::1:80"):
        with pytest.raises(UsageError, match="expected HOST:PORT"):
            ListenOptions.parse(address, TOKEN)
    with pytest.raises(UsageError, match="fewer than 16 characters"):
        ListenOptions.parse("127.0.0.1:9464", "secret")
    assert TOKEN not in repr(ListenOptions.parse(":1", TOKEN))


async def test_address_in_use_is_an_error_that_names_it(tmp_path: Path, path: Path, clock: HeldClock) -> None:
    async with open_http_api(ListenOptions("127.0.0.1", 0), tmp_path, path, clock) as url:
        port = int(url.rpartition(":")[2])
        with pytest.raises(SpeclabError, match=f"cannot listen on 127.0.0.1:{port}"):
            async with open_http_api(ListenOptions("127.0.0.1", port), tmp_path, path, clock):
                pass


async def ping(client: httpx.AsyncClient, signal: str = "", body: str = "") -> httpx.Response:
    url = f"/ping/{build_ping_token('backup', TOKEN)}{signal}"
    return await (client.post(url, content=body) if body else client.get(url, headers={"Authorization": ""}))


async def test_heartbeat_urls_report_runs_as_at_healthchecks_io(
    client: httpx.AsyncClient, path: Path, clock: HeldClock
) -> None:
    assert (await ping(client)).text == "OK"  # a success without a start
    await ping(client, "/start")
    clock.time += timedelta(seconds=90)
    await ping(client, "/log", "halfway")
    await ping(client, body="copied 7 files\n\ndone\n")
    await ping(client, "/fail", "no space left")
    await ping(client, "/3")
    await ping(client, "/start")
    await ping(client, "/start")
    await ping(client, "/0")
    with RunLogReader.open(path) as reader:
        runs = reader.runs()[::-1]
        assert [(run.state, run.error) for run in runs] == [
            (RunState.SUCCEEDED, None),
            (RunState.SUCCEEDED, None),
            (RunState.FAILED, "fail was reported: no space left"),
            (RunState.FAILED, "exit code 3"),
            (RunState.INTERRUPTED, "another start was reported before the end"),
            (RunState.SUCCEEDED, None),
        ]
        assert (runs[1].started_at, runs[1].ended_at) == ("2026-11-24T10:42:07.000Z", "2026-11-24T10:43:37.000Z")
        lines = [event.message for event in reader.events(run=runs[1].run) if event.kind == "log"]
        assert lines == ["halfway", "copied 7 files", "done"]


async def test_ping_keeps_the_last_lines_of_a_long_body(client: httpx.AsyncClient, path: Path) -> None:
    assert (await ping(client, "/fail", "".join(f"line {n}\n" for n in range(9000)))).status_code == 200
    with RunLogReader.open(path) as reader:
        assert len([event for event in reader.events() if event.kind == "log"]) == 20


@pytest.mark.parametrize("signal", ["/stop", "/256", "/-1", "/start/more"])
async def test_unknown_signals_are_not_found(client: httpx.AsyncClient, signal: str) -> None:
    assert (await ping(client, signal)).status_code == 404


async def test_heartbeat_url_is_valid_for_its_integration_only(client: httpx.AsyncClient) -> None:
    signature = build_ping_token("backup", TOKEN).rpartition(".")[2]
    for token in (f"other.{signature}", "backup", "backup.", f"backup.{signature[:-1]}", signature, "%ff"):
        assert (await client.get(f"/ping/{token}")).status_code == 404


async def test_readiness_follows_the_heartbeat_of_the_scheduler(
    client: httpx.AsyncClient, tmp_path: Path, clock: HeldClock
) -> None:
    assert (await client.get("/healthz")).json()["status"] == "ok"
    assert (await client.get("/readyz")).json()["detail"] == "the scheduler has not started"
    beat = Heartbeat.start(clock.time)
    write_heartbeat(tmp_path, beat)
    assert (await client.get("/readyz")).status_code == 200
    clock.time += timedelta(minutes=1)
    assert "the last heartbeat of the scheduler was at" in (await client.get("/readyz")).json()["detail"]
    write_heartbeat(tmp_path, replace(beat, beat=format_timestamp(clock.time), stopping=format_timestamp(clock.time)))
    assert (await client.get("/readyz")).json()["detail"] == "the scheduler is stopping"


async def test_metrics_are_scraped_and_parsed_in_both_formats(
    client: httpx.AsyncClient, tmp_path: Path, clock: HeldClock
) -> None:
    run = await start(client)
    clock.time += timedelta(seconds=42)
    await client.post(f"/runs/{run}/end", json={"read": 120, "written": 118, "unchanged": 2, "bytes_in": 900})
    due = format_timestamp(clock.time - timedelta(seconds=30))
    write_heartbeat(tmp_path, replace(Heartbeat.start(clock.time), specs={"nightly-export": ServedSpec("", due, due)}))
    plain = await client.get("/metrics")
    assert plain.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name: family for family in text_string_to_metric_families(plain.text)}
    values = {(s.name, tuple(s.labels.values())): s.value for family in families.values() for s in family.samples}
    name = "nightly-export"
    assert values["speclab_records_read_total", (name,)] == 120
    assert values["speclab_records_total", (name, "written")] == 118
    assert values["speclab_received_bytes_total", (name,)] == 900
    assert values["speclab_runs_total", (name, "succeeded")] == 1
    assert values["speclab_run_duration_seconds_bucket", (name, "15.0")] == 0
    assert values["speclab_run_duration_seconds_bucket", (name, "60.0")] == 1
    assert values["speclab_run_duration_seconds_sum", (name,)] == 42
    assert values["speclab_lateness_seconds", (name,)] == 30
    assert values["speclab_heartbeat_timestamp_seconds", ()] == clock.time.timestamp()
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    opened = await client.get("/metrics", headers={"Accept": accept})
    assert opened.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    parsed = {family.name: family for family in parse_openmetrics(opened.text)}  # type: ignore[no-untyped-call]  # the parser has no types
    assert parsed.keys() == METRICS.keys()
    for described in METRICS.values():
        family = parsed[described.name]
        assert (family.type, family.unit, family.documentation) == (described.type, described.unit, described.help)
        assert {tuple(sorted(s.labels.keys() - {"le"})) for s in family.samples} <= {tuple(sorted(described.labels))}
    assert (await client.get("/metrics", headers={"Accept": "text/plain;version=x"})).status_code == 200


async def test_openapi_document_matches_the_routes(
    client: httpx.AsyncClient, tmp_path: Path, path: Path, clock: HeldClock
) -> None:
    document = (await client.get("/openapi.json", headers={"Authorization": ""})).json()
    assert document == build_openapi()
    assert document["openapi"] == "3.1.0"
    api = HttpApi(ListenOptions("127.0.0.1", 0, TOKEN), tmp_path, path, clock)
    served = {(route.method, route.resource.canonical) for route in routes(api.build_application())}
    api.close()
    described = {(method.upper(), url) for url, item in document["paths"].items() for method in item}
    assert described == {(method, url) for method, url in served if method != "HEAD"}
    names = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(set(names)) == len(names)
    for schema in document["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema | {"$schema": "https://json-schema.org/draft/2020-12/schema"})
    references = set(re.findall(r'"#/components/schemas/(\w+)"', (await client.get("/openapi.json")).text))
    assert references <= document["components"]["schemas"].keys()


def routes(app: web.Application) -> list[Any]:
    return list(app.router.routes())


async def test_responses_match_the_openapi_document(client: httpx.AsyncClient) -> None:
    document = build_openapi()

    def check(response: httpx.Response, url: str) -> None:
        operation = document["paths"][url][response.request.method.lower()]
        (content,) = operation["responses"][str(response.status_code)]["content"].items()
        assert response.headers["Content-Type"].partition(";")[0] == content[0]
        schema = content[1]["schema"] | {"components": document["components"]}
        jsonschema_rs.Draft202012Validator(schema).validate(response.json())

    run = await start(client)
    check(await client.post("/runs", json={"integration": "a"}), "/runs")
    check(await client.post("/runs", json={"integration": ""}), "/runs")
    check(await client.post("/runs", content=b"x"), "/runs")
    check(await client.get(f"/runs/{run}"), "/runs/{run}")
    check(await client.get("/runs/x"), "/runs/{run}")
    check(await client.post(f"/runs/{run}/end", json={"read": 3}), "/runs/{run}/end")
    check(await client.post(f"/runs/{run}/end", json={}), "/runs/{run}/end")
    check(await client.get("/readyz"), "/readyz")
    check(await client.get("/metrics", headers={"Authorization": ""}), "/metrics")


def replace_run_log(path: Path) -> None:
    path.unlink()
    RunLog.open(path).close()


async def test_replaced_run_log_is_reported_as_unavailable(client: httpx.AsyncClient, path: Path) -> None:
    replace_run_log(path)
    response = await client.post("/runs", json={"integration": "a"})
    assert response.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert "runlog.db" in response.json()["detail"]
