"""Settings blocks as typed models: accepted values, and problems at the exact key or value."""

from __future__ import annotations

from textwrap import dedent

import pytest

from speclab.connectors.file.settings import FileSystem
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.sql.settings import SqlSystem
from speclab.spec.auth import AUTHS, SYSTEMS, NoAuth
from speclab.spec.document import Document
from speclab.spec.problems import Problem, ProblemCollector
from speclab.spec.settings import NOT_RUN_YET, MappingSettings, RetrySettings, Rotation, Settings, System
from speclab.spec.settings_block import read_block, to_model, to_variant
from speclab.spec.settings_types import Rate

FIRST = 3
"""Line of the file on which a block's text begins in these tests."""


def findings_and_section(yaml: str) -> tuple[ProblemCollector, Document]:
    document = Document.parse(f"## Section\n```yaml\n{dedent(yaml)}```\n")
    return ProblemCollector("spec.md", document.text, document.position), document


def system(yaml: str) -> tuple[System | None, list[Problem]]:
    findings, document = findings_and_section(yaml)
    tree = read_block(document.sections[0], findings)
    assert tree is not None
    return to_variant(tree, "connector", SYSTEMS, NOT_RUN_YET, findings), findings.in_order()


def problems_of(model: type[Settings], yaml: str) -> list[Problem]:
    findings, document = findings_and_section(yaml)
    tree = read_block(document.sections[0], findings)
    assert tree is not None
    to_model(tree, model, findings)
    return findings.in_order()


def render(problems: list[Problem]) -> list[str]:
    return [f"{problem.line}:{problem.column} {problem.code} {problem.message}" for problem in problems]


HTTP = """\
connector: http
base_url: https://crm.example.com
key: id
"""


def test_http_source_of_the_reference_is_valid() -> None:
    found, problems = system("""\
        connector: http
        base_url: ${env:CRM_URL}
        limits: {rate: 100/min, concurrency: 4, timeout: 30s, response: 50MB}
        headers: {Accept-Language: en}
        key: id
        read:
          path: /v3/contacts
          params: {status: active, account: "{account.id}"}
          records: data
          pagination: {by: cursor, next: meta.next_cursor, param: cursor}
          since: {param: updated_since, field: updated_at, start: 2024-01-01, lookback: 5m, sorted: false}
          deleted: source.deleted == true
          for_each: {path: /accounts, records: data, as: account}
        """)
    assert problems == []
    assert isinstance(found, HttpSystem)
    assert (found.limits.rate, found.limits.timeout, found.limits.response) == ((Rate(100, 60),), 30.0, 50_000_000)
    assert found.read is not None
    assert found.read.params == {"status": "active", "account": "{account.id}"}
    assert found.read.since is not None
    assert (found.read.since.start, found.read.since.lookback) == ("2024-01-01", 300.0)
    assert found.read.for_each is not None
    assert found.read.for_each.name == "account"


def test_http_target_of_the_reference_is_valid() -> None:
    found, problems = system("""\
        connector: http
        base_url: ${env:BILLING_URL}
        key: [region, external_id]
        write:
          delete: DELETE /customers/{external_id}
          batch: POST /customers/batch
          size: 100
          envelope: data
          item: {method: PUT, path: "/customers/{id}", body: $record}
          results: responses
          ok: item.status < 300
          message: item.error.detail
          headers: {If-None-Match: "*"}
          idempotency: Idempotency-Key
          exists: [409]
          errors: {at: "errors[*]", field: field, message: detail}
        """)
    assert problems == []
    assert isinstance(found, HttpSystem)
    assert found.key == ("region", "external_id")
    assert found.write is not None
    assert found.write.exists == (409,)
    assert found.write.item is not None
    assert found.write.item.body == "$record"


