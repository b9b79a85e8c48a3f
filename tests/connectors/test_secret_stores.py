"""Secrets in a keyring, in Vault, and in AWS Secrets Manager."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import keyring
import pytest
from aiohttp import web
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked
from tests.connectors.conftest import Serve, read_all

from speclab.connectors.api import RuntimeContext
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.registry import open_reader
from speclab.connectors.secrets.references import References
from speclab.core.errors import UnresolvedReference
from speclab.core.json import Json
from speclab.spec.auth import BearerAuth


class Drawer(KeyringBackend):
    """A keyring that may be locked."""

    priority = 1.0

    passwords: dict[tuple[str, str], str]
    locked: bool

    def get_password(self, service: str, username: str) -> str | None:
        if self.locked:
            raise KeyringLocked("the keyring is locked")
        return self.passwords.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.passwords[service, username] = password


@pytest.fixture
def drawer() -> Iterator[Drawer]:
    before = keyring.get_keyring()
    drawer = Drawer()  # type: ignore[no-untyped-call]  # keyring's own
    drawer.passwords, drawer.locked = {}, False
    keyring.set_keyring(drawer)
    yield drawer
    keyring.set_keyring(before)


def rejected(references: References, text: str) -> UnresolvedReference:
    with pytest.raises(UnresolvedReference) as caught:
        references.resolve(text)
    return caught.value


def test_password_in_the_keyring_is_found_by_service_and_name(drawer: Drawer, references: References) -> None:
    keyring.set_password("crm/prod", "client_secret", "t0p-s3cret")
    assert references.resolve("${keyring:crm/prod/client_secret}") == "t0p-s3cret"
    assert references.redactor.redact("t0p-s3cret") == "***"
    error = rejected(references, "${keyring:crm/token}")
    assert error.message == "${keyring:crm/token}: the keyring has no such password"
    assert error.hint == "`keyring set crm token` puts it there."
    drawer.locked = True
    assert rejected(references, "${keyring:crm/token}").message == "${keyring:crm/token}: the keyring is locked"
    assert references.resolve("${keyring:crm/prod/client_secret}") == "t0p-s3cret"  # requested once


@pytest.mark.parametrize(("kind", "module"), [("keyring", "keyring"), ("aws", "botocore.exceptions")])
def test_missing_store_package_is_named(
    kind: str, module: str, references: References, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    error = rejected(references, f"${{{kind}:crm/token#x}}")
    assert f"needs the extra '{kind}', which this installation has not" in error.message
    assert error.hint == f"pip install 'speclab-tui[{kind}]'"


async def vault(request: web.Request) -> web.Response:
    """Vault's key-value store, version 2, as described in its API documentation."""
    if request.headers.get("X-Vault-Token") != "vault-t0ken":
        message = f"permission denied for {request.headers.get('X-Vault-Token')}"
        return web.json_response({"errors": [message]}, status=403)
    if request.headers.get("X-Vault-Namespace") == "elsewhere":
        return web.Response(status=503, text="sealed")
    if request.path != "/v1/kv/data/teams/crm prod":
        return web.json_response({"errors": []}, status=404)
    data: Json = {"token": "t0p-s3cret", "port": 8443, "nested": {}}
    return web.json_response({"data": {"data": data, "metadata": {"version": 3}}})


@pytest.fixture
async def in_vault(serve: Serve, tmp_path: Path) -> References:
    return References({"VAULT_ADDR": f"{await serve(vault)}/", "VAULT_TOKEN": "vault-t0ken"}, tmp_path)


async def fetched(references: References, text: str) -> str:
    """Return the value of the reference `text`, without blocking the server that responds."""
    settings = BearerAuth(type="bearer", token=text)
    await references.fetch(settings)
    return references.resolve_settings(settings).token


async def test_value_in_vault_is_found_by_path_and_key(in_vault: References) -> None:
    assert await fetched(in_vault, "${vault:kv/teams/crm prod#token}") == "t0p-s3cret"
    assert await fetched(in_vault, "${vault:kv/data/teams/crm prod#token}") == "t0p-s3cret"
    assert await fetched(in_vault, "${vault:kv/teams/crm prod#port}") == "8443"
    assert in_vault.redactor.redact("t0p-s3cret vault-t0ken") == "*** ***"


