"""The setting `missing`: where it is allowed, and targets that cannot delete."""

from __future__ import annotations

import pytest
from tests.spec.test_settings_models import FIRST, problems_of, render

from speclab.connectors.file.settings import FileSystem
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.sql.settings import SqlSystem
from speclab.spec.document import Document
from speclab.spec.parser import read_integration

SPEC = """\
---
spec_id: people
type: integration
status: draft
---

# Spec: People

## Integration Overview

### Source System

```yaml
{source}
```

### Target System

```yaml
{target}
```

## Field Mapping

| Source Field | Target Field | Transformation | Notes |
|--------------|--------------|----------------|-------|
| source.id | target.id | Direct | |
"""
SQL = "connector: sql\nurl: sqlite:///a.db\nkey: id\nread: {table: people, missing: delete}"
FILE = "connector: file\npath: in.jsonl\nkey: id\nmissing: delete"


@pytest.mark.parametrize("source", [SQL, FILE])
@pytest.mark.parametrize(
    ("target", "why"),
    [
        (
            "connector: http\nbase_url: https://x\nkey: id\nwrite: {create: POST /people}",
            "the target has no `write.delete`",
        ),
        (
            "connector: sql\nurl: sqlite:///b.db\nkey: id\nwrite: {insert: people}",
            "inserted rows cannot be deleted; use `upsert`",
        ),
        (
            "connector: file\npath: out.jsonl\nkey: id\nmode: append",
            "records of a file in mode append cannot be deleted; use mode upsert",
        ),
        (
            "connector: file\npath: out.jsonl\nkey: id\nmode: replace",
            "a file in mode replace only has the records of the run, so there are none to delete",
        ),
    ],
)
def test_target_that_cannot_delete_is_reported_at_the_setting(source: str, target: str, why: str) -> None:
    text = SPEC.format(source=source, target=target)
    _, problems = read_integration(Document.parse(text))
    line = next(number for number, line in enumerate(text.splitlines(), 1) if "missing: delete" in line)
    (problem,) = [problem for problem in problems if problem.code == "S210"]
    assert (problem.line, problem.message) == (line, f"`missing: delete`: {why}")


@pytest.mark.parametrize("source", [SQL, FILE, SQL.replace("missing: delete", "missing: keep")])
def test_target_that_can_delete_has_no_problem(source: str) -> None:
    target = "connector: sql\nurl: sqlite:///b.db\nkey: id\nwrite: {upsert: people}"
    _, problems = read_integration(Document.parse(SPEC.format(source=source, target=target)))
    assert [problem for problem in problems if "missing" in problem.message and problem.code.startswith("S")] == []


def test_missing_has_no_effect_at_a_target() -> None:
    target = FILE.replace("in.jsonl", "out.jsonl")
    _, problems = read_integration(Document.parse(SPEC.format(source=SQL, target=target)))
    assert [problem.message for problem in problems if problem.code == "S208"] == [
        "`missing` has no effect at the target"
    ]


@pytest.mark.parametrize("by", ["page", "offset"])
def test_numbered_pages_need_a_total_to_detect_skipped_records(by: str) -> None:
    yaml = (
        "connector: http\nbase_url: https://x\nkey: id\nread:\n  path: /a\n  missing: delete\n"
        f"  pagination: {{by: {by}, param: p%s}}\n"
    )
    (problem,) = render(problems_of(HttpSystem, yaml % ""))
    assert problem.startswith(f"{FIRST + 5}:3 S205 a record deleted during the read shifts the later ones")
    assert render(problems_of(HttpSystem, yaml % ", total: meta.total")) == []


def test_delete_paths_are_the_placeholders_of_the_requests_or_the_key() -> None:
    http = HttpSystem.model_validate(
        {
            "connector": "http",
            "base_url": "https://x",
            "key": ["region", "id"],
            "write": {
                "upsert": "PUT /{region}/{name}",
                "lookup": "GET /people?email={address.email}",
                "delete": "DELETE /{source.account.id}/{found.id}",
                "headers": {"If-Match": "{lookup.etag}", "X-Tenant": "{tenant}"},
            },
        }
    )
    assert sorted(map(str, http.get_delete_paths())) == ["address.email", "source.account.id", "tenant"]
    sql = SqlSystem.model_validate({"connector": "sql", "url": "sqlite://", "key": ["odd.name", "id"]})
    assert [path.parts for path in sql.get_delete_paths()] == [("odd.name",), ("id",)]
    file = FileSystem.model_validate({"connector": "file", "path": "a.jsonl", "key": "person.id"})
    assert [path.parts for path in file.get_delete_paths()] == [("person", "id")]