def test_databases_and_files_of_the_reference_are_valid() -> None:
    sql, sql_problems = system("""\
        connector: sql
        url: ${env:CRM_DSN}
        key: Customer ID
        read: {table: contacts, since: {field: updated_at}, size: 5000}
        write: {upsert: customers, size: 500, create_table: true}
        """)
    file, file_problems = system("""\
        connector: file
        path: out/customers.jsonl
        format: jsonl
        mode: upsert
        key: id
        """)
    assert sql_problems == file_problems == []
    assert isinstance(sql, SqlSystem)
    assert sql.write is not None
    assert sql.write.create_table
    assert isinstance(file, FileSystem)


def test_text_setting_accepts_numbers_dates_and_booleans_as_written() -> None:
    found, problems = system(f"""\
        {HTTP.replace(chr(10), chr(10) + " " * 8)}
        headers: {{X-Version: 1.10, X-Build: 0017, X-On: true}}
        read:
          path: /a
          params: {{per_page: 100, open: true}}
          since: {{param: after, field: id, start: 1700000000}}
        """)
    assert [problem.code for problem in problems] == ["S105"]  # 0017, for other parsers
    assert isinstance(found, HttpSystem)
    assert found.headers == {"X-Version": "1.10", "X-Build": "0017", "X-On": "true"}
    assert found.read is not None
    assert found.read.params == {"per_page": 100, "open": True}
    assert found.read.since is not None
    assert found.read.since.start == "1700000000"


def test_unknown_key_is_reported_with_the_nearest_name() -> None:
    problems = problems_of(HttpSystem, HTTP + "read:\n  path: /a\n  parms: {a: 1}\n")
    assert render(problems) == [f"{FIRST + 5}:3 S202 unknown setting 'parms' in `read`; did you mean 'params'?"]
    assert (problems[0].fix, problems[0].length) == ("params", 5)


def test_misplaced_key_is_reported_with_its_place() -> None:
    problems = problems_of(HttpSystem, HTTP + "read: {path: /a, by: page}\nrate: 100/min\n")
    assert render(problems) == [
        f"{FIRST + 3}:18 S202 `by` does not belong here; did you mean `read.pagination.by`?",
        f"{FIRST + 4}:1 S202 `rate` does not belong here; did you mean `limits.rate`?",
    ]


def test_unknown_key_without_a_similar_name_is_reported_with_all_names() -> None:
    problems = problems_of(Rotation, "qqq: 1\n")
    assert render(problems) == [f"{FIRST}:1 S202 unknown setting 'qqq'; expected one of 'size', 'keep'"]
    assert problems[0].fix is None


def test_missing_key_is_reported_at_the_first_line_or_at_its_parent() -> None:
    problems = problems_of(HttpSystem, "connector: http\nread:\n  path: /a\n  since: {param: after}\n")
    assert render(problems) == [
        f"{FIRST}:1 S201 `key` is missing: path of the field that identifies a record, or a list of paths",
        f"{FIRST}:1 S201 `base_url` is missing: URL that every path is appended to",
        f"{FIRST + 3}:3 S201 `read.since.field` is missing: path of the time or number in a record",
    ]


def test_missing_settings_of_an_empty_block_are_reported_at_its_fence() -> None:
    found, problems = system("# nothing yet\n")
    assert found is None
    assert render(problems) == ["2:1 S201 `connector` is missing: one of external, file, http, singer, sql"]


def test_unknown_connector_is_reported_with_the_nearest_and_the_rest_checked_as_that() -> None:
    found, problems = system(HTTP.replace("http\n", "htpp\n") + "read: {paht: /a}\n")
    assert found is None
    assert render(problems) == [
        f"{FIRST}:12 S204 unknown connector 'htpp'; did you mean 'http'?",
        f"{FIRST + 3}:8 S202 unknown setting 'paht' in `read`; did you mean 'path'?",
    ]
    assert problems[0].fix == "http"


def test_connector_that_is_not_text_is_described() -> None:
    (reported,) = render(system("connector: [http]\n")[1])
    assert reported.startswith(f"{FIRST}:12 S204 unknown connector a list; expected one of 'external', 'file', 'http'")


def test_misspelled_connector_key_is_reported() -> None:
    _, problems = system("conector: sql\nurl: sqlite://\nkey: id\n")
    assert render(problems) == [f"{FIRST}:1 S202 unknown setting 'conector'; did you mean 'connector'?"]


