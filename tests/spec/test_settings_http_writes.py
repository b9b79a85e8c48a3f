"""HTTP write settings: contradicting settings are reported at the one at fault."""

from __future__ import annotations

import pytest

from speclab.connectors.http.settings import HttpSystem
from speclab.spec.document import Document
from speclab.spec.problems import ProblemCollector
from speclab.spec.settings_block import read_block, to_model

LINE = 6
"""The line of `write` in these tests."""


def reported(write: str) -> list[str]:
    """Return the problems of `write` as `line:column message`."""
    yaml = f"connector: http\nbase_url: https://x.example\nkey: id\nwrite: {write}\n"
    document = Document.parse(f"## Section\n```yaml\n{yaml}```\n")
    findings = ProblemCollector("spec.md", document.text, document.position)
    tree = read_block(document.sections[0], findings)
    assert tree is not None
    to_model(tree, HttpSystem, findings)
    return [f"{problem.line}:{problem.column} {problem.message}" for problem in findings.in_order()]


@pytest.mark.parametrize(
    "write",
    [
        '{upsert: PUT /a, lookup: GET /a, headers: {If-Match: "{lookup.etag}"}}',
        '{create: POST /a, lookup: GET /a, headers: {X: "{lookup.header.Last-Modified}, {found.rev}", Y: "${env:T}"}}',
        '{upsert: "PUT /a/{id}", headers: {X-Tenant: "{source.tenant}", X-Id: "{id}"}}',
        '{batch: POST /a, headers: {If-None-Match: "*", X-Token: "${env:TOKEN}"}}',
        '{upsert: PUT /a, exists: [412], headers: {If-None-Match: "*"}}',
        "{upsert: PUT /a, body: {data: $record}}",
        "{upsert: PUT /a, body: {data: {type: person, attributes: $record}, meta: [1, null]}}",
        '{upsert: PUT /a, lookup: GET /a, delete: "DELETE /a/{found.id}"}',
        '{batch: POST /a, results: "[*]", status: item.code}',
        '{batch: POST /a, results: "data.rows[*]"}',
    ],
)
def test_compatible_limits_are_accepted(write: str) -> None:
    assert reported(write) == []


@pytest.mark.parametrize(
    ("write", "column", "message"),
    [
        (
            '{upsert: PUT /a, headers: {If-Match: "{lookup.etag}"}}',
            35,
            "{lookup.etag} needs a `lookup`",
        ),
        (
            '{upsert: PUT /a, headers: {If-Match: "{found.rev}"}}',
            35,
            "{found.rev} needs a `lookup`",
        ),
        (
            '{batch: POST /a, lookup: GET /a, headers: {If-Match: "{lookup.etag}"}}',
            51,
            "{lookup.etag}: a batch has no single record for placeholders",
        ),
        ('{batch: POST /a, headers: {X: "{id}"}}', 35, "{id}: a batch has no single record for placeholders"),
        ('{batch: "POST /a/{id}"}', 9, "{id}: a batch has no single record for placeholders"),
        (
            '{upsert: PUT /a, lookup: GET /a, headers: {If-Match: "{lookup.tag}"}}',
            51,
            "{lookup.tag}: expected {lookup.etag} or {lookup.header.NAME}",
        ),
        (
            '{upsert: PUT /a, lookup: GET /a, exists: [412], headers: {If-Match: "{lookup.etag}"}}',
            41,
            "with {lookup.etag}, 412 means that the record has changed, not that it exists",
        ),
        ('{upsert: PUT /a, headers: {X: "{id"}}', 39, "unbalanced {"),
        (
            '{upsert: "PUT /a/{found.id}", lookup: GET /a}',
            9,
            "`found` is only available in `update`, `headers`, and a `delete` with a `lookup`",
        ),
        (
            """{upsert: PUT /a, delete: 'DELETE /a/{found["odd id"]}'}""",
            25,
            "`found` is only available in `update`, `headers`, and a `delete` with a `lookup`",
        ),
        (
            '{upsert: PUT /a, delete: "DELETE /a/{found.id}"}',
            25,
            "`found` is only available in `update`, `headers`, and a `delete` with a `lookup`",
        ),
        (
            "{batch: POST /a, body: {data: $record}}",
            25,
            "`body` is for single records; use `envelope` and `item` for a batch",
        ),
        (
            "{upsert: PUT /a, envelope: data, body: {data: $record}}",
            25,
            "expected one of `envelope` and `body`, not both",
        ),
        ("{batch: POST /a, status: item.code}", 25, "`status` needs `results`"),
        ('{batch: POST /a, results: "rows[x]"}', 39, "'rows[x]' is not a valid path: unexpected '['"),
        (
            "{upsert: PUT /a, body: {data: record}}",
            25,
            "this body is the same for every record; write $record where the record belongs",
        ),
    ],
)
def test_incompatible_limits_are_reported_at_the_setting_at_fault(write: str, column: int, message: str) -> None:
    assert reported(write) == [f"{LINE}:{column} {message}"]
