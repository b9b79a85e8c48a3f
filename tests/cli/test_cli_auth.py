"""`speclab auth` as a process: exit codes, output and stored logins."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import ClassVar

import pytest
from tests.cli.conftest import Api, Shell

BEARER = "type: bearer\ntoken: ${env:CRM_TOKEN}"


@pytest.fixture
def shell(shell: Shell) -> Shell:
    return Shell(shell.directory, {"XDG_STATE_HOME": str(shell.directory / "state"), "CRM_TOKEN": "t0p-s3cret"})


def test_auth_grants_access_to_both_endpoints(shell: Shell, api: Api) -> None:
    shell.spec(api.source(), auth=BEARER)
    done = shell("auth", "people")
    assert done.stdout.splitlines() == [
        "source: http, bearer",
        "  secrets  env:CRM_TOKEN",
        f"  request  GET {api.url}/people: 1 record",
        "  connected",
        "target: file, none",
        "  request  out.jsonl: not there yet; a run makes it",
        "  connected",
    ]
    assert not (shell.directory / "out.jsonl").exists()


def test_denied_request_shows_the_response_without_secrets(shell: Shell, api: Api) -> None:
    api.status, api.body = 401, '{"message": "t0p-s3cret has expired"}'
    shell.spec(api.source(), auth=BEARER)
    done = shell("auth", "people", "source", exit_code=4)
    assert "401 Unauthorized: *** has expired" in done.stderr
    assert "Check the Auth section and the secrets it references." in done.stderr
    assert done.stdout.splitlines()[-1] == "  refused"
    (row,) = shell.rows("auth", "people", "source", exit_code=4)
    assert (row["end"], row["auth"], row["granted"], row["token"]) == ("source", "bearer", False, None)
    assert row["error"].endswith("401 Unauthorized: *** has expired")
    assert "t0p-s3cret" not in done.stdout + done.stderr + json.dumps(row)


def test_unset_reference_exits_3(shell: Shell, api: Api) -> None:
    shell.spec(api.source(), auth=BEARER.replace("CRM_TOKEN", "CRM_TOKN"))
    done = shell("auth", "people", "source", exit_code=3)
    assert "the environment variable CRM_TOKN is not set. Did you mean 'CRM_TOKEN'?" in done.stderr


def test_auth_works_before_the_mapping_is_complete(shell: Shell, api: Api) -> None:
    path = shell.spec(api.source(), auth=BEARER, step="NoSuchStep")
    path.write_text(path.read_text().replace("connector: file\npath: out.jsonl", "connector: nothing"))
    shell("auth", "people", "source")
    done = shell("auth", "people", "target", exit_code=3)
    assert "specs/people.md: the target is not valid" in done.stderr
    assert "S204 unknown connector 'nothing'" in done.stderr


@pytest.fixture
def device() -> Iterator[str]:
    """An authorization server whose user enters the code at the second poll, and the list behind it."""

    class Handler(BaseHTTPRequestHandler):
        looks: ClassVar[list[str]] = []

        def do_POST(self) -> None:
            form = self.rfile.read(int(self.headers["Content-Length"])).decode()
            if self.path == "/device":
                self._say(
                    200,
                    {"device_code": "dev", "user_code": "WDJB-MJHT", "verification_uri": "https://id.example.com/go"}
                    | {"interval": 0.05, "expires_in": 300},
                )
            elif not self.looks and "device_code=dev" in form:
                self.looks.append(form)
                self._say(400, {"error": "authorization_pending"})
            else:
                self._say(200, {"access_token": "the-access-token", "token_type": "Bearer", "expires_in": 3600})

        def do_GET(self) -> None:
            good = self.headers["Authorization"] == "Bearer the-access-token"
            self._say(200 if good else 401, {"data": [{"id": 1, "name": "Ada"}]})

        def _say(self, status: int, body: object) -> None:
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called there
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_device_code_login_is_stored_for_later_runs(shell: Shell, device: str) -> None:
    auth = f"type: oauth2\nflow: device_code\ntoken_url: {device}/token\ndevice_url: {device}/device\nclient_id: me"
    shell.spec(Api(device).source(), auth=auth)
    assert "`speclab auth` with the spec's name" in shell("run", "people", exit_code=4).stderr
    done = shell("auth", "people", "source")
    assert "open https://id.example.com/go on any device and enter the code WDJB-MJHT, within 5m" in done.stderr
    assert "  token    new, expires at 20" in done.stdout
    shell("run", "people")
    assert (shell.directory / "out.jsonl").read_text() == '{"id":1,"name":"Ada"}\n'
    (row,) = shell.rows("auth", "people", "source")
    assert (row["auth"], row["granted"], row["token"]) == ("oauth2 device_code", True, "kept")
    written = b"".join(path.read_bytes() for path in (shell.directory / ".speclab").rglob("*") if path.is_file())
    assert b"the-access-token" not in written
