"""A secret is masked in every encoding in which a system may return it."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable
from typing import Final
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speclab.connectors.secrets.redaction import Redactor

SECRETS: Final = (
    "s3cr3t-Key/+=42",
    'p@ss"wörd & <1>',
    "AbCdEfGh",
    "-----_____A1b2",
    "100%25%2Fsure",
    "back\\slash\\n8",
)
OTHERS: Final = ("the quick brown fox", "https://api.example.com/v1/people?page=2", "SECRET key", '{"message": "no"}')


def every_character(secret: str) -> str:
    return "".join(f"%{byte:02x}" for byte in secret.encode())


FORMS: Final[dict[str, Callable[[str], str]]] = {
    "as it is": str,
    "lower case": str.lower,
    "upper case": str.upper,
    "percent": lambda secret: quote(secret, safe=""),
    "percent in lower case": lambda secret: quote(secret, safe="").lower(),
    "percent, path": quote,
    "form": quote_plus,
    "percent twice": lambda secret: quote(quote(secret, safe=""), safe=""),
    "percent three times": lambda secret: quote(quote(quote(secret, safe=""), safe=""), safe=""),
    "percent, every character": every_character,
    "percent twice, every character": lambda secret: quote(every_character(secret), safe="").lower(),
    "JSON": lambda secret: json.dumps(secret)[1:-1],
    "JSON within JSON": lambda secret: json.dumps(json.dumps(secret)[1:-1])[1:-1],
    "HTML": html.escape,
    "HTML twice": lambda secret: html.escape(html.escape(secret)),
    "HTML, numbers": lambda secret: "".join(f"&#{ord(one)};" for one in secret),
    "HTML, hexadecimal": lambda secret: "".join(f"&#x{ord(one):X};" for one in secret),
    "hexadecimal": lambda secret: secret.encode().hex(),
    "hexadecimal in upper case": lambda secret: secret.encode().hex().upper(),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("secret", SECRETS)
def test_secret_is_masked_in_every_encoding(secret: str, form: str) -> None:
    redactor = Redactor()
    redactor.add(secret)
    assert redactor.redact(f"a {FORMS[form](secret)} b") == "a *** b"


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("before", ["", "a", "ab", "abc", "user:", "x" * 50])
@pytest.mark.parametrize("after", ["", "z", "zz", "zzz"])
def test_secret_within_base64_is_masked_at_any_offset(secret: str, before: str, after: str) -> None:
    redactor = Redactor()
    redactor.add(secret)
    whole = (before + secret + after).encode()
    for encoded in (base64.b64encode(whole).decode(), base64.urlsafe_b64encode(whole).decode()):
        for text in (encoded, encoded.rstrip("="), encoded.lower(), quote(encoded, safe=""), json.dumps(encoded)[1:-1]):
            shown = redactor.redact(f"token {text} refused")
            assert "***" in shown
            for part in (encoded[len(before) * 8 // 6 + 1 :][:6], encoded.lower()[len(before) * 8 // 6 + 1 :][:6]):
                assert part not in shown.replace("%2B", "+").replace("%2F", "/")


@pytest.mark.parametrize("text", OTHERS)
def test_text_without_a_secret_stays_as_it_is(text: str) -> None:
    redactor = Redactor()
    for secret in SECRETS:
        redactor.add(secret)
    assert redactor.redact(text) == text


def test_only_the_secret_is_masked_and_adjacent_text_is_kept() -> None:
    redactor = Redactor()
    redactor.add("s3cr3t/Key")
    assert redactor.redact('{"a": "\\"s3cr3t\\/Key\\"", "é": "%C3%A9s3cr3t%2FKey%C3%A9"}') == (
        '{"a": "\\"***\\"", "é": "%C3%A9***%C3%A9"}'
    )


def test_shortest_secrets_are_masked_only_in_their_exact_case() -> None:
    redactor = Redactor()
    redactor.add("Orders7")
    assert redactor.redact("Orders7 orders7 %4Frders7") == "*** orders7 %4Frders7"


@given(st.text(min_size=1, max_size=40), st.text(max_size=200), st.text(max_size=200))
def test_no_secret_is_left_and_no_text_fails(secret: str, before: str, after: str) -> None:
    redactor = Redactor()
    redactor.add(secret)
    shown = redactor.redact(before + secret + after)
    if len(secret) >= 8 and secret.strip() and "***" not in secret:
        assert secret not in shown


@given(
    st.lists(st.sampled_from(["%", "25", "2F", "\\", "u00", "41", "&", "amp;", "#x2f;", "é", "s3cr3t/Key", "\udcff"]))
)
def test_mixed_encodings_keep_text_that_is_not_secret(pieces: list[str]) -> None:
    redactor = Redactor()
    redactor.add("another-secret")
    text = "".join(pieces)
    assert redactor.redact(text) == text
    redactor.add("s3cr3t/Key")
    assert "s3cr3t/Key" not in redactor.redact(text)
