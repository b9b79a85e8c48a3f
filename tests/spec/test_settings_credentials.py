"""Auth settings: OAuth 2.0 and signed requests, and contradicting settings."""

from __future__ import annotations

from textwrap import dedent

import pytest

from speclab.spec.auth import AUTHS, AwsAuth, HmacAuth, OAuth2Auth, check_references, check_secrets
from speclab.spec.document import SOURCE_AUTH, TARGET_AUTH, Document
from speclab.spec.guide import guide
from speclab.spec.problems import ProblemCollector
from speclab.spec.settings import Settings
from speclab.spec.settings_block import parse_settings, to_variant


def read(yaml: str) -> tuple[Settings | None, list[str]]:
    """Return the settings in `yaml`, and its problems as `line:column code message`."""
    yaml = dedent(yaml)
    findings = ProblemCollector("spec.md", yaml, Document.parse(yaml).position)
    tree = parse_settings(yaml, 0, findings)
    assert tree is not None
    kind = tree.value["type"]
    check_references(tree, findings)
    check_secrets(tree, AUTHS[str(kind)], "source", findings)
    found = to_variant(tree, "type", AUTHS, frozenset(), findings)
    return found, [f"{one.line}:{one.column} {one.code} {one.message}" for one in findings.in_order()]


CLIENT = "token_url: https://crm.example.com/oauth/token\nclient_id: me\n"


def oauth2(flow: str, rest: str = "") -> tuple[Settings | None, list[str]]:
    return read(f"type: oauth2\nflow: {flow}\n{CLIENT}{rest}")


def test_client_credentials_need_an_id_and_a_secret() -> None:
    found, problems = oauth2("client_credentials", "client_secret: ${keyring:crm/secret}\nrefresh_margin: 1m\n")
    assert problems == []
    assert isinstance(found, OAuth2Auth)
    assert (found.client_auth, found.refresh_margin, found.scope) == ("basic", 60.0, None)


@pytest.mark.parametrize(
    ("flow", "rest"),
    [
        ("refresh_token", "refresh_token: ${env:R}\n"),
        ("authorization_code", "authorize_url: https://crm.example.com/oauth/authorize\nredirect_port: 8400\n"),
        ("device_code", "device_url: https://crm.example.com/oauth/device\naccount: ada\n"),
    ],
)
def test_complete_flow_is_valid_and_a_public_client_needs_no_secret(flow: str, rest: str) -> None:
    found, problems = oauth2(flow, rest)
    assert problems == []
    assert isinstance(found, OAuth2Auth)
    assert found.client_secret is None


@pytest.mark.parametrize(
    ("flow", "rest", "problem"),
    [
        ("client_credentials", "", "2:1 S205 the flow client_credentials needs `client_secret`"),
        ("refresh_token", "", "2:1 S205 the flow refresh_token needs `refresh_token`"),
        ("authorization_code", "", "2:1 S205 the flow authorization_code needs `authorize_url`"),
        ("device_code", "", "2:1 S205 the flow device_code needs `device_url`"),
        (
            "client_credentials",
            "client_secret: ${env:S}\ndevice_url: https://x\n",
            "6:1 S205 `device_url` is for the flow device_code, not client_credentials",
        ),
        (
            "refresh_token",
            "refresh_token: ${env:R}\nredirect_port: 8400\n",
            "6:1 S205 `redirect_port` is for the flow authorization_code, not refresh_token",
        ),
        (
            "authorization_code",
            "authorize_url: https://x\nredirect_port: 80000\n",
            "6:16 S203 `redirect_port`: expected at most 65535, got '80000'",
        ),
        (
            "client_credential",
            "client_secret: ${env:S}\n",
            "2:7 S204 `flow`: unknown value 'client_credential'; did you mean 'client_credentials'?",
        ),
    ],
)
def test_missing_or_unsupported_settings_of_a_flow_are_reported(flow: str, rest: str, problem: str) -> None:
    assert oauth2(flow, rest)[1] == [problem]


def test_client_secret_in_the_file_is_reported() -> None:
    _, problems = oauth2("client_credentials", "client_secret: hunter2\nparams: {password: hunter3}\n")
    assert problems == [
        "5:16 A101 the file contains a secret; move it to the environment and write ${env:SOURCE_CLIENT_SECRET}",
        "6:20 A101 the file contains a secret; move it to the environment and write ${env:SOURCE_PASSWORD}",
    ]


def test_signature_covers_named_parts() -> None:
    found, problems = read("""\
        type: hmac
        secret: ${env:S}
        header: X-Signature
        over: "{method}{target}{timestamp}.{body}"
        timestamp: X-Timestamp
        prefix: sha256=
        """)
    assert problems == []
    assert isinstance(found, HmacAuth)
    assert (found.algorithm, found.encoding) == ("sha256", "hex")


@pytest.mark.parametrize(
    ("rest", "problem"),
    [
        (
            'over: "{method} {bdoy}"\n',
            (
                "4:17 S203 {bdoy} is not a part of a request; expected one of "
                "{method} {url} {host} {path} {query} {target} {timestamp} {nonce} {body} {body_hash}"
            ),
        ),
        ('over: "{body"\n', "4:8 S203 unbalanced {"),
        (
            'over: "{timestamp}{body}"\n',
            "4:1 S205 `over` has {timestamp}; expected `timestamp`, the header that carries it",
        ),
        (
            'over: "{body}"\nnonce: X-Nonce\n',
            "5:1 S205 `nonce` is sent but not signed; add {nonce} to `over`",
        ),
    ],
)
def test_signature_over_unsent_values_is_reported(rest: str, problem: str) -> None:
    assert read(f"type: hmac\nsecret: ${{env:S}}\nheader: X-Sig\n{rest}")[1] == [problem]


def test_aws_keys_are_a_pair_of_which_one_is_secret() -> None:
    yaml = "type: aws_sigv4\nregion: eu-central-1\nservice: execute-api\naccess_key: AKIDEXAMPLE\n"
    found, problems = read(yaml + "secret_key: ${env:S}\nsession_token: ${env:T}\n")
    assert problems == []
    assert isinstance(found, AwsAuth)
    assert read(yaml + "secret_key: hunter2\n")[1] == [
        "5:13 A101 the file contains a secret; move it to the environment and write ${env:SOURCE_SECRET_KEY}"
    ]


@pytest.mark.parametrize("address", [SOURCE_AUTH, TARGET_AUTH])
def test_guide_has_a_valid_example_of_every_auth_type(address: str) -> None:
    variants = guide(address).variants
    assert [variant.name for variant in variants] == list(AUTHS)
    for variant in variants:
        found, problems = read(variant.example.removeprefix("```yaml\n").removesuffix("```"))
        assert problems == [], variant.name
        assert isinstance(found, AUTHS[variant.name])
