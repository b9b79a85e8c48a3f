"""Parsing a document into an Integration, or reporting its problems."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from speclab.connectors.file.settings import FileSystem
from speclab.connectors.http.settings import HttpSystem
from speclab.core.outcome import Level
from speclab.spec.auth import BearerAuth, NoAuth
from speclab.spec.document import Document
from speclab.spec.guide import TEMPLATE
from speclab.spec.integration import Alert, ErrorAction, ErrorRule, Schedule
from speclab.spec.parser import read_integration
from speclab.spec.problems import Problem

SPEC = """\
---
spec_id: crm-to-billing
type: integration
status: in-progress
owner: Ada            # keys of one's own are kept
---

# Spec: CRM to Billing

## Problem Statement

Sales keeps customers in the CRM, finance bills from the billing system.

## Integration Overview

### Source System

Acme CRM, API v3.

```yaml
connector: http
base_url: ${env:CRM_URL}
key: id
read: {path: /v3/contacts, records: data}
```

### Target System

```yaml
connector: http
base_url: ${env:BILLING_URL}
key: external_id
write: {upsert: "PUT /customers/{external_id}", idempotency: Idempotency-Key}
```

### Integration Type
Batch sync

## Data Flow

### Direction
One-way (Source → Target)

### Frequency
Every 15 minutes

### Volume
```yaml
records: 1200
```

## Field Mapping

| Source Field | Target Field | Transformation | Notes |
|--------------|--------------|----------------|-------|
| source.id | target.external_id | Direct | |
| source.email | target.email | Trim, Lowercase | invoices go here |

```yaml
filter: source.test != true
```

## Authentication

### Source System Auth
```yaml
type: bearer
token: ${env:CRM_TOKEN}
```

### Target System Auth
```yaml
type: none
```

## Error Handling & Retry Strategy

### Error Types
| Error | Action |
|-------|--------|
| 422 | dead letter |

### Retry Logic
```yaml
attempts: 3
```

## Monitoring & Alerting

### Alerts
| Alert | When | For | Notify |
|-------|------|-----|--------|
| Many fail | success_rate("1h") < 0.9 | 15m | |

