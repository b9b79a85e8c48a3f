"""Tokens: requested when needed, renewed before they expire and once after a 401, cached, and never requested twice."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest
from aiohttp import web
from tests.clocks import HeldClock
from tests.connectors.conftest import Reports, Serve, item, read_all, records_of
from tests.connectors.issuer import CLIENT_ID, CLIENT_SECRET, Issuer

from speclab.connectors.api import Reader, RuntimeContext
from speclab.connectors.auth.oauth2 import TokenFile, Tokens
from speclab.connectors.registry import open_reader, open_writer
from speclab.connectors.secrets.references import References
from speclab.core.errors import EndpointError, SpecError, Unauthorized, Unreachable
from speclab.core.json import Json
from speclab.core.outcome import Effect, ErrorClass
from speclab.spec.auth import OAuth2Auth
from speclab.spec.settings import RetrySettings

Open = Callable[..., Reader]


@pytest.fixture
async def issuer(serve: Serve) -> Issuer:
    issuer = Issuer()
    issuer.url = await serve(issuer)
    return issuer


@pytest.fixture
def context(context: RuntimeContext, tmp_path: Path) -> RuntimeContext:
    return replace(context, tokens=tmp_path / "state" / "tokens")


@pytest.fixture
def opened(issuer: Issuer, references: References, context: RuntimeContext) -> Open:
    """Return a reader of the list in a new context, as in a separate run."""

    def reader(auth: OAuth2Auth | None = None) -> Reader:
        retry = RetrySettings.model_validate({"attempts": 2, "base": "1s", "cap": "1m"})
        return open_reader(issuer.system(), auth or issuer.auth(), references, context, retry)

    return reader


def kept(context: RuntimeContext) -> list[dict[str, Json]]:
    assert context.tokens is not None
    return [json.loads(path.read_text()) for path in context.tokens.glob("*.json")]


async def test_client_gets_a_token_for_its_secret(issuer: Issuer, opened: Open) -> None:
    assert len(records_of(await read_all(opened()))) == 1
    assert issuer.requested == [{"grant_type": "client_credentials"}]


async def test_secret_can_be_sent_in_the_body(issuer: Issuer, opened: Open) -> None:
    await read_all(opened(issuer.auth(client_auth="post", scope="read write", audience="crm", params={"x": "y"})))
    assert issuer.authorizations == [""]
    assert issuer.requested == [
        {
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "grant_type": "client_credentials",
            "scope": "read write",
            "audience": "crm",
            "x": "y",
        }
    ]


async def test_token_is_cached_for_the_next_run_of_this_user_only(
    issuer: Issuer, opened: Open, context: RuntimeContext
) -> None:
    await read_all(opened())
    await read_all(opened())
    assert (issuer.read, len(issuer.requested)) == (2, 1)
    assert context.tokens is not None
    assert context.tokens.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in context.tokens.iterdir()} == {0o600}
    assert CLIENT_SECRET not in str(kept(context))


async def test_different_token_request_has_its_own_token(issuer: Issuer, opened: Open) -> None:
    await read_all(opened())
    await read_all(opened(issuer.auth(scope="more")))
    await read_all(opened(issuer.auth(account="ada")))
    assert len(issuer.requested) == 3
    with pytest.raises(Unauthorized, match="invalid_client: unknown client"):
        await read_all(opened(issuer.auth(client_secret="another")))


@pytest.mark.parametrize(
    ("lifetime", "slept", "requested"),
    [
        (3600, 3569, 1),
        (3600, 3571, 2),
        ("3600", 3571, 2),  # as text, as some servers write it
        (3600, 3700, 2),
        (20, 9, 1),  # for a token with a lifetime below the margin: half its lifetime
        (20, 11, 2),
        (None, 10**9, 1),  # unknown lifetime: the 401 shows that it has expired
        (10**30, 10**9, 1),
        ("inf", 10**9, 1),
    ],
)
async def test_token_is_renewed_before_it_expires(
    lifetime: int | str | None, slept: float, requested: int, issuer: Issuer, opened: Open, clock: HeldClock
) -> None:
    issuer.lifetime = lifetime
    reader = opened()
    assert [page async for page in reader.pages(None, full=True)]
    await clock.sleep(slept)
    assert [page async for page in reader.pages(None, full=True)]
    await reader.close()
    assert len(issuer.requested) == requested


async def test_token_that_expires_during_a_run_is_renewed_and_the_request_repeated(
    issuer: Issuer, opened: Open
) -> None:
    reader = opened()
    for _ in range(2):
        issuer.revoke()
        assert [page async for page in reader.pages(None, full=True)]
    await reader.close()
    assert (issuer.read, issuer.rejected, len(issuer.requested)) == (2, 1, 2)


async def test_rejected_new_token_ends_the_run(serve: Serve, references: References, context: RuntimeContext) -> None:
    issuer = Issuer()

    async def closed(request: web.Request) -> web.StreamResponse:
        issuer.revoke()
        return await issuer(request)

    issuer.url = await serve(closed)
    with pytest.raises(Unauthorized, match=r"/people: 401 Unauthorized: no good: Bearer \*\*\*"):
        await read_all(open_reader(issuer.system(), issuer.auth(), references, context))
    assert (issuer.rejected, len(issuer.requested)) == (2, 2)


async def test_rejected_write_is_repeated_with_the_new_token(
    issuer: Issuer, references: References, context: RuntimeContext
) -> None:
    writer = open_writer(issuer.system(), issuer.auth(), references, context)
    await writer.write([item("a")])
    issuer.revoke()
    results = await writer.write([item(str(number)) for number in range(8)])
    await writer.close()
    assert [result.effect for result in results] == [Effect.CREATED] * 8
    assert len(issuer.written) == 9
    assert len(issuer.requested) == 2  # eight were rejected at once, and one of them requested a token


async def test_concurrent_requests_wait_for_one_token(
    issuer: Issuer, references: References, context: RuntimeContext
) -> None:
    issuer.delay = 0.05
    writer = open_writer(issuer.system(), issuer.auth(), references, context)
    results = await writer.write([item(str(number)) for number in range(8)])
    await writer.close()
    assert [result.effect for result in results] == [Effect.CREATED] * 8
    assert len(issuer.requested) == 1


async def test_each_new_refresh_token_is_kept_and_used(issuer: Issuer, opened: Open, context: RuntimeContext) -> None:
    auth = issuer.auth("refresh_token", refresh_token=issuer.seed())
    for number in range(1, 4):
        await read_all(opened(auth))
        assert [token["refresh_token"] for token in kept(context)] == [f"refresh-token-{number}"]
        issuer.revoke()
    assert [form["refresh_token"] for form in issuer.requested] == [
        "seed-refresh-token",
        "refresh-token-1",
        "refresh-token-2",
    ]


async def test_refresh_token_without_rotation_is_reused(issuer: Issuer, opened: Open) -> None:
    issuer.rotates = False
    auth = issuer.auth("refresh_token", refresh_token=issuer.seed(), scope="read")
    for _ in range(2):
        await read_all(opened(auth))
        issuer.revoke()
    assert {(form["refresh_token"], form["scope"]) for form in issuer.requested} == {("seed-refresh-token", "read")}


async def test_new_refresh_token_in_the_spec_replaces_the_cached_token(issuer: Issuer, opened: Open) -> None:
    await read_all(opened(issuer.auth("refresh_token", refresh_token=issuer.seed())))
    await read_all(opened(issuer.auth("refresh_token", refresh_token=issuer.seed("another"))))
    assert [form["refresh_token"] for form in issuer.requested] == ["seed-refresh-token", "another"]


async def test_revoked_refresh_token_shows_the_server_message(issuer: Issuer, opened: Open) -> None:
    auth = issuer.auth("refresh_token", refresh_token="never-given-out")
    with pytest.raises(Unauthorized) as caught:
        await read_all(opened(auth))
    assert caught.value.message == (
        f"POST {issuer.url}/oauth/token refuses to give a token: invalid_grant: *** is revoked"
    )
    assert caught.value.hint.startswith("The refresh token is used up, expired or revoked; put a new one")
    assert "never-given-out" not in str(vars(caught.value))
    assert caught.value.exit_code == 4


async def test_login_that_ends_during_a_run_halts_the_writer_with_a_hint(
    issuer: Issuer, references: References, context: RuntimeContext
) -> None:
    auth = issuer.auth("refresh_token", refresh_token=issuer.seed())
    writer = open_writer(issuer.system(), auth, references, context)
    await writer.write([item("a")])
    issuer.revoke()
    issuer.refresh.clear()
    results = await writer.write([item(str(number)) for number in range(20)])
    await writer.close()
    refusals = [result.error for result in results]
    assert all(
        write_error and write_error.error_class is ErrorClass.UNAUTHORIZED and not write_error.sent
        for write_error in refusals
    )
    assert refusals[0] is not None
    assert "invalid_grant: *** is revoked. The refresh token is used up" in refusals[0].message
    assert len(issuer.written) == 1


async def test_cancelled_request_does_not_lose_the_new_refresh_token(
    issuer: Issuer, references: References, context: RuntimeContext
) -> None:
    issuer.delay = 0.1
    tokens = Tokens(issuer.auth("refresh_token", refresh_token=issuer.seed()), references.redactor, context)
    waiting = asyncio.create_task(tokens.current())
    await issuer.was_asked.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await tokens.close()
    assert [token["refresh_token"] for token in kept(context)] == ["refresh-token-1"]


PROCESS = dedent("""\
    import asyncio, sys, urllib.request
    from pathlib import Path
    from random import Random

    from speclab.core.clock import SystemClock
    from speclab.connectors.registry import sample
    from speclab.connectors.secrets.references import References
    from speclab.connectors.api import RuntimeContext
    from speclab.spec.auth import OAuth2Auth
    from speclab.connectors.http.settings import HttpSystem

    url, tokens, system, auth = sys.argv[1:]
    urllib.request.urlopen(url + "/both-are-here").read()
    found = asyncio.run(
        sample(
            HttpSystem.model_validate_json(system),
            OAuth2Auth.model_validate_json(auth),
            References({}, Path()),
            RuntimeContext(SystemClock(), Random(), tokens=Path(tokens)),
            1,
        )
    )
    assert found == [{"id": 1}], found
