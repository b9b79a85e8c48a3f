"""The settings of the Source System Auth and Target System Auth sections: how to log in."""

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
    misfit,
)


class NoAuth(Settings):
    """No credentials."""

    type: Literal["none"] = Field(default="none", description="how to log in")


class ApiKeyAuth(Settings):
    """A key in a header or a parameter."""

    type: Literal["api_key"] = Field(description="how to log in")
    key: Secret = Field(description="the key")
    header: HeaderName | None = Field(default=None, description="header that carries it")
    param: Text | None = Field(default=None, description="query parameter that carries it")
    prefix: str = Field(default="", description='what stands before it in the header, blank included: "Token "')

    @model_validator(mode="after")
    def _one_place(self) -> ApiKeyAuth:
        if self.header is None and self.param is None:
            raise misfit("expected `header`, or `param`: where the key is sent")
        if self.header is not None and self.param is not None:
            raise misfit("expected one of `header` and `param`, not both", at="param")
        return self


class BasicAuth(Settings):
    """A user name and a password (RFC 7617)."""

    type: Literal["basic"] = Field(description="how to log in")
    username: str = Field(description="the user name")
    password: Password = Field(description="the password")


class BearerAuth(Settings):
    """A bearer token (RFC 6750)."""

    type: Literal["bearer"] = Field(description="how to log in")
    token: Secret = Field(description="the token")


_BY_FLOW: Final = {"refresh_token": "refresh_token", "authorization_code": "authorize_url", "device_code": "device_url"}
"""The setting that each flow needs and no other takes."""


class OAuth2Auth(Settings):
    """A bearer token from an authorization server (OAuth 2.0, RFC 6749)."""

    type: Literal["oauth2"] = Field(description="how to log in")
    flow: Literal["client_credentials", "refresh_token", "authorization_code", "device_code"] = Field(
        description="how a token is had; in the last two a person logs in once, with `speclab auth`"
    )
    token_url: HttpUrl = Field(description="where tokens are given out")
    authorize_url: HttpUrl | None = Field(default=None, description="where a person logs in, for authorization_code")
    device_url: HttpUrl | None = Field(default=None, description="where device codes are given out, for device_code")
    client_id: Text = Field(description="what the authorization server calls this client")
    client_secret: OptionalSecret = Field(default=None, description="the client's secret, if it has one")
    refresh_token: OptionalSecret = Field(default=None, description="the first refresh token, for refresh_token")
    client_auth: Literal["basic", "post"] = Field(
        default="basic", description="where the client's secret is sent: in a header, or in the body"
    )
    scope: str | None = Field(default=None, description="what the token shall allow, separated by blanks")
    audience: str | None = Field(default=None, description="whom the token is for, where the server asks")
    params: dict[str, str] = Field(default_factory=dict, description="more parameters of the requests for a token")
    account: str | None = Field(
        default=None, description="a name for the login, where specs log in to one system as several users"
    )
    redirect_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="port of the redirect to 127.0.0.1, where the server wants a fixed one",
    )
    refresh_margin: Duration = Field(default=30.0, description="how long before its end a token is renewed")

    @model_validator(mode="after")
    def _complete(self) -> OAuth2Auth:
        if self.flow == "client_credentials" and self.client_secret is None:
            raise misfit("the flow client_credentials needs `client_secret`", at="flow")
        for flow, name in _BY_FLOW.items():
            if flow == self.flow and getattr(self, name) is None:
                raise misfit(f"the flow {flow} needs `{name}`", at="flow")
            if flow != self.flow and getattr(self, name) is not None:
                raise misfit(f"`{name}` goes with the flow {flow}, not {self.flow}", at=name)
        if self.redirect_port is not None and self.flow != "authorization_code":
            raise misfit(f"`redirect_port` goes with the flow authorization_code, not {self.flow}", at="redirect_port")
        return self


class HmacAuth(Settings):
    """A signature of each request with a shared secret (HMAC, RFC 2104)."""

    type: Literal["hmac"] = Field(description="how to log in")
    secret: Secret = Field(description="the shared secret")
    header: HeaderName = Field(description="header that carries the signature")
    over: SignedText = Field(description='what is signed, such as "{timestamp}.{body}"')
    algorithm: Literal["sha1", "sha256", "sha384", "sha512"] = Field(default="sha256", description="the hash")
    encoding: Literal["hex", "base64"] = Field(default="hex", description="how the signature is written")
    prefix: str = Field(default="", description="what stands before the signature in the header, such as sha256=")
    timestamp: HeaderName | None = Field(default=None, description="header that carries {timestamp}, in Unix seconds")
    nonce: HeaderName | None = Field(default=None, description="header that carries {nonce}, new for each request")

    @model_validator(mode="after")
    def _sent(self) -> HmacAuth:
        for name in ("timestamp", "nonce"):
            signed, sent = f"{{{name}}}" in self.over, getattr(self, name) is not None
            if signed and not sent:
                raise misfit(f"`over` has {{{name}}}; `{name}` must say in which header it is sent", at="over")
            if sent and not signed:
                raise misfit(f"`{name}` is sent but not signed; put {{{name}}} into `over`", at=name)
        return self


class AwsAuth(Settings):
    """A signature of each request with AWS keys (Signature Version 4)."""

    type: Literal["aws_sigv4"] = Field(description="how to log in")
    region: Text = Field(description="the region, such as eu-central-1")
    service: Text = Field(description="the service's name in signatures, such as execute-api")
    access_key: Text = Field(description="the access key's id")
    secret_key: Secret = Field(description="the secret access key")
    session_token: OptionalSecret = Field(default=None, description="the token of temporary keys")


Auth: TypeAlias = Annotated[
    NoAuth | ApiKeyAuth | BasicAuth | BearerAuth | OAuth2Auth | HmacAuth | AwsAuth, Field(discriminator="type")
]
"""The settings of the Source System Auth and Target System Auth sections."""
AUTHS: Final[Mapping[str, type[NoAuth | ApiKeyAuth | BasicAuth | BearerAuth | OAuth2Auth | HmacAuth | AwsAuth]]] = {
    "none": NoAuth,
    "api_key": ApiKeyAuth,
    "basic": BasicAuth,
    "bearer": BearerAuth,
    "oauth2": OAuth2Auth,
    "hmac": HmacAuth,
    "aws_sigv4": AwsAuth,
}
