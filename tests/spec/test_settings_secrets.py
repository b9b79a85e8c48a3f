"""Secrets and references: no literal secret in a spec, and every reference is well-formed."""

from __future__ import annotations

import pytest

from speclab.connectors.file.settings import FileSystem
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.singer.settings import SingerSystem
from speclab.connectors.sql.settings import SqlSystem
from speclab.core.outcome import Level
from speclab.spec.auth import AUTHS, check_encryption, check_references, check_secrets
from speclab.spec.document import Document
from speclab.spec.problems import Problem, ProblemCollector
from speclab.spec.settings import Settings
from speclab.spec.settings_block import parse_settings


def references(yaml: str) -> list[Problem]:
    findings = ProblemCollector("spec.md", yaml, Document.parse(yaml).position)
    tree = parse_settings(yaml, 0, findings)
    assert tree is not None
    check_references(tree, findings)
    return findings.in_order()


def secrets(yaml: str, model: type[Settings] | None, owner: str = "source") -> list[Problem]:
    findings = ProblemCollector("spec.md", yaml, Document.parse(yaml).position)
    tree = parse_settings(yaml, 0, findings)
    assert tree is not None
    check_secrets(tree, model, owner, findings)
    return findings.in_order()


def render(problems: list[Problem]) -> list[str]:
    return [f"{problem.line}:{problem.column} {problem.code} {problem.message}" for problem in problems]


def test_references_of_all_kinds_are_accepted_in_every_value() -> None:
    assert (
        references(
            "a: ${env:CRM_URL}/oauth/token\n"
            "b: ${file:secrets/crm token.txt}\n"
            "c: {d: '${keyring:crm/client_secret}', e: [\"${vault:kv/crm#token}\"]}\n"
            "f: ${aws:prod/crm#token} and ${env:_x1}\n"
        )
        == []
    )


def test_unknown_reference_kind_is_reported_with_the_nearest() -> None:
    problems = references("url: https://${envv:HOST}/v1\nother: ${secret:X}\n")
    assert render(problems) == [
        "1:14 A102 unknown kind of reference 'envv'; did you mean 'env'?",
        "2:8 A102 unknown kind of reference 'secret'; expected one of 'env', 'file', 'keyring', 'vault', 'aws'",
    ]
    assert [(problem.fix, problem.length) for problem in problems] == [("${env:HOST}", 12), (None, 11)]


@pytest.mark.parametrize(
    ("value", "message", "fix"),
    [
        ("${CRM_URL}", "a reference needs a kind: did you mean ${env:CRM_URL}?", "${env:CRM_URL}"),
        ("${crm-url}", "a reference needs a kind: expected one such as ${env:NAME}", None),
        ("${}", "a reference needs a kind: expected one such as ${env:NAME}", None),
        ("${env:CRM_URL", "this reference is not closed; expected a } after its name", None),
        ("${env:}", "'' is not a valid name; expected ${env:NAME}", None),
        ("${env:CRM-URL}", "'CRM-URL' is not a valid name; expected ${env:NAME}", None),
        ("${env: CRM}", "' CRM' is not a valid name; expected ${env:NAME}", None),
        ("${keyring:crm}", "'crm' is not a valid name; expected ${keyring:SERVICE/NAME}", None),
        ("${vault:kv/crm}", "'kv/crm' is not a valid name; expected ${vault:PATH#KEY}", None),
        ("${aws:crm#}", "'crm#' is not a valid name; expected ${aws:NAME#KEY}", None),
    ],
)
def test_invalid_reference_is_reported_with_the_expected_syntax(value: str, message: str, fix: str | None) -> None:
    problems = references(f'token: "x {value}"\n')
    assert render(problems) == [f"1:11 A103 {message}"]
    assert problems[0].fix == fix


