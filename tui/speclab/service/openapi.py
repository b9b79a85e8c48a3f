"""The routes of the HTTP server, and the OpenAPI 3.1 document that describes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, get_type_hints

from pydantic.json_schema import models_json_schema

from speclab import __version__
from speclab.core.outcome import RunState
from speclab.runlog import RunRow
from speclab.runlog.reports import FailureReported, ProgressReported, Report, RunEndReported, RunStarted
from speclab.runlog.rows import INTERNAL

JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"
MAX_PING: Final = 100_000
"""Bytes of the body of a ping that are read, as at Healthchecks.io."""


@dataclass(frozen=True, slots=True)
class ApiRoute:
    """A route: one source for the server and for the OpenAPI document.

    `operation` is the method of `HttpApi` that handles it.
    `access` is `open`, `bearer` (the token) or `url` (a signed URL). `returns` is the media type of a success.
    """

    method: str
    path: str
    summary: str
    operation: str
    access: str = "bearer"
    body: type[Report] | None = None
    success: HTTPStatus = HTTPStatus.OK
    returns: str = JSON
    errors: tuple[HTTPStatus, ...] = ()


_REPORT_ERRORS: Final = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
_RUN_ERRORS: Final = (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, *_REPORT_ERRORS)
_PING_ERRORS: Final = (HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE)
ROUTES: Final = (
    ApiRoute("GET", "/metrics", "Metrics for Prometheus", "get_metrics", returns="text/plain"),
    ApiRoute("GET", "/healthz", "Whether the process runs", "get_health", "open"),
    ApiRoute(
        "GET", "/readyz", "Whether the scheduler works", "get_readiness", "open",
        errors=(HTTPStatus.SERVICE_UNAVAILABLE,),
    ),
    ApiRoute("GET", "/openapi.json", "This document", "get_openapi", "open"),
    ApiRoute(
        "POST", "/runs", "Start a run", "start_run", body=RunStarted, success=HTTPStatus.CREATED,
        errors=(HTTPStatus.CONFLICT, *_REPORT_ERRORS),
    ),
    ApiRoute("GET", "/runs/{run}", "Get a reported run", "get_run", errors=(HTTPStatus.NOT_FOUND,)),
    ApiRoute(
        "POST", "/runs/{run}/progress", "Add counts to a run", "add_progress", body=ProgressReported,
        errors=_RUN_ERRORS,
    ),
    ApiRoute(
        "POST", "/runs/{run}/fail", "Add a dead letter to a run", "add_failure", body=FailureReported,
        errors=_RUN_ERRORS,
    ),
    ApiRoute(
        "POST", "/runs/{run}/end", "End a run", "end_run", body=RunEndReported, errors=_RUN_ERRORS
    ),
    *(
        ApiRoute(
            method, f"/ping/{{token}}{path}", summary, "ping", "url", returns="text/plain", errors=_PING_ERRORS
        )
        for path, summary in (
            ("", "Report that a run succeeded"),
            ("/{signal}", "Report `start`, `fail`, `log` or the exit code of a run"),
        )
        for method in ("GET", "POST")
    ),
)  # fmt: skip
"""All routes. A GET route also answers HEAD."""


def build_openapi() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the routes."""
    bodies = sorted({route.body for route in ROUTES if route.body is not None}, key=lambda body: body.__name__)
    reference = "#/components/schemas/{model}"
    _, schemas = models_json_schema([(body, "validation") for body in bodies], ref_template=reference)
    definitions = schemas["$defs"] | {"Run": _build_run_schema(), "Problem": _PROBLEM_SCHEMA}
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _build_operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "speclab", "version": __version__, "summary": "Metrics, health and runs from elsewhere"},
        "paths": paths,
        "components": {
            "schemas": definitions,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


_PROBLEM_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["title", "status", "detail"],
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "hint": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "detail"],
                "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}
_ANY_OBJECT: Final[dict[str, Any]] = {"type": "object"}


def _build_run_schema() -> dict[str, Any]:
    """Return the schema of a run, with the fields that `run_json` returns."""
    types: dict[object, dict[str, Any]] = {
        str: {"type": "string"},
        str | None: {"type": ["string", "null"]},
        int: {"type": "integer"},
        RunState: {"enum": [state.value for state in RunState]},
    }
    hints = get_type_hints(RunRow)
    properties = {name: types.get(hints[name], {}) for name in RunRow.__slots__ if name not in INTERNAL}
    return {"type": "object", "required": list(properties), "properties": properties}


def _build_operation(route: ApiRoute) -> dict[str, Any]:
    if route.returns != JSON:
        schema: dict[str, Any] = {"type": "string"}
    elif route.path.startswith("/runs"):
        schema = {"$ref": "#/components/schemas/Run"}
    else:
        schema = _ANY_OBJECT
    responses: dict[str, Any] = {
        str(route.success.value): {"description": route.success.phrase, "content": {route.returns: {"schema": schema}}}
    }
    for status in (
        *route.errors,
        *([HTTPStatus.UNAUTHORIZED] if route.access == "bearer" else []),
        HTTPStatus.FORBIDDEN,
    ):
        problem = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        responses[str(status.value)] = {"description": status.phrase, "content": problem}
    name = route.operation + ("_post" if route.access == "url" and route.method == "POST" else "")
    if "{signal}" in route.path:
        name += "_signal"
    operation: dict[str, Any] = {"operationId": name, "summary": route.summary, "responses": responses}
    if names := re.findall(r"{(\w+)}", route.path):
        operation["parameters"] = [
            {"name": one, "in": "path", "required": True, "schema": {"type": "string"}} for one in names
        ]
    if route.access == "bearer":
        operation["security"] = [{"bearer": []}]
    if route.body is not None:
        content = {JSON: {"schema": {"$ref": f"#/components/schemas/{route.body.__name__}"}}}
        operation["requestBody"] = {"required": True, "content": content}
    elif route.access == "url" and route.method == "POST":
        operation["requestBody"] = {"content": {"text/plain": {"schema": {"type": "string", "maxLength": MAX_PING}}}}
    return operation