def test_connector_that_is_not_supported_yet_is_reported() -> None:
    found, problems = system("connector: webhook\npath: /hook\n")
    assert found is None
    assert render(problems) == [f"{FIRST}:12 S206 'webhook' is not supported yet by this version of speclab"]


def test_none_is_a_valid_auth_type() -> None:
    findings, document = findings_and_section("type: none\n")
    tree = read_block(document.sections[0], findings)
    assert tree is not None
    assert to_variant(tree, "type", AUTHS, NOT_RUN_YET, findings) == NoAuth(type="none")


@pytest.mark.parametrize(
    ("line", "column", "message"),
    [
        (
            "limits: {rate: 100/fortnight}",
            16,
            "`limits.rate`: expected a rate such as 100/min or 10/s, got '100/fortnight'",
        ),
        ("limits: {timeout: 30}", 19, "`limits.timeout`: expected a duration such as 30s, 5m or 24h, got 30"),
        ("limits: {response: 50}", 20, "`limits.response`: expected a size such as 10MB or 512KiB, got 50"),
        ("limits: {concurrency: 0}", 23, "`limits.concurrency`: expected at least 1, got '0'"),
        ("limits: {concurrency: 1001}", 23, "`limits.concurrency`: expected at most 1000, got '1001'"),
        ("limits: {concurrency: many}", 23, "`limits.concurrency`: expected a whole number, got 'many'"),
        ("limits: {concurrency: 1.5}", 23, "`limits.concurrency`: expected a whole number, got '1.5'"),
        ("limits: 100/min", 9, "`limits`: expected a mapping, `key: value`, got '100/min'"),
        ("headers: [a, b]", 10, "`headers`: expected a mapping, `key: value`, got a list"),
        ("headers: {Accept: [a]}", 19, "`headers.Accept`: expected text, got a list"),
        (
            "read: {path: GET /a}",
            14,
            "`read.path`: expected a path, which is read with GET; for another method, use `request`",
        ),
        (
            "read: {request: /a}",
            17,
            "`read.request`: expected a method and a path, such as PUT /customers/{id}, got '/a'",
        ),
        ("headers:", 9, "`headers` has no value"),
    ],
)
def test_value_of_the_wrong_type_is_reported_with_the_expected_type(line: str, column: int, message: str) -> None:
    assert render(problems_of(HttpSystem, f"{HTTP}{line}\n"))[:1] == [f"{FIRST + 3}:{column} S203 {message}"]


@pytest.mark.parametrize(("written", "meant"), [("yes", "true"), ("off", "false"), ("True ", None), ("maybe", None)])
def test_boolean_accepts_true_and_false_and_suggests_them_for_yes_and_on(written: str, meant: str | None) -> None:
    read = f"read: {{path: /a, since: {{param: p, field: f, sorted: {written}}}}}\n"
    problems = problems_of(HttpSystem, HTTP + read)
    if written.strip() == "True":
        assert problems == []
        return
    hint = f"; write {meant}" if meant else ""
    assert render(problems) == [
        f"{FIRST + 3}:54 S203 `read.since.sorted`: expected true or false, got '{written}'{hint}"
    ]
    assert problems[0].fix == meant


def test_single_value_for_a_list_gets_a_fix_with_brackets() -> None:
    problems = problems_of(HttpSystem, HTTP + "write: {create: POST /a, exists: 409}\n")
    assert render(problems) == [f"{FIRST + 3}:34 S203 `write.exists`: expected a list, got '409'; write [409]"]
    assert problems[0].fix == "[409]"


def test_unknown_value_is_reported_with_the_nearest_or_all_values() -> None:
    problems = problems_of(HttpSystem, HTTP + "read: {path: /a, pagination: {by: cursr, param: c, next: n}}\n")
    assert render(problems) == [
        f"{FIRST + 3}:35 S204 `read.pagination.by`: unknown value 'cursr'; did you mean 'cursor'?"
    ]
    problems = problems_of(FileSystem, "connector: file\npath: a.jsonl\nkey: id\nmode: zzz\n")
    assert render(problems) == [
        f"{FIRST + 3}:7 S204 `mode`: unknown value 'zzz'; expected one of 'replace', 'append', 'upsert'"
    ]


