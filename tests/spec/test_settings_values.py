"""Invalid values of settings are reported at their location."""

from __future__ import annotations

import pytest
from tests.spec.test_settings_models import FIRST, HTTP, problems_of, render

from speclab.connectors.file.settings import FileSystem
from speclab.connectors.http.settings import HttpSystem
from speclab.connectors.singer.settings import SingerSystem
from speclab.connectors.sql.settings import SqlSystem
from speclab.spec.auth import ApiKeyAuth, BasicAuth, HmacAuth, OAuth2Auth
from speclab.spec.settings import MappingSettings, Settings, VolumeSettings

NO_URL = "expected an http:// or https:// URL such as https://api.example.com"
OAUTH = "type: oauth2\nflow: client_credentials\nclient_id: a\nclient_secret: ${env:S}\n"
HMAC = "type: hmac\nsecret: ${env:S}\n"
SQL = "connector: sql\nkey: id\n"


@pytest.mark.parametrize(
    ("model", "yaml", "reported"),
    [
        (HttpSystem, "connector: http\nbase_url: crm.example.com\nkey: id\n", f"1:11 S203 `base_url`: {NO_URL}"),
        (HttpSystem, "connector: http\nbase_url: ftp://crm\nkey: id\n", f"1:11 S203 `base_url`: {NO_URL}"),
        (HttpSystem, 'connector: http\nbase_url: ""\nkey: id\n', f"1:11 S203 `base_url`: {NO_URL}"),
        (
            HttpSystem,
            "connector: http\nbase_url: https://a/b?c=d\nkey: id\n",
            "1:22 S203 expected `base_url` without `?` and `#`; put query parameters into `params`",
        ),
        (OAuth2Auth, f"{OAUTH}token_url: id.example.com/token\n", f"4:12 S203 `token_url`: {NO_URL}"),
        (
            SqlSystem,
            f"{SQL}url: customers.db\n",
            "2:6 S203 `url`: expected a database URL such as sqlite:///out/customers.db",
        ),
        (
            HttpSystem,
            f'{HTTP}headers: {{"X Y": a}}\n',
            "3:11 S203 `headers.X Y`: 'X Y' is not a header name; expected one such as X-Api-Key",
        ),
        (
            HttpSystem,
            f'{HTTP}headers: {{X: "a\\nb"}}\n',
            "3:14 S203 a header must not contain line breaks or other control characters",
        ),
        (
            HttpSystem,
            f"{HTTP}write: {{upsert: PUT /a, idempotency: Idempotency Key}}\n",
            "3:38 S203 `write.idempotency`: 'Idempotency Key' is not a header name; expected one such as X-Api-Key",
        ),
        (
            ApiKeyAuth,
            'type: api_key\nheader: "X: "\nkey: ${env:K}\n',
            "1:9 S203 `header`: 'X: ' is not a header name; expected one such as X-Api-Key",
        ),
        (
            HmacAuth,
            f"{HMAC}header: X\nover: '{{nonce}}'\nnonce: ''\n",
            "4:8 S203 `nonce`: '' is not a header name; expected one such as X-Api-Key",
        ),
        (
            HttpSystem,
            f"{HTTP}write: {{upsert: PUT /a, exists: [409, 4000]}}\n",
            "3:39 S203 `write.exists.1`: expected at most 599, got '4000'",
        ),
        (
            HttpSystem,
            f"{HTTP}read: {{path: /a, since: {{param: s, field: a..b}}}}\n",
            "3:45 S203 'a..b' is not a valid path: unexpected '.'",
        ),
        (
            HttpSystem,
            f'{HTTP}write: {{upsert: PUT /a, errors: {{at: "errors[*", field: a, message: b}}}}\n',
            "3:45 S203 'errors[*' is not a valid path: unexpected '['",
        ),
        (
            HttpSystem,
            f"{HTTP}limits: {{timeout: 0s}}\n",
            "3:19 S203 `limits.timeout`: expected a duration greater than zero, such as 30s",
        ),
        (
            SqlSystem,
            "connector: sql\nurl: sqlite:///a.db\nkey: [a, 1]\n",
            "2:10 S203 `key`: expected a name such as id",
        ),
        (
            FileSystem,
            "connector: file\npath: a.csv\nkey: [a, b..c]\n",
            "2:12 S203 `key`: 'b..c' is not a valid path: unexpected '.'",
        ),
        (
            FileSystem,
            'connector: file\nkey: id\npath: ""\n',
            "2:7 S203 `path` is empty: path or URL of the file, such as",
        ),
        (
            VolumeSettings,
            "records: 10\nguard: {least: 500%, most: 300%}\n",
            "1:9 S205 expected `least` to be at most `most`; otherwise no run is normal",
        ),
        (ApiKeyAuth, 'type: api_key\nheader: X\nkey: ""\n', "2:6 S203 `key` is empty: API key"),
        (
            SingerSystem,
            'connector: singer\ncommand: tap\nkey: id\nstream: ""\n',
            "3:9 S203 `stream` is empty: stream to re",
        ),
    ],
)
def test_invalid_value_is_reported_at_its_location(model: type[Settings], yaml: str, reported: str) -> None:
    first, _, rest = reported.partition(":")
    (found,) = [line for line in render(problems_of(model, yaml)) if "is missing" not in line]
    assert found.startswith(f"{int(first) + FIRST}:{rest}")


@pytest.mark.parametrize(
    ("model", "yaml"),
    [
        (HttpSystem, "connector: http\nbase_url: ${env:URL}\nkey: id\nheaders: {X-A: '${env:A}', Y: ''}\n"),
        (HttpSystem, "connector: http\nbase_url: HTTPS://[::1]:8443/v1/\nkey: id\n"),
        (OAuth2Auth, f"{OAUTH}token_url: https://id.example.com/token?tenant=a\n"),
        (SqlSystem, f"{SQL}url: postgresql+psycopg://db/crm?sslmode=require\n"),
        (SqlSystem, f"{SQL}url: ${{env:DSN}}\n"),
        (BasicAuth, 'type: basic\nusername: ${env:KEY}\npassword: ""\n'),
        (MappingSettings, "lookups: {status: {'': none}}\n"),
    ],
)
def test_possibly_valid_value_is_accepted(model: type[Settings], yaml: str) -> None:
    assert problems_of(model, yaml) == []


def test_setting_without_a_value_is_reported() -> None:
    write = "write: {upsert: PUT /a, idempotency: , envelope: ~, body: }\n"
    assert render(problems_of(HttpSystem, f"{HTTP}read:\n{write}")) == [
        f"{FIRST + 3}:6 S203 `read` has no value",
        f"{FIRST + 4}:38 S203 `write.idempotency` has no value",
    ]