""")


async def test_two_processes_renew_a_token_once(issuer: Issuer, opened: Open, context: RuntimeContext) -> None:
    """A second renewal would use a refresh token that the first has already used, and the login would be lost."""
    auth = issuer.auth("refresh_token", refresh_token=issuer.seed())
    await read_all(opened(auth))
    issuer.revoke()
    for path in (context.tokens or Path()).glob("*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "expires_at": 1.0}))
    issuer.delay = 0.3
    arguments = [
        issuer.url,
        str(context.tokens),
        *(one.model_dump_json(exclude_defaults=True) for one in (issuer.system(), auth)),
    ]
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", PROCESS, *arguments, stderr=asyncio.subprocess.PIPE)
        for _ in range(2)
    ]
    outputs = await asyncio.gather(*(process.communicate() for process in processes))
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert issuer.count("refresh_token") == 2  # one for the read at the start of the test
    assert (issuer.read, issuer.rejected) == (3, 0)


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (web.Response(text="<html>Login</html>"), "answered 200 and gave no token"),
        (web.json_response({"token": "x"}), "gave no token"),
        (web.json_response({"access_token": "x", "token_type": "mac"}), "gave a token of the type 'mac'"),
        (web.json_response(["no"], status=404), "answered 404 and gave no token"),
        (web.Response(status=307, headers={"Location": "https://elsewhere.example.com/"}), "answered 307 and gave no"),
        (web.json_response({"error": "invalid_scope"}, status=200), "refuses to give a token: invalid_scope"),
    ],
)
async def test_response_without_a_token_is_shown(odd: web.Response, message: str, issuer: Issuer, opened: Open) -> None:
    issuer.odd = odd
    with pytest.raises(Unauthorized) as caught:
        await read_all(opened())
    assert message in caught.value.message
    assert caught.value.response.startswith(str(odd.status))
    assert len(issuer.requested) == 1


async def test_unavailable_token_endpoint_is_retried(
    issuer: Issuer, opened: Open, clock: HeldClock, reports: Reports
) -> None:
    issuer.odd = web.Response(status=503, text="tomorrow")
    with pytest.raises(Unreachable, match=r"no token: POST .*/oauth/token: 503 \(tried 2 times\)"):
        await read_all(opened())
    assert len(clock.naps) == 1
    assert len(reports.lines) == 1


async def test_missing_token_endpoint_is_unreachable(opened: Open, issuer: Issuer) -> None:
    auth = issuer.auth().model_copy(update={"token_url": "http://127.0.0.1:9/oauth/token"})
    with pytest.raises(Unreachable, match=r"no token: http://127\.0\.0\.1:9/oauth/token: cannot connect"):
        await read_all(opened(auth))


async def test_missing_login_says_how_to_log_in(opened: Open, issuer: Issuer) -> None:
    with pytest.raises(Unauthorized, match="is not there yet; `speclab auth` with the spec's name makes a new one"):
        await read_all(opened(issuer.auth("device_code")))
    assert issuer.requested == []


async def test_damaged_token_file_is_replaced(issuer: Issuer, opened: Open, context: RuntimeContext) -> None:
    await read_all(opened())
    for path in (context.tokens or Path()).glob("*.json"):
        path.write_text('{"access_token": "half a')
    await read_all(opened())
    assert len(issuer.requested) == 2


async def test_client_credentials_need_no_token_directory_and_a_login_does(
    issuer: Issuer, references: References, context: RuntimeContext, tmp_path: Path, reports: Reports
) -> None:
    (tmp_path / "file").write_text("")
    context = replace(context, tokens=tmp_path / "file")
    await read_all(open_reader(issuer.system(), issuer.auth(), references, context))
    assert "warning: tokens are not kept: File exists" in reports.lines[0]
    auth = issuer.auth("refresh_token", refresh_token=issuer.seed())
    with pytest.raises(EndpointError, match=r"the login cannot be kept: .*: File exists"):
        await read_all(open_reader(issuer.system(), auth, references, context))
    assert issuer.count("refresh_token") == 0  # it would have been used up
    with pytest.raises(SpecError):
        await Tokens(auth, references.redactor, context).current()


def test_login_survives_a_new_client_secret(tmp_path: Path) -> None:
    issuer = Issuer("https://id.example.com")

    def path(flow: str, **settings: Json) -> Path:
        return TokenFile(tmp_path, issuer.auth(flow, **settings)).path

    assert path("device_code") == path("device_code", client_secret="another")
    assert path("client_credentials") != path("client_credentials", client_secret="another")
