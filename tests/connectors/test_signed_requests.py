"""Signed requests: the parts that the spec names are signed, and the signature can be verified with the secret."""

from __future__ import annotations

import base64
import hashlib
import hmac
from pathlib import Path

import pytest
from aiohttp import web
from tests.clocks import HeldClock
from tests.connectors.conftest import Serve, item, read_all

from speclab.connectors.api import RuntimeContext
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.registry import open_reader, open_writer
from speclab.connectors.secrets.references import References
from speclab.core.errors import SpecError
from speclab.core.json import Json
from speclab.spec.auth import ApiKeyAuth, Auth, AwsAuth, BasicAuth, BearerAuth, HmacAuth, NoAuth

SECRET = "shared s3cret"


class Target:
    """A target that keeps its requests."""

    def __init__(self) -> None:
        self.requests: list[tuple[web.Request, bytes]] = []

    async def __call__(self, request: web.Request) -> web.Response:
        self.requests.append((request, await request.read()))
        return web.json_response([])


def system(url: str) -> HttpSystem:
    return HttpSystem.model_validate(
        {
            "connector": "http",
            "base_url": url,
            "key": "id",
            "read": {"path": "/people", "params": {"q": "a b&c"}, "pagination": {"by": "none"}},
            "write": {"create": "POST /people"},
        }
    )


def signed(over: str, **settings: Json) -> HmacAuth:
    return HmacAuth.model_validate(
        {"type": "hmac", "secret": SECRET, "header": "X-Signature", "over": over, **settings}
    )


def digest(text: bytes, algorithm: str = "sha256") -> bytes:
    return hmac.new(SECRET.encode(), text, algorithm).digest()


async def test_body_is_signed_as_webhooks_are(serve: Serve, references: References, context: RuntimeContext) -> None:
    target = Target()
    writer = open_writer(system(await serve(target)), signed("{body}", prefix="sha256="), references, context)
    await writer.write([item("a", name="Ada")])
    await writer.close()
    (request, body), *_ = target.requests
    assert body == b'{"id":"a","name":"Ada"}'
    assert request.headers["X-Signature"] == f"sha256={digest(body).hex()}"


async def test_every_part_of_a_request_can_be_signed(
    serve: Serve, references: References, context: RuntimeContext, clock: HeldClock
) -> None:
    target = Target()
    url = await serve(target)
    auth = signed(
        "{method}|{url}|{host}|{path}|{query}|{target}|{timestamp}|{nonce}|{body_hash}",
        algorithm="sha512",
        encoding="base64",
        timestamp="X-Time",
        nonce="X-Nonce",
    )
    await read_all(open_reader(system(url), auth, references, context))
    (request, _), *_ = target.requests
    query = "q=a%20b%26c"
    text = "|".join(
        [
            "GET",
            f"{url}/people?{query}",
            url.removeprefix("http://"),
            "/people",
            query,
            f"/people?{query}",
            request.headers["X-Time"],
            request.headers["X-Nonce"],
            hashlib.sha512(b"").hexdigest(),
        ]
    )
    assert request.headers["X-Time"] == str(int(clock.now().timestamp()))
    assert request.headers["X-Signature"] == base64.b64encode(digest(text.encode(), "sha512")).decode()


async def test_each_request_has_its_own_nonce(serve: Serve, references: References, context: RuntimeContext) -> None:
    target = Target()
    auth = signed("{nonce}", nonce="X-Nonce")
    writer = open_writer(system(await serve(target)), auth, references, context)
    await writer.write([item("a"), item("b")])
    await writer.close()
    assert len({request.headers["X-Nonce"] for request, _ in target.requests}) == 2


async def test_aws_keys_sign_a_request_at_the_time_of_sending(
    serve: Serve, references: References, context: RuntimeContext
) -> None:
    target = Target()
    auth = AwsAuth(type="aws_sigv4", region="eu-central-1", service="execute-api", access_key="AKID", secret_key="k")
    await read_all(open_reader(system(await serve(target)), auth, references, context))
    (request, _), *_ = target.requests
    assert request.headers["X-Amz-Date"] == "20261124T120000Z"
    assert request.headers["Authorization"].startswith(
        "AWS4-HMAC-SHA256 Credential=AKID/20261124/eu-central-1/execute-api/aws4_request, SignedHeaders=accept;host;"
    )


async def test_password_with_non_text_bytes_is_sent_unchanged(
    serve: Serve, references: References, context: RuntimeContext
) -> None:
    target = Target()
    auth = BasicAuth(type="basic", username="ada", password="caf\udce9")
    await read_all(open_reader(system(await serve(target)), auth, references, context))
    (request, _), *_ = target.requests
    assert request.headers["Authorization"] == f"Basic {base64.b64encode(b'ada:caf' + bytes([0xE9])).decode()}"


@pytest.mark.parametrize(
    ("auth", "message"),
    [
        (BearerAuth(type="bearer", token="t0p-s3cret\n"), "header Authorization must not contain line breaks"),
        (BearerAuth(type="bearer", token="t0p-s3cret\udc80"), "header Authorization: expected text in UTF-8"),
        (ApiKeyAuth(type="api_key", param="key", key="t0p-s3cret\udc80"), "parameter key: expected text in UTF-8"),
        (ApiKeyAuth(type="api_key", header="${env:SPACED}", key="t0p-s3cret"), "'X Key' is not a header name"),
        (
            HmacAuth(type="hmac", header="${env:COLON}", secret="t0p-s3cret", over="{body}"),
            "'X-Sig:' is not a header name",
        ),
        (
            AwsAuth(
                type="aws_sigv4", region="r", service="s", access_key="k", secret_key="x", session_token="t0p-s3cret\n"
            ),
            "header X-Amz-Security-Token must not contain line breaks",
        ),
    ],
)
def test_secret_invalid_in_a_header_is_reported_before_sending(
    auth: Auth, message: str, context: RuntimeContext, tmp_path: Path
) -> None:
    references = References({"SPACED": "X Key", "COLON": "X-Sig:"}, tmp_path)
    with pytest.raises(SpecError, match=message) as caught:
        open_reader(system("http://127.0.0.1:9"), auth, references, context)
    assert "t0p" not in str(caught.value) + repr(caught.value.__cause__)


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"X-Key": "${env:KEY}"}, "header X-Key must not contain line breaks"),
        ({"X-Text": "${env:BYTES}"}, "header X-Text: expected text in UTF-8"),
        ({"${env:KEY}": "1"}, "is not a header name; expected one such as X-Api-Key"),
    ],
)
def test_header_that_cannot_be_sent_is_an_error_of_the_spec(
    headers: Json, message: str, context: RuntimeContext, tmp_path: Path
) -> None:
    references = References({"KEY": "t0p-s3cret\n", "BYTES": "t0p\udc80"}, tmp_path)
    settings = {"connector": "http", "base_url": "http://127.0.0.1:9", "key": "id"}
    source = HttpSystem.model_validate({**settings, "headers": headers, "read": {"path": "/"}})
    target = HttpSystem.model_validate({**settings, "write": {"upsert": "PUT /{id}", "headers": headers}})
    with pytest.raises(SpecError, match=message) as caught:
        open_reader(source, NoAuth(), references, context)
    assert "t0p" not in str(caught.value)
    with pytest.raises(SpecError, match=message):
        open_writer(target, NoAuth(), references, context)
