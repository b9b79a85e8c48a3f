"""Signature Version 4, compared with AWS's published test suite and AWS's own signer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import httpx
import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from speclab.connectors.auth.credentials import sign
from speclab.spec.auth import AwsAuth

NOW: Final = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
SECRET: Final = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
HOST: Final = "https://example.amazonaws.com"


def keys(service: str = "service", session_token: str | None = None) -> AwsAuth:
    return AwsAuth(
        type="aws_sigv4",
        region="us-east-1",
        service=service,
        access_key="AKIDEXAMPLE",
        secret_key=SECRET,
        session_token=session_token,
    )


def authorization(
    method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b"", service: str = "service"
) -> str:
    request = httpx.Request(method, HOST + path, headers=headers, content=body)
    sign(request, keys(service), NOW)
    return request.headers["Authorization"]


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "signature"),
    [
        # get-vanilla
        ("GET", "/", {}, b"", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        # post-vanilla
        ("POST", "/", {}, b"", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        # get-relative
        ("GET", "/example/..", {}, b"", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        # get-slashes
        ("GET", "//example//", {}, b"", "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84"),
        # get-vanilla-query-order-key-case
        (
            "GET",
            "/?Param2=value2&Param1=value1",
            {},
            b"",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        # get-vanilla-query-order-encoded
        (
            "GET",
            "/?Param-3=Value3&Param=Value2&\u1234=Value1",
            {},
            b"",
            "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac",
        ),
        # post-header-value-case
        (
            "POST",
            "/",
            {"My-Header1": "VALUE1"},
            b"",
            "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
        ),
        # get-header-value-trim
        (
            "GET",
            "/",
            {"My-Header1": " value1", "My-Header2": ' "a   b   c"'},
            b"",
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        ),
        # post-x-www-form-urlencoded
        (
            "POST",
            "/",
            {"Content-Type": "application/x-www-form-urlencoded"},
            b"Param1=value1",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
    ],
)
def test_request_of_the_aws_test_suite_has_its_signature(
    method: str, path: str, headers: dict[str, str], body: bytes, signature: str
) -> None:
    signed = authorization(method, path, headers, body)
    assert signed.startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, ")
    assert signed.endswith(f"Signature={signature}")


def by_botocore(method: str, url: str, body: bytes, service: str) -> str:
    signer = (S3SigV4Auth if service == "s3" else SigV4Auth)(Credentials("AKIDEXAMPLE", SECRET), service, "us-east-1")
    request = AWSRequest(method=method, url=url, data=body, headers={"Content-Type": "application/json"})
    moment = NOW.strftime("%Y%m%dT%H%M%SZ")
    request.context["timestamp"] = moment
    request.headers["X-Amz-Date"] = moment
    if service == "s3":
        request.headers["X-Amz-Content-SHA256"] = signer.payload(request)
    canonical = signer.canonical_request(request)
    return str(signer.signature(signer.string_to_sign(request, canonical), request))


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\\"), max_size=8)


@given(
    steps=st.lists(TEXT.filter(lambda step: step not in {"", ".", ".."}), max_size=4),
    query=st.lists(st.tuples(TEXT, TEXT), max_size=4),
    body=st.binary(max_size=20),
    service=st.sampled_from(["execute-api", "s3"]),
)
def test_any_request_is_signed_as_botocore_signs_it(
    steps: list[str], query: list[tuple[str, str]], body: bytes, service: str
) -> None:
    def encoded(text: str) -> str:
        return "".join(
            chr(byte) if chr(byte).isascii() and (chr(byte).isalnum() or chr(byte) in "-_.~") else f"%{byte:02X}"
            for byte in text.encode()
        )

    path = "/" + "/".join(encoded(step) for step in steps)
    if query:
        path += "?" + "&".join(f"{encoded(name)}={encoded(value)}" for name, value in query)
    ours = authorization("POST", path, {"Content-Type": "application/json"}, body, service)
    assert ours.rpartition("=")[2] == by_botocore("POST", HOST + path, body, service)


def test_temporary_keys_send_their_token_and_sign_it() -> None:
    request = httpx.Request("GET", HOST)
    sign(request, keys(session_token="the-token"), NOW)
    assert request.headers["X-Amz-Security-Token"] == "the-token"
    assert "SignedHeaders=host;x-amz-date;x-amz-security-token," in request.headers["Authorization"]


def test_headers_changed_by_proxies_are_not_signed() -> None:
    request = httpx.Request("GET", HOST, headers={"User-Agent": "speclab", "Accept-Encoding": "gzip"}, content=b"x")
    sign(request, keys(), NOW)
    assert "SignedHeaders=host;x-amz-date," in request.headers["Authorization"]
