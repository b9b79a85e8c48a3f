from __future__ import annotations

from pathlib import Path

import pytest

from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.secrets.references import References, find_references
from speclab.core.errors import UnresolvedReference
from speclab.spec.auth import ApiKeyAuth, BasicAuth


def test_references_are_replaced_at_any_position(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t0p-s3cret\n")
    references = References({"HOST": "crm.example.com", "PORT": "8443"}, tmp_path)
    assert references.resolve("https://${env:HOST}:${env: PORT }/v3") == "https://crm.example.com:8443/v3"
    assert references.resolve("Bearer ${file:token}") == "Bearer t0p-s3cret"


def test_no_other_syntax_is_interpreted(tmp_path: Path) -> None:
    text = "$HOME ${HOME} {id} ${} $(date) `id` %s {{x}} \\n"
    assert References({"HOME": "/root"}, tmp_path).resolve(text) == text


def test_value_is_not_resolved_again(tmp_path: Path) -> None:
    assert References({"A": "${env:B}", "B": "no"}, tmp_path).resolve("${env:A}") == "${env:B}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${env:CRM_TOKN}", "the environment variable CRM_TOKN is not set. Did you mean 'CRM_TOKEN'?"),
        ("${env:EMPTY}", "the environment variable EMPTY is empty"),
        ("${enw:CRM_TOKEN}", "unknown kind 'enw'; expected one of env, file, keyring, vault, aws. Did you mean 'env'?"),
        ("${file:nowhere}", "nowhere: No such file or directory"),
        ("${file:binary}", "binary: it is not UTF-8 text"),
    ],
)
def test_unresolved_reference_says_why(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    references = References({"CRM_TOKEN": "x", "EMPTY": ""}, tmp_path)
    with pytest.raises(UnresolvedReference) as caught:
        references.resolve(text)
    assert message in caught.value.message
    assert caught.value.exit_code == 3


def test_settings_are_resolved_at_every_depth(tmp_path: Path) -> None:
    references = References({"URL": "http://crm", "TEAM": "blue", "WORD": "hidden-word"}, tmp_path)
    system = HttpSystem.model_validate(
        {
            "connector": "http",
            "base_url": "${env:URL}",
            "key": ["id"],
            "headers": {"X-Word": "${env:WORD}"},
            "read": {"path": "/teams/${env:TEAM}", "params": {"tags": ["${env:TEAM}", 1]}},
        }
    )
    resolved = references.resolve_settings(system)
    assert resolved.base_url == "http://crm"
    assert resolved.headers == {"X-Word": "hidden-word"}
    assert resolved.read is not None
    assert resolved.read.path == "/teams/blue"
    assert resolved.read.params == {"tags": ["blue", 1]}
    assert system.base_url == "${env:URL}"
    assert references.redactor.redact("http://crm/?word=hidden-word") == "http://crm/?word=***"


def test_settings_without_references_are_unchanged(tmp_path: Path) -> None:
    auth = ApiKeyAuth(type="api_key", header="X-Key", key="literal-key")
    references = References({}, tmp_path)
    assert references.resolve_settings(auth) == auth
    assert references.redactor.redact("literal-key") == "***"


def test_secret_is_masked_in_its_encoded_forms(tmp_path: Path) -> None:
    redactor = References({}, tmp_path).redactor
    redactor.add('p@ss"wörd/1')
    forms = ['p@ss"wörd/1', "p%40ss%22w%C3%B6rd%2F1", "p%40ss%22w%C3%B6rd/1", 'p@ss\\"w\\u00f6rd/1', 'p@ss\\"wörd/1']
    for form in [*forms, "cEBzcyJ3w7ZyZC8x"]:
        assert redactor.redact(f"a {form} b") == "a *** b"


def test_short_secret_is_masked_only_as_a_whole_word(tmp_path: Path) -> None:
    redactor = References({}, tmp_path).redactor
    redactor.add("no")
    redactor.add("  ")
    assert redactor.redact("no know  no1 'no'") == "*** know  no1 '***'"


def test_longer_secret_is_masked_before_its_prefix(tmp_path: Path) -> None:
    redactor = References({}, tmp_path).redactor
    redactor.add("abcd")
    redactor.add("abcdefgh")
    assert redactor.redact("abcdefgh abcd") == "*** ***"


def test_excerpt_does_not_show_part_of_a_secret(tmp_path: Path) -> None:
    redactor = References({}, tmp_path).redactor
    redactor.add("t0p-s3cret")
    for limit in range(4, 16):
        assert "t0p" not in redactor.excerpt(b"xxxxt0p-s3cretyyyy", limit)


def test_environment_overrides_the_dotenv_file_of_the_workspace(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "# the CRM\n\nexport CRM_URL=https://crm.example.com  # a comment\nCRM_TOKEN='t0p # s3cret'\n"
        'KEY="-----BEGIN\\nEND-----"\nNESTED=${CRM_TOKEN}\n'
    )
    references = References({"CRM_URL": "https://staging.example.com"}, tmp_path)
    assert references.resolve("${env:CRM_URL}") == "https://staging.example.com"
    assert references.resolve("${env:CRM_TOKEN}") == "t0p # s3cret"
    assert references.resolve("${env:KEY}") == "-----BEGIN\nEND-----"
    assert references.resolve("${env:NESTED}") == "${CRM_TOKEN}"
    with pytest.raises(UnresolvedReference, match="Did you mean 'CRM_TOKEN'") as caught:
        references.resolve("${env:CRM_TOKN}")
    assert "or in the workspace's .env" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"A=1\nexport ='t0p'\n", "\\.env:2: expected NAME=value"),
        (b"A=\xff\n", "\\.env: cannot be read: it is not UTF-8"),
    ],
)
def test_unreadable_dotenv_file_is_reported_with_its_location_and_without_content(
    text: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_bytes(text)
    assert References({"HOST": "x"}, tmp_path).resolve("${env:HOST}") == "x"
    with pytest.raises(UnresolvedReference, match=message) as caught:
        References({}, tmp_path).resolve("${env:HOST}")
    assert "t0p" not in str(vars(caught.value))


def test_references_of_settings_are_listed_by_name() -> None:
    auth = BasicAuth(type="basic", username="${env:U}@${env:HOST}", password="${vault: kv/crm#pw }")
    assert find_references(auth) == ["env:U", "env:HOST", "vault:kv/crm#pw"]