### Logging
```yaml
retention: 7d
```
"""


NEEDED = "a run needs a block ```yaml with `connector: http`, sql, file, singer or external, and its settings"


def line_of(text: str, spec: str = SPEC) -> int:
    return spec[: spec.index(text)].count("\n") + 1


def read(spec: str) -> list[Problem]:
    integration, problems = read_integration(Document.parse(spec))
    assert (integration is None) == any(problem.level is Level.ERROR for problem in problems)
    return problems


def render(problems: list[Problem]) -> list[str]:
    return [f"{problem.line}:{problem.column} {problem.code} {problem.message}" for problem in problems]


def test_complete_spec_is_an_integration() -> None:
    path = Path("specs/crm-to-billing.md")
    integration, problems = read_integration(Document.parse(SPEC, path))
    assert problems == []
    assert integration is not None
    assert (integration.spec_id, integration.title, integration.status, integration.path) == (
        "crm-to-billing",
        "CRM to Billing",
        "in-progress",
        path,
    )
    assert integration.hash == hashlib.sha256(SPEC.encode()).hexdigest()
    assert isinstance(integration.source, HttpSystem)
    assert integration.source_auth == BearerAuth(type="bearer", token="${env:CRM_TOKEN}")
    assert integration.target_auth == NoAuth(type="none")
    assert [(row.sources, row.target, row.line) for row in integration.rows] == [
        (("id",), "external_id", line_of("| source.id")),
        (("email",), "email", line_of("| source.email")),
    ]
    assert integration.mapping.filter == "source.test != true"
    assert integration.error_rules == (ErrorRule(422, 422, None, ErrorAction.DEAD_LETTER, line_of("| 422")),)
    assert integration.schedule == Schedule("every", "Every 15 minutes", every=900.0)
    assert integration.alerts == (Alert("Many fail", 'success_rate("1h") < 0.9', 900.0, "", line_of("| Many fail")),)
    assert (integration.retry.attempts, integration.logging.retention, integration.volume.records) == (
        3,
        604800.0,
        1200,
    )
    assert (integration.source_line, integration.target_line, integration.mapping_line) == (
        line_of("### Source System"),
        line_of("### Target System"),
        line_of("## Field Mapping"),
    )
    with pytest.raises(FrozenInstanceError):
        integration.spec_id = "other"  # type: ignore[misc]


def test_file_of_a_problem_is_the_documents_path() -> None:
    _, problems = read_integration(Document.parse(SPEC.replace("attempts: 3", "attempts: 0"), Path("specs/a.md")))
    assert [str(problem) for problem in problems] == [
        f"specs/a.md:{line_of('attempts: 3')}:11: S203 `attempts`: expected at least 1, got '0'"
    ]


def test_untouched_template_says_which_sections_must_be_filled() -> None:
    problems = read(TEMPLATE)
    line = {title: line_of(f"### {title}\n", TEMPLATE) for title in ("Source System", "Target System")}
    line |= {title: line_of(f"### {title}\n", TEMPLATE) for title in ("Source System Auth", "Target System Auth")}
    assert [(problem.line, problem.code) for problem in problems] == [
        (2, "F102"),
        (line["Source System"], "D102"),
        (line["Target System"], "D102"),
        (line_of("## Field Mapping", TEMPLATE), "D201"),
        (line["Source System Auth"], "D102"),
        (line["Target System Auth"], "D102"),
    ]
    assert {problem.level for problem in problems} == {Level.ERROR}
    assert problems[1].message.startswith("'Source System' is empty; a run needs a block ```yaml")


def test_optional_sections_have_defaults() -> None:
    head, _, rest = SPEC.partition("## Error Handling")
    spec = head.replace("### Frequency\nEvery 15 minutes\n", "").replace("```yaml\nrecords: 1200\n```\n", "")
    integration, problems = read_integration(Document.parse(spec))
    assert rest
    assert problems == []
    assert integration is not None
    assert integration.schedule == Schedule("on_demand", "")
    assert (integration.retry.attempts, integration.error_rules, integration.alerts) == (5, (), ())


def test_missing_section_is_reported_at_the_section_around_it() -> None:
    spec = SPEC.replace("### Target System\n", "### The Other System\n")
    assert render(read(spec)) == [
        f"{line_of('## Integration Overview')}:1 D101 the section 'Target System' is missing; {NEEDED}"
    ]
    assert (
        render(read(SPEC.replace("## Field Mapping", "## The Mapping")))[0]
        == "1:1 D101 the section 'Field Mapping' is missing; a run needs its table, with one row per target field"
    )


def test_headings_may_differ_in_case_spacing_markup_and_position() -> None:
    spec = SPEC.replace("### Source System\n", "###  *source*  system\n").replace("## Data Flow\n\n", "")
    assert read(spec) == []


def test_prose_without_a_settings_block_is_reported_with_a_suggested_fence() -> None:
    spec = SPEC.replace("Acme CRM, API v3.\n\n```yaml", "Acme CRM, API v3.\n\n```")
    at, hint = line_of("connector: http") - 1, "if it is this one, write ```yaml"
    assert render(read(spec)) == [f"{at}:1 D104 'Source System' has no settings block; {NEEDED}; {hint}"]
    spec = SPEC.replace("```yaml\ntype: bearer\ntoken: ${env:CRM_TOKEN}\n```", "OAuth 2.0, ask the platform team.")
    assert [(problem.line, problem.code) for problem in read(spec)] == [(line_of("### Source System Auth"), "D104")]


def test_repeated_section_is_reported_at_the_second() -> None:
    spec = SPEC + "\n### Logging\n```yaml\nretention: 9d\n```\n"
    assert render(read(spec)) == [
        f"{spec.count(chr(10)) - 3}:1 D103 'Logging' is on line {line_of('### Logging')} too; keep one of the two"
    ]
    assert read(SPEC + "\n### Logging\n<!-- to be written -->\n") == []


@pytest.mark.parametrize(
    "other", ["## Field Mapping\n\n<!-- the table is below -->\n\n", "## Plan\n\n### Field Mapping\n\nLater.\n\n"]
)
def test_rows_are_read_from_the_effective_field_mapping(other: str) -> None:
    spec = SPEC.replace("## Field Mapping\n", f"{other}## Field Mapping\n", 1)
    integration, problems = read_integration(Document.parse(spec))
    assert problems == []
    assert integration is not None
    assert [row.target for row in integration.rows] == ["external_id", "email"]


def test_two_field_mappings_are_reported_once() -> None:
    spec = f"{SPEC}\n## Field Mapping\n\nSee above.\n"
    assert [problem.code for problem in read(spec)] == ["D103"]


def test_source_needs_read_and_target_needs_write() -> None:
    spec = SPEC.replace("read: {path: /v3/contacts, records: data}", "write: {create: POST /a}")
    line = line_of("connector: http")
    assert render(read(spec)) == [
        f"{line}:1 S207 `read` is missing; a source needs it",
        f"{line + 3}:1 S208 `write` has no effect at the source",
    ]


def test_only_an_http_system_requires_auth() -> None:
    auth = "### Target System Auth\n```yaml\ntype: none\n```\n"
    target = SPEC[
        SPEC.index("connector: http\nbase_url: ${env:BILLING_URL}") : SPEC.index("```\n\n### Integration Type")
    ]
    assert [problem.code for problem in read(SPEC.replace(auth, "### Target System Auth\n"))] == ["D102"]
    spec = SPEC.replace(target, "connector: file\npath: out.jsonl\nkey: external_id\n").replace(auth, "")
    integration, problems = read_integration(Document.parse(spec))
    assert problems == []
    assert integration is not None
    assert isinstance(integration.target, FileSystem)
    assert integration.target_auth == NoAuth()


def test_bidirectional_spec_is_not_run() -> None:
    spec = SPEC.replace("One-way (Source → Target)", "Bidirectional")
    reported = "Bidirectional is not supported yet: this version of speclab only writes from the source to the target"
    assert render(read(spec)) == [f"{line_of('One-way')}:1 C102 {reported}"]


def test_secrets_and_references_are_checked_in_every_block() -> None:
    spec = SPEC.replace("token: ${env:CRM_TOKEN}", "token: hunter2") + (
        "\n### Metrics\n```yaml\npush: https://x/${evn:KEY}\ntoken: hunter3\n```\n"
    )
    problems = read(spec)
    assert [(problem.code, problem.fix) for problem in problems] == [
        ("A101", "${env:SOURCE_TOKEN}"),
        ("A102", "${env:KEY}"),
        ("A101", "${env:SYNC_TOKEN}"),
    ]
    assert not any("hunter" in problem.message for problem in problems)


@pytest.mark.parametrize(
    ("front_matter", "reported"),
    [
        (
            "spec_id: {name}\ntype: integration\nstatus: draft",
            ["2:10 F102 `spec_id` is empty; expected a name such as crm-to-billing"],
        ),
        ("type: integration\nstatus: draft", ["1:1 F102 `spec_id` is missing from the front matter"]),
        (
            "spec_id: CRM to Billing\ntype: integration\nstatus: draft",
            ["2:10 F103 'CRM to Billing' is not a valid spec_id: expected letters, digits, '-', '_' and '.'"],
        ),
        (
            f"spec_id: {'a' * 300}\ntype: integration\nstatus: draft",
            ["2:10 F103 the spec_id has 300 characters: expected at most 100"],
        ),
        (
            "spec_id: a\ntype: integration\nstatus: aproved",
            ["4:9 F104 unknown status 'aproved'; did you mean 'approved'?"],
        ),
        (
            "spec_id: a\ntype: integration\nstatus:",
            ["4:8 F104 unknown status ''; expected one of 'draft', 'approved', 'in-progress', 'completed'"],
        ),
        (
            "spec_id: a\ntype: integration\nstatus: yes",
            ["4:9 F104 unknown status 'yes'; expected one of 'draft', 'approved', 'in-progress', 'completed'"],
        ),
        (
            "spec_id: a\ntype: dev\nstatus: draft",
            ["3:7 F106 a spec of type 'dev' does not run; only `type: integration` does"],
        ),
    ],
)
def test_front_matter_needs_id_type_and_status(front_matter: str, reported: list[str]) -> None:
    body = SPEC.partition("---\n\n")[2]
    assert render(read(f"---\n{front_matter}\n---\n\n{body}")) == reported


@pytest.mark.parametrize("key", ["type", "status"])
def test_nested_aliases_are_not_expanded(key: str) -> None:
    levels = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))]
    lines = {"spec_id": "a", "type": "integration", "status": "draft", key: "*a29"}
    front_matter = "\n".join([*levels, *(f"{name}: {value}" for name, value in lines.items())])
    assert {problem.code for problem in read(f"---\n{front_matter}\n---\n")} >= {
        {"type": "F106", "status": "F104"}[key]
    }


def test_spec_id_is_read_as_written() -> None:
    body = SPEC.partition("---\n\n")[2]
    for written, spec_id in (("007", "007"), ("'2024-01-01'", "2024-01-01"), ("on", "on")):
        spec = f"---\nspec_id: {written}\ntype: integration\nstatus: draft\n---\n\n{body}"
        integration, problems = read_integration(Document.parse(spec))
        assert problems == []
        assert integration is not None
        assert integration.spec_id == spec_id


def test_file_without_front_matter_is_not_a_integration() -> None:
    assert [problem.code for problem in read("# Notes\n\nNothing here runs.\n")][:3] == ["F102", "F102", "F102"]


def test_broken_front_matter_is_reported_once() -> None:
    problems = read(SPEC.replace("status: in-progress", "status: [in-progress"))
    assert [problem.code for problem in problems] == ["F101"]


@pytest.mark.parametrize("newline", ["\r\n", "\r"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_locations_are_independent_of_line_ends_and_byte_order_mark(newline: str, bom: str) -> None:
    spec = (
        SPEC.replace("read: {path: /v3/contacts, records: data}", "read: {path: /a/{id}, records: data}\nrate: 1/s")
        .replace("Every 15 minutes", "Every fortnight")
        .replace("source.email", "source.é..mail")
        .replace("status: in-progress", "status: runing")
        .replace("422 | dead letter", "422 | ded letter")
    )
    here = read(spec)
    assert len(here) == 7
    assert read(bom + spec.replace("\n", newline)) == here


def test_importing_the_spec_parser_loads_nothing_heavy() -> None:
    code = (
        "import sys, speclab.spec.parser, speclab.spec.parser, speclab.spec.integration, speclab.spec.integration\n"
        "print(sorted({'pydantic', 'cel', 'cronsim', 'textual'} & sys.modules.keys()))"
    )
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert answer.stdout == "[]\n"


def test_credentials_over_unencrypted_connections_are_reported() -> None:
    spec = SPEC.replace("base_url: ${env:CRM_URL}", "base_url: http://crm.example.com").replace(
        "base_url: ${env:BILLING_URL}", "base_url: http://billing.example.com"
    )
    reported = [(problem.line, problem.message) for problem in read(spec) if problem.code == "A105"]
    assert reported == [
        (
            line_of("base_url: http://crm", spec),
            "the token is sent unencrypted over http://, where anyone on the network path can read it; use https://",
        )
    ]