@pytest.mark.parametrize(
    ("kind", "yaml", "name"),
    [
        ("bearer", "type: bearer\ntoken: hunter2\n", "TOKEN"),
        ("api_key", "type: api_key\nheader: X\nkey: hunter2\n", "KEY"),
        ("basic", "type: basic\nusername: me\npassword: 'hunter2'\n", "PASSWORD"),
        ("bearer", "type: bearer\ntoken: 12345678\n", "TOKEN"),
    ],
)
def test_literal_secret_is_reported_without_its_value(kind: str, yaml: str, name: str) -> None:
    problems = secrets(yaml, AUTHS[kind])
    line = yaml.count("\n")
    column = len(name) + 3
    assert render(problems) == [
        f"{line}:{column} A101 the file contains a secret; move it to the environment and write ${{env:SOURCE_{name}}}"
    ]
    assert problems[0].fix == f"${{env:SOURCE_{name}}}"
    assert "hunter2" not in str(problems[0])


def test_secret_must_be_a_single_reference() -> None:
    assert secrets("token: ${env:T}\n", AUTHS["bearer"]) == []
    assert render(secrets("token: Bearer ${env:T}\n", AUTHS["bearer"], "target")) == [
        "1:8 A101 `token` is a secret: expected a single reference such as ${env:TARGET_TOKEN}"
    ]


def test_empty_secret_is_not_reported_as_a_literal_secret() -> None:
    assert secrets("token:\n", AUTHS["bearer"]) == []


def test_secrets_are_checked_in_auth_types_without_a_model() -> None:
    problems = secrets("type: oauth2\nclient_id: me\nclient_secret: hunter2\n", None)
    assert render(problems) == [
        "3:16 A101 the file contains a secret; move it to the environment and write ${env:SOURCE_CLIENT_SECRET}"
    ]


def test_password_in_a_url_is_reported_at_the_password() -> None:
    problems = secrets("connector: sql\nurl: postgresql://sync:hunter2@db/crm\n", SqlSystem, "target")
    assert render(problems) == [
        "2:24 A104 the file contains a password; move it to the environment and write ${env:TARGET_PASSWORD}"
    ]
    assert (problems[0].fix, problems[0].length) == ("${env:TARGET_PASSWORD}", len("hunter2"))
    assert render(secrets('base_url: "https://me:hunter2@crm.example.com"\n', HttpSystem)) == [
        "1:23 A104 the file contains a password; move it to the environment and write ${env:SOURCE_PASSWORD}"
    ]


def test_password_in_a_nested_url_is_reported() -> None:
    problems = secrets("command: tap-x\nconfig: {connections: [{dsn: 'mysql://me:hunter2@db/crm'}]}\n", SingerSystem)
    assert [(problem.code, problem.column, problem.length) for problem in problems] == [("A104", 42, len("hunter2"))]
    problems = secrets("type: oauth2\ntoken_url: https://me:hunter2@login.example.com/token\n", AUTHS["oauth2"])
    assert [(problem.line, problem.code) for problem in problems] == [(2, "A104")]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://sync:${env:DB_PASSWORD}@db/crm",
        "https://crm.example.com:8443/a@b",
        "https://me@crm.example.com",
        "sqlite:///crm.db",
        "${env:CRM_DSN}",
    ],
)
def test_url_without_a_literal_password_is_valid(url: str) -> None:
    assert secrets(f"url: {url}\n", SqlSystem) == []


def test_secrets_in_headers_and_parameters_are_found() -> None:
    problems = secrets(
        "headers: {Authorization: Bearer abc, X-Trace: on-1, Accept: text/plain}\n"
        "read:\n"
        "  params: {access_token: abc, per_page: 100}\n"
        "write:\n"
        "  headers: {X-Api-Key: '${env:K}', authorization: 'Bearer ${env:T}'}\n",
        HttpSystem,
    )
    assert [(problem.line, problem.column, problem.code, problem.fix) for problem in problems] == [
        (1, 26, "A101", "${env:SOURCE_AUTHORIZATION}"),
        (3, 26, "A101", "${env:SOURCE_ACCESS_TOKEN}"),
    ]


