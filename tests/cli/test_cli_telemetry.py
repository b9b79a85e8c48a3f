"""Traces and metrics of a run, received by a collector over OTLP."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from tests.cli.conftest import Api, Shell

SECRET = "s3cr3t-of-the-source"
AUTH = "type: bearer\ntoken: ${env:API_TOKEN}"


class Collector:
    """An OTLP collector on loopback."""

    def __init__(self) -> None:
        self.url = ""
        self.bodies: list[bytes] = []
        self.spans: list[Span] = []
        self.resources: list[dict[str, object]] = []
        self.metrics: dict[str, list[dict[str, object]]] = {}

    def receive(self, path: str, body: bytes) -> None:
        self.bodies.append(body)
        if path == "/v1/traces":
            for traced in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resources.append(read(traced.resource.attributes))
                self.spans += [span for scope in traced.scope_spans for span in scope.spans]
        elif path == "/v1/metrics":
            for measured in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for metric in [one for scope in measured.scope_metrics for one in scope.metrics]:
                    points = metric.sum.data_points if metric.HasField("sum") else metric.histogram.data_points
                    values = [
                        read(point.attributes) | {"value": getattr(point, "as_int", None) or getattr(point, "count", 0)}
                        for point in points
                    ]
                    self.metrics.setdefault(metric.name, []).extend(values)


def read(attributes: Iterable[KeyValue]) -> dict[str, object]:
    return {one.key: getattr(one.value, str(one.value.WhichOneof("value"))) for one in attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.receive(self.path, body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


def run(shell: Shell, api: Api, endpoint: str, exit_code: int = 0) -> str:
    shell.spec(api.source(), auth=AUTH)
    shell.env.update(API_TOKEN=SECRET, SPECLAB_TRUST="all", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, NO_PROXY="*")
    return shell("run", "people", exit_code=exit_code).stderr


def test_a_collector_receives_run_page_and_request_and_no_secret(shell: Shell, api: Api, collector: Collector) -> None:
    run(shell, api, collector.url)
    by_name = {span.name: span for span in collector.spans}
    assert by_name.keys() == {"run people", "page", "GET"}
    whole, page, request = by_name["run people"], by_name["page"], by_name["GET"]
    assert not whole.parent_span_id
    assert {page.parent_span_id, request.parent_span_id} == {whole.span_id}
    assert {span.trace_id for span in collector.spans} == {whole.trace_id}
    attributes = read(whole.attributes)
    (row,) = shell.rows("runs")
    assert attributes["speclab.run"] == row["run"]
    assert (attributes["speclab.state"], attributes["speclab.records.written"]) == ("succeeded", 1)
    assert read(request.attributes)["http.response.status_code"] == 200
    assert read(request.attributes)["url.full"] == f"{api.url}/people"
    assert collector.resources[0]["service.name"] == "speclab"
    assert {one["speclab.outcome"]: one["value"] for one in collector.metrics["speclab.records"]}["written"] == 1
    (duration,) = collector.metrics["speclab.run.duration"]
    assert (duration["speclab.state"], duration["value"]) == ("succeeded", 1)
    assert collector.metrics["http.client.request.duration"][0]["http.request.method"] == "GET"
    assert not [body for body in collector.bodies if SECRET.encode() in body]


def test_a_failed_request_and_its_run_have_the_status_error(shell: Shell, api: Api, collector: Collector) -> None:
    api.status = 404
    run(shell, api, collector.url, exit_code=1)
    failed = {span.name for span in collector.spans if span.status.code == Status.STATUS_CODE_ERROR}
    assert failed == {"run people", "GET"}


def test_a_collector_that_is_down_neither_fails_nor_delays_a_run_by_much(shell: Shell, api: Api) -> None:
    began = time.monotonic()
    told = run(shell, api, "http://127.0.0.1:9")
    assert time.monotonic() - began < 20
    assert "warning: telemetry: " in told
    assert "Traceback" not in told
    assert shell.rows("runs")[0]["state"] == "succeeded"


def test_an_unsupported_protocol_is_a_warning(shell: Shell, api: Api, collector: Collector) -> None:
    shell.env["OTEL_EXPORTER_OTLP_PROTOCOL"] = "grpc"
    assert "OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' is not supported" in run(shell, api, collector.url)
    assert collector.bodies == []
