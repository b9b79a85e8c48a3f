"""Settings of the Source System Auth and Target System Auth sections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field, model_validator

from speclab.spec.settings import Settings
from speclab.spec.settings_types import (
    Duration,
    HeaderName,
    HttpUrl,
    OptionalSecret,
    Password,
    Secret,
    SignedText,
    Text,
    conflict,
)


class NoAuth(Settings):
    """No credentials."""

    type: Literal["none"] = Field(default="none", description="Authentication method.")


class ApiKeyAuth(Settings):
    """A key in a header or a parameter."""

    type: Literal["api_key"] = Field(description="Authentication method.")
    key: Secret = Field(description="API key.")
    header: HeaderName | None = Field(default=None, description="Header that carries the key.")
    param: Text | None = Field(default=None, description="Query parameter that carries the key.")
    prefix: str = Field(default="", description='Text before the key in the header, including a space: "Token ".')

    @model_validator(mode="after")
    def _check_placement(self) -> ApiKeyAuth:
        if self.header is None and self.param is None:
            raise conflict("expected `header` or `param`, to say where the key is sent")
        if self.header is not None and self.param is not None:
            raise conflict("expected one of `header` and `param`, not both", at="param")
        return self


class BasicAuth(Settings):
    """A user name and a password (RFC 7617)."""

    type: Literal["basic"] = Field(description="Authentication method.")
    username: str = Field(description="User name.")
    password: Password = Field(description="Password.")


class BearerAuth(Settings):
    """A bearer token (RFC 6750)."""

    type: Literal["bearer"] = Field(description="Authentication method.")
    token: Secret = Field(description="Bearer token.")


_BY_FLOW: Final = {"refresh_token": "refresh_token", "authorization_code": "authorize_url", "device_code": "device_url"}
"""The setting that each flow requires, and that no other flow accepts."""


class OAuth2Auth(Settings):
    """A bearer token from an authorization server (OAuth 2.0, RFC 6749)."""

    type: Literal["oauth2"] = Field(description="Authentication method.")
    flow: Literal["client_credentials", "refresh_token", "authorization_code", "device_code"] = Field(
        description="OAuth 2.0 grant. `authorization_code` and `device_code` need one login with `speclab auth`."
    )
    token_url: HttpUrl = Field(description="URL of the token endpoint.")
    authorize_url: HttpUrl | None = Field(default=None, description="URL of the login page, for `authorization_code`.")
    device_url: HttpUrl | None = Field(default=None, description="URL that issues device codes, for `device_code`.")
    client_id: Text = Field(description="Client ID at the authorization server.")
    client_secret: OptionalSecret = Field(default=None, description="Client secret; not needed for a public client.")
    refresh_token: OptionalSecret = Field(default=None, description="Initial refresh token, for `refresh_token`.")
    client_auth: Literal["basic", "post"] = Field(
        default="basic", description="Where the client secret is sent: in a header (`basic`), or in the body (`post`)."
    )
    scope: str | None = Field(default=None, description="Scopes to request, separated by spaces.")
    audience: str | None = Field(default=None, description="Audience of the token, for servers that require one.")
    params: dict[str, str] = Field(default_factory=dict, description="Additional parameters of token requests.")
    account: str | None = Field(
        default=None, description="Name of the login, for specs that log in to one system as different users."
    )
    redirect_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="Port of the redirect to 127.0.0.1, for servers that require a fixed one; default: any free port.",
    )
    refresh_margin: Duration = Field(default=30.0, description="Time before a token expires at which it is refreshed.")

    @model_validator(mode="after")
    def _check_flow(self) -> OAuth2Auth:
        if self.flow == "client_credentials" and self.client_secret is None:
            raise conflict("the flow client_credentials needs `client_secret`", at="flow")
        for flow, name in _BY_FLOW.items():
            if flow == self.flow and getattr(self, name) is None:
                raise conflict(f"the flow {flow} needs `{name}`", at="flow")
            if flow != self.flow and getattr(self, name) is not None:
                raise conflict(f"`{name}` is for the flow {flow}, not {self.flow}", at=name)
        if self.redirect_port is not None and self.flow != "authorization_code":
            raise conflict(f"`redirect_port` is for the flow authorization_code, not {self.flow}", at="redirect_port")
        return self


class HmacAuth(Settings):
    """A signature of each request, made with a shared secret (HMAC, RFC 2104)."""

    type: Literal["hmac"] = Field(description="Authentication method.")
    secret: Secret = Field(description="Shared secret.")
    header: HeaderName = Field(description="Header that carries the signature.")
    over: SignedText = Field(description='Text that is signed, such as "{timestamp}.{body}".')
    algorithm: Literal["sha1", "sha256", "sha384", "sha512"] = Field(default="sha256", description="Hash algorithm.")
    encoding: Literal["hex", "base64"] = Field(default="hex", description="Encoding of the signature.")
    prefix: str = Field(default="", description="Text before the signature in the header, such as `sha256=`.")
    timestamp: HeaderName | None = Field(
        default=None, description="Header that carries `{timestamp}`, in Unix seconds."
    )
    nonce: HeaderName | None = Field(default=None, description="Header that carries `{nonce}`, unique per request.")

    @model_validator(mode="after")
    def _check_signed_parts(self) -> HmacAuth:
        for name in ("timestamp", "nonce"):
            signed, sent = f"{{{name}}}" in self.over, getattr(self, name) is not None
            if signed and not sent:
                raise conflict(f"`over` has {{{name}}}; expected `{name}`, the header that carries it", at="over")
            if sent and not signed:
                raise conflict(f"`{name}` is sent but not signed; add {{{name}}} to `over`", at=name)
        return self


class AwsAuth(Settings):
    """A signature of each request, made with AWS keys (Signature Version 4)."""

    type: Literal["aws_sigv4"] = Field(description="Authentication method.")
    region: Text = Field(description="AWS region, such as eu-central-1.")
    service: Text = Field(description="Service name in signatures, such as execute-api.")
    access_key: Text = Field(description="Access key ID.")
    secret_key: Secret = Field(description="Secret access key.")
    session_token: OptionalSecret = Field(default=None, description="Session token of temporary keys.")


Auth: TypeAlias = Annotated[
    NoAuth | ApiKeyAuth | BasicAuth | BearerAuth | OAuth2Auth | HmacAuth | AwsAuth, Field(discriminator="type")
]
"""The settings of an Auth section, by their `type`."""
AUTHS: Final[Mapping[str, type[NoAuth | ApiKeyAuth | BasicAuth | BearerAuth | OAuth2Auth | HmacAuth | AwsAuth]]] = {
    "none": NoAuth,
    "api_key": ApiKeyAuth,
    "basic": BasicAuth,
    "bearer": BearerAuth,
    "oauth2": OAuth2Auth,
    "hmac": HmacAuth,
    "aws_sigv4": AwsAuth,
}