def test_secrets_in_a_nested_body_are_found() -> None:
    problems = secrets(
        "read:\n"
        "  request: POST /search\n"
        "  body: {auth: {api_key: abc}, filter: [{password: '${env:P}'}], token: next}\n"
        "write: {create: POST /c, body: {data: $record, client_secret: abc}}\n",
        HttpSystem,
    )
    assert [(problem.line, problem.column, problem.code, problem.fix) for problem in problems] == [
        (3, 26, "A101", "${env:SOURCE_API_KEY}"),
        (4, 63, "A101", "${env:SOURCE_CLIENT_SECRET}"),
    ]


def test_secrets_in_the_query_of_a_path_are_found() -> None:
    problems = secrets(
        "read: {path: '/list?state=open&api_key=abc'}\n"
        "write: {upsert: 'PUT /c/{id}?access_token=${env:T}', create: 'POST /c?password={password}'}\n",
        HttpSystem,
    )
    assert render(problems) == [
        "1:40 A104 the file contains a secret; move it to the environment and write ${env:SOURCE_API_KEY}"
    ]
    assert (problems[0].fix, problems[0].length) == ("${env:SOURCE_API_KEY}", len("abc"))


def test_nested_literal_secret_in_a_taps_config_is_reported() -> None:
    config = (
        "command: tap-x\nconfig:\n  user: ada\n  api_token: abc\n  use_token: true\n  token_path: data.next\n"
        "  headers: {Authorization: Bearer abc, X-Other: 1}\n"
        "  streams: [{client_secret: abc}, {password: '${env:P}'}]\n"
    )
    problems = secrets(config, SingerSystem, "source")
    assert [(problem.line, problem.code) for problem in problems] == [(4, "A101"), (7, "A101"), (8, "A101")]
    assert "${env:SOURCE_API_TOKEN}" in problems[0].message


def test_literal_secret_in_driver_options_or_url_of_a_file_is_reported() -> None:
    problems = secrets(
        "path: sftp://ada:hunter2@files.example.com/a.csv\n"
        "options:\n"
        "  key: AKIA123\n"
        "  secret: abc\n"
        "  account_key: abc\n"
        "  client_kwargs: {aws_session_token: '${env:T}', connection_string: abc}\n",
        FileSystem,
    )
    assert [(problem.line, problem.column, problem.code) for problem in problems] == [
        (1, 18, "A104"),
        (4, 11, "A101"),
        (5, 16, "A101"),
        (6, 69, "A101"),
    ]


@pytest.mark.parametrize(
    "url",
    [
        "http://crm.example.com/v1",
        "HTTP://10.0.0.8:8080",
        "http://me:${env:P}@crm.example.com",
        "http://localhost.evil.com",
    ],
)
def test_credentials_over_plain_http_are_a_warning(url: str) -> None:
    assert [one.code for one in unencrypted(url)] == ["A105"]
    assert unencrypted(url)[0].level is Level.WARNING


@pytest.mark.parametrize(
    "url",
    [
        "https://crm.example.com",
        "http://localhost:8080/v1",
        "http://api.localhost",
        "http://127.0.0.1:8080",
        "http://127.1.2.3",
        "http://[::1]:8080/x",
        "${env:CRM_URL}",
        "http://${env:CRM_HOST}/v1",
    ],
)
def test_encrypted_local_or_unknown_address_is_not_a_warning(url: str) -> None:
    assert unencrypted(url) == []


def unencrypted(url: str) -> list[Problem]:
    yaml = f'base_url: "{url}"\n'
    findings = ProblemCollector("spec.md", yaml, Document.parse(yaml).position)
    tree = parse_settings(yaml, 0, findings)
    assert tree is not None
    check_encryption(tree, "base_url", "the token is", findings)
    return findings.in_order()