@pytest.mark.parametrize(
    ("name", "environ", "message"),
    [
        ("kv/teams/crm prod#tokn", {}, "there is no 'tokn' in it; did you mean 'token'?"),
        ("kv/teams/crm prod#nested", {}, "'nested' is no text"),
        ("kv/nothing#token", {}, "there is no such secret, or it was deleted"),
        ("kv/x#token", {"VAULT_TOKEN": "stale-t0ken"}, "Vault refuses VAULT_TOKEN: permission denied for ***"),
        ("kv/x#token", {"VAULT_NAMESPACE": "elsewhere"}, "Vault answered 503"),
        ("kv/x#token", {"VAULT_TOKEN": ""}, "needs VAULT_TOKEN, which is not set"),
        ("kv/x#token", {"VAULT_ADDR": "http://127.0.0.1:9"}, "127.0.0.1:9/v1/kv/data/x: cannot connect"),
        ("kv/x#token", {"VAULT_ADDR": "http://vault:port"}, "VAULT_ADDR is no URL"),
    ],
)
async def test_vault_errors_are_reported(
    name: str, environ: dict[str, str], message: str, serve: Serve, tmp_path: Path
) -> None:
    surroundings = {"VAULT_ADDR": await serve(vault), "VAULT_TOKEN": "vault-t0ken", **environ}
    with pytest.raises(UnresolvedReference) as caught:
        await fetched(References(surroundings, tmp_path), f"${{vault:{name}}}")
    assert caught.value.message.startswith(f"${{vault:{name}}}")
    assert message in caught.value.message
    assert "t0ken" not in str(vars(caught.value)).replace("VAULT_TOKEN", "")


async def test_reader_fetches_vault_secrets(serve: Serve, in_vault: References, context: RuntimeContext) -> None:
    seen: list[str] = []

    async def people(request: web.Request) -> web.Response:
        seen.append(request.headers["Authorization"])
        return web.json_response([])

    auth = BearerAuth(type="bearer", token="${vault:kv/teams/crm prod#token}")
    settings: dict[str, Json] = {"connector": "http", "base_url": await serve(people), "key": "id"}
    system = HttpSystem.model_validate({**settings, "read": {"path": "/people"}})
    await in_vault.fetch(auth)
    await read_all(open_reader(system, auth, in_vault, context))
    assert seen == ["Bearer t0p-s3cret"]


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[References]:
    """AWS Secrets Manager with GetSecretValue, and a workspace whose `.env` has the access keys."""
    secrets = {"prod/crm": '{"token": "t0p-s3cret"}', "prod/plain": "t0p-s3cret"}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers["X-Amz-Target"] == "secretsmanager.GetSecretValue"
            assert "Credential=AKID/" in self.headers["Authorization"]
            name = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["SecretId"]
            found = name in secrets
            answer = (
                {"SecretString": secrets[name]} if found else {"__type": "ResourceNotFoundException", "message": "no"}
            )
            body = json.dumps(answer).encode()
            self.send_response(200 if found else 400)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called there
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    (tmp_path / ".env").write_text(
        f"AWS_ENDPOINT_URL_SECRETS_MANAGER=http://127.0.0.1:{server.server_port}\nAWS_REGION=eu-central-1\n"
        "AWS_ACCESS_KEY_ID=AKID\nAWS_SECRET_ACCESS_KEY=aws-s3cret\n"
    )
    yield References({}, tmp_path)
    server.shutdown()
    server.server_close()
    thread.join()


def test_value_in_aws_is_found_by_name_and_key(aws: References) -> None:
    assert aws.resolve("${aws:prod/crm#token}") == "t0p-s3cret"
    assert aws.redactor.redact("t0p-s3cret aws-s3cret") == "*** ***"
    assert "there is no 'x' in it; there is 'token'" in rejected(aws, "${aws:prod/crm#x}").message
    assert "expected the secret to be a JSON object" in rejected(aws, "${aws:prod/plain#token}").message
    assert "ResourceNotFoundException" in rejected(aws, "${aws:prod/nothing#token}").message
