"""A success status with a failure in the body: each known format, with its documented example."""

from __future__ import annotations

import json

import pytest
from aiohttp import web
from tests.connectors.conftest import Reports, Serve, item

from speclab.connectors.api import RuntimeContext, WriteResult
from speclab.connectors.http.response import find_message
from speclab.connectors.http.response_check import find_failure_sign, is_suspicious
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.registry import open_writer
from speclab.connectors.secrets.references import References
from speclab.core.json import Json
from speclab.core.outcome import Effect, ErrorClass
from speclab.spec.auth import NoAuth

FAILURES: list[tuple[str, Json, str | None]] = [
    ("Slack", {"ok": False, "error": "invalid_auth"}, "invalid_auth"),
    ("Telegram", {"ok": False, "error_code": 400, "description": "Bad Request: chat not found"}, "Bad Request"),
    ("capitals", {"Success": False, "Message": "no such plan"}, "no such plan"),
    ("text flag", {"success": "false", "message": "no such plan"}, "no such plan"),
    ("isSuccess", {"isSuccess": False, "errorMessage": "no such plan"}, "no such plan"),
    ("JSON-RPC", {"jsonrpc": "2.0", "error": {"code": -32602, "message": "Invalid params"}, "id": 1}, "Invalid params"),
    ("GraphQL", {"data": None, "errors": [{"message": "Name is required"}]}, "Name is required"),
    (
        "Shopify",
        {"data": {"productCreate": {"product": None, "userErrors": [{"field": ["title"], "message": "is blank"}]}}},
        None,
    ),
    ("GraphQL result", {"data": {"issueCreate": {"success": False}}}, None),
    ("WeChat", {"errcode": 40013, "errmsg": "invalid appid"}, "invalid appid"),
    ("text code", {"errorCode": "INVALID_FIELD", "message": "no such plan"}, "no such plan"),
    ("code and msg", {"code": 99991663, "msg": "app token invalid"}, "app token invalid"),
    ("code as text", {"code": "40001", "message": "not permitted"}, "not permitted"),
    ("word code", {"code": "INVALID_DATA", "message": "no such plan", "status": "error"}, "no such plan"),
    ("Apigee", {"fault": {"faultstring": "Invalid ApiKey", "detail": {"errorcode": "oauth.v2"}}}, "Invalid ApiKey"),
    (
        "QuickBooks",
        {"Fault": {"Error": [{"Message": "Required param missing"}], "type": "ValidationFault"}},
        "Required",
    ),
    ("Google Maps", {"error_message": "key is invalid", "status": "REQUEST_DENIED", "results": []}, "key is invalid"),
    ("Google Maps status", {"status": "OVER_QUERY_LIMIT"}, None),
    ("JSend", {"status": "fail", "data": {"title": "A title is required"}}, None),
    ("result", {"result": "error", "msg": "no such plan"}, "no such plan"),
    ("gateway", {"statusCode": 500, "message": "Internal"}, "Internal"),
    ("Instagram", {"meta": {"code": 400, "error_message": "no such plan"}}, None),
    ("CoinMarketCap", {"status": {"error_code": 1001, "error_message": "key is invalid"}, "data": {}}, None),
    ("Solr", {"responseHeader": {"status": 400, "QTime": 1}}, None),
    ("Elasticsearch bulk", {"took": 30, "errors": True, "items": [{"index": {"status": 400}}]}, None),
    ("Kinesis", {"FailedRecordCount": 1, "Records": []}, None),
    ("Mailchimp", {"new_members": [], "error_count": 2}, None),
    ("DynamoDB", {"UnprocessedItems": {"customers": [{}]}}, None),
    ("BigQuery", {"kind": "x", "insertErrors": [{"index": 0}]}, None),
    ("Google Ads", {"results": [], "partialFailureError": {"code": 3, "message": "x"}}, None),
]
SUCCESSES: list[tuple[str, Json]] = [
    ("WeChat", {"errcode": 0, "errmsg": "ok"}),
    ("zero code", {"code": 0, "msg": "success"}),
    ("code 1", {"code": 1, "msg": "Success."}),
    ("code 200", {"code": 200, "message": "Contact saved"}),
    ("code of a record", {"id": 7, "code": "P-100", "name": "Chair", "message": "hello"}),
    ("code alone", {"id": 7, "code": 4711}),
    ("Google Maps", {"status": "OK", "results": []}),
    ("state", {"id": 7, "status": "active", "result": "created"}),
    ("Elasticsearch", {"_id": "1", "result": "updated", "_shards": {"total": 2, "successful": 1, "failed": 0}}),
    ("bulk", {"took": 30, "errors": False, "items": [{"index": {"status": 201}}]}),
    ("Shopify", {"data": {"productCreate": {"product": {"id": 1}, "userErrors": []}}}),
    ("JSON-RPC", {"jsonrpc": "2.0", "result": {"id": 1}, "error": None, "id": 1}),
    ("no error", {"error": "none", "errorMessage": "", "error_count": 0, "failures": []}),
    ("Solr", {"responseHeader": {"status": 0, "QTime": 1}}),
    ("echo", {"data": {"id": 7, "errors": [], "success": True}}),
    ("list", [{"id": 1}]),
]