def test_braced_value_that_yaml_reads_as_a_mapping_is_reported_as_unquoted() -> None:
    problems = problems_of(HttpSystem, HTTP + "write:\n  upsert: PUT /a\n  envelope: {name}\n")
    assert render(problems) == [
        f'{FIRST + 5}:13 S102 quote this value: "{{name}}"; without quotes, braces make it a mapping'
    ]
    assert problems[0].fix == '"{name}"'


@pytest.mark.parametrize(
    ("line", "location", "message"),
    [
        ("key: a..b", "{0}:8", "'a..b' is not a valid path: unexpected '.'"),
        ("records: data[x]", "{1}:16", "'data[x]' is not a valid path: unexpected '['"),
        ('records: "data..x"', "{1}:18", "'data..x' is not a valid path: unexpected '.'"),
        ("path: /a/{b", "{1}:12", "unbalanced {"),
        ("path: /a/{b..c}/d", "{1}:15", "'b..c' is not a valid path: unexpected '.'"),
        ("path: /a/{}", "{1}:13", "'' is not a valid path: a path is empty"),
    ],
)
def test_invalid_path_or_placeholder_is_reported_at_the_exact_character(line: str, location: str, message: str) -> None:
    key, read = ("key: id", f"  {line}\n") if line.startswith(("records", "path")) else (line, "")
    path = "" if line.startswith("path") else "  path: /a\n"
    yaml = f"connector: http\nbase_url: https://x\n{key}\nread:\n{read}{path}"
    assert render(problems_of(HttpSystem, yaml)) == [f"{location.format(FIRST + 2, FIRST + 4)} S203 {message}"]


@pytest.mark.parametrize(
    ("yaml", "location", "message"),
    [
        ("read: {records: data}", "{0}:1", "expected `path`, or `request` for methods other than GET"),
        ("read: {path: /a, request: POST /a}", "{0}:18", "expected one of `path` and `request`, not both"),
        ("read: {path: /a, body: {q: 1}}", "{0}:18", "a `body` needs `request`, such as POST /search"),
        (
            "read: {path: /a, since: {field: updated}}",
            "{0}:18",
            "over HTTP, `since` needs `param`, the parameter that carries the start",
        ),
        (
            "read: {path: /a, pagination: {by: cursor}}",
            "{0}:31",
            "pagination by cursor needs `param`, and `next` (path in the body) or `header`",
        ),
        ("read: {path: /a, pagination: {by: page}}", "{0}:31", "pagination by page needs `param`"),
        (
            "read: {path: /a, pagination: {by: next_url}}",
            "{0}:31",
            "pagination by next_url needs `next` (path in the body) or `header`",
        ),
        (
            "read: {path: /a, pagination: {next: links.next}}",
            "{0}:31",
            "`next` is for pagination by cursor or next_url, not by auto",
        ),
        (
            "read: {path: /a, pagination: {by: link, param: page}}",
            "{0}:41",
            "`param` is for pagination by cursor or page or offset, not by link",
        ),
        (
            "read: {path: /a, pagination: {by: next_url, next: a, header: b}}",
            "{0}:54",
            "expected one of `next` and `header`, not both",
        ),
        (
            "read: {path: /a, pagination: {by: link, size_param: n}}",
            "{0}:41",
            "`size_param` needs `size`, the value to send",
        ),
        (
            "read: {path: /a, pagination: {by: link, size: 100}}",
            "{0}:41",
            "`size` needs `size_param`, the parameter that carries it",
        ),
        (
            'read: {path: "/a/{account.id}"}',
            "{0}:8",
            "{account.id}: a read has no record for placeholders but the parent of `for_each`",
        ),
        (
            'read: {path: "/a/{id}", for_each: {path: /b, as: account}}',
            "{0}:8",
            "{id} is not a field of `account`, the only record available to a read",
        ),
        (
            'read: {path: "/a/{account.id}", for_each: {path: "/b/{account.id}", as: account}}',
            "{0}:44",
            "{account.id}: the parent list has no record for placeholders",
        ),
        (
            'read: {path: /a, params: {q: "{x}"}, for_each: {path: /b, as: account}}',
            "{0}:38",
            "each `account` would get the same request; add {account.id} to path, params or body",
        ),
        ("write: {size: 5}", "{0}:1", "expected one of `upsert`, `create` and `batch`"),
        (
            "write: {upsert: PUT /a, create: POST /a}",
            "{0}:25",
            "expected one of `upsert`, `create` and `batch`, not 2 of them",
        ),
        ("write: {upsert: PUT /a, update: PUT /b}", "{0}:25", "`update` needs `create`"),
        (
            "write: {create: POST /a, update: PUT /b}",
            "{0}:26",
            "`update` needs `lookup`, which finds the existing record",
        ),
        ("write: {create: POST /a, results: rows}", "{0}:26", "`results` needs `batch`"),
        ("write: {create: POST /a, size: 100}", "{0}:26", "`size` needs `batch`"),
        ("write: {upsert: PUT /a, found: data}", "{0}:25", "`found` needs `lookup`"),
    ],
)
def test_contradicting_settings_are_reported_at_the_setting_at_fault(yaml: str, location: str, message: str) -> None:
    assert render(problems_of(HttpSystem, f"{HTTP}{yaml}\n")) == [f"{location.format(FIRST + 3)} S205 {message}"]