@pytest.mark.parametrize(("body", "output"), [case[1:] for case in FAILURES], ids=[case[0] for case in FAILURES])
def test_failure_in_a_body_is_recognized(body: Json, output: str | None) -> None:
    assert find_failure_sign(body, write=True) is not None
    assert is_suspicious(json.dumps(body).encode())
    if output is not None:
        assert output in (find_message(body) or "")


@pytest.mark.parametrize("body", [case[1] for case in SUCCESSES], ids=[case[0] for case in SUCCESSES])
def test_body_of_a_success_has_no_failure_sign(body: Json) -> None:
    assert find_failure_sign(body, write=True) is None


def test_returned_fields_of_the_record_are_not_failure_signs() -> None:
    body: Json = {"id": 7, "status": "failed", "error": "broken pipe", "result": {"status": "error"}}
    assert find_failure_sign(body, {"status", "error", "result"}) is None
    assert find_failure_sign(body, {"status", "result"}) is not None


def test_failure_counts_in_a_list_do_not_fail_the_read() -> None:
    body: Json = {"data": [], "failed": 3, "failures": [{"id": 1}]}
    assert find_failure_sign(body) is None
    assert find_failure_sign(body, write=True) is not None


BULK: Json = {
    "took": 30,
    "errors": True,
    "items": [
        {"index": {"_index": "test", "_id": "1", "status": 201, "result": "created"}},
        {
            "index": {
                "_index": "test",
                "_id": "2",
                "status": 400,
                "error": {"type": "document_parsing_exception", "reason": "failed to parse field [age] of type [long]"},
            }
        },
    ],
}


async def bulk(
    serve: Serve, references: References, context: RuntimeContext, body: Json, **write: Json
) -> list[WriteResult]:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response(body)

    settings = {
        "connector": "http",
        "base_url": await serve(answer),
        "key": "id",
        "write": {"batch": "POST /b", **write},
    }
    writer = open_writer(HttpSystem.model_validate(settings), NoAuth(), references, context)
    responses = list(await writer.write([item("1"), item("2")]))
    await writer.close()
    return responses


async def test_nested_statuses_of_a_bulk_response_decide_for_each_record(
    serve: Serve, references: References, context: RuntimeContext
) -> None:
    first, second = await bulk(serve, references, context, BULK, results="items[*]")
    assert first.effect is Effect.CREATED
    assert second.error is not None
    assert (second.error.status, second.error.error_class) == (400, ErrorClass.REJECTED)
    assert "failed to parse field [age]" in second.error.message


@pytest.mark.parametrize("body", [BULK, {"FailedRecordCount": 1}, {"errors": [{"message": "one of them"}]}])
async def test_partially_failed_batch_without_results_has_unknown_outcomes(
    body: Json, serve: Serve, references: References, context: RuntimeContext
) -> None:
    for answer in await bulk(serve, references, context, body):
        assert answer.error is not None
        assert answer.error.error_class is ErrorClass.BAD_ANSWER
        assert "set `results` to the list of results" in answer.error.message


@pytest.mark.parametrize(
    ("body", "requested"),
    [
        ({"ack": 7, "queue": "contacts"}, True),
        ({"ack": 7, "status": "queued"}, False),
        ({"id": "1", "ack": 7}, False),
        ({"name": "Ada"}, False),
        ({}, False),
        (None, False),
    ],
)
async def test_unknown_response_shape_is_reported_once(
    body: Json, *, requested: bool, serve: Serve, references: References, context: RuntimeContext, reports: Reports
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response(body)

    for ok in ({}, {"ok": "true"}):
        write: dict[str, Json] = {"upsert": "PUT /c/{id}", **ok}
        settings = {"connector": "http", "base_url": await serve(answer), "key": "id", "write": write}
        writer = open_writer(HttpSystem.model_validate(settings), NoAuth(), references, context)
        for one in await writer.write([item("1", name="Ada"), item("2", name="Bo")]):
            assert one.effect is Effect.UPDATED
        await writer.close()
    assert len(reports.lines) == int(requested)
    if requested:
        assert reports.lines[0].startswith("warning: PUT ")
        assert (
            "the response has `ack`, `queue`, and nothing in it says whether the record was written" in reports.lines[0]
        )