def test_contradicting_settings_of_databases_and_keys_are_reported() -> None:
    sql = "connector: sql\nurl: sqlite://\nkey: id\n"
    assert render(problems_of(SqlSystem, sql + "read: {size: 1}\nwrite: {insert: a, upsert: b}\n")) == [
        f"{FIRST + 3}:1 S205 expected `table` or `query`",
        f"{FIRST + 4}:9 S205 expected one of `upsert` and `insert`, not both",
    ]
    api_key = {"header": "header: X\n", "both": "header: X\nparam: x\n", "none": ""}
    reported = {
        name: render(problems_of(AUTHS["api_key"], f"type: api_key\nkey: ${{env:K}}\n{rest}"))
        for name, rest in api_key.items()
    }
    assert reported == {
        "header": [],
        "both": [f"{FIRST + 3}:1 S205 expected one of `header` and `param`, not both"],
        "none": [f"{FIRST}:1 S205 expected `header` or `param`, to say where the key is sent"],
    }


def test_cap_of_retries_cannot_be_below_base() -> None:
    assert (
        problems_of(RetrySettings, "attempts: 5\nbackoff: exponential\nbase: 2s\ncap: 5m\ngive_up_after: 24h\n") == []
    )
    assert render(problems_of(RetrySettings, "base: 5m\ncap: 2s\n")) == [
        f"{FIRST + 1}:1 S205 `cap`, the longest wait, is shorter than `base`, the first"
    ]


def test_mapping_settings_accept_lookups_and_checks_of_any_shape() -> None:
    yaml = """\
        filter: source.email != ""
        lookups: {status: {A: active, 1: one, N: null}}
        check: {email: {format: email}, amount: {minimum: 0, enum: [1, 2]}}
        """
    assert problems_of(MappingSettings, yaml) == []
    assert render(problems_of(MappingSettings, "lookups: {status: active}\n")) == [
        f"{FIRST}:19 S203 `lookups.status`: expected a mapping, `key: value`, got 'active'"
    ]


def test_all_problems_are_reported_at_once() -> None:
    problems = problems_of(
        HttpSystem,
        "connector: http\nbase_url: http://x\nkee: id\nread: {path: /a, pagination: {by: pag}}\nlimits: {rate: fast}\n",
    )
    assert [(problem.line - FIRST, problem.column, problem.code) for problem in problems] == [
        (0, 1, "S201"),
        (2, 1, "S202"),
        (3, 35, "S204"),
        (4, 16, "S203"),
    ]
