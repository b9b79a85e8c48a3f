"""Systems, authentication and credentials: the settings of their sections."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal, TypeAlias, get_origin

from pydantic import Field, model_validator

from speclab.core.plugins import InvalidPlugin, PluginRegistry
from speclab.core.text import ENCLOSED_REFERENCE, REFERENCE_LIKE, describe_choices, find_likely_name
from speclab.spec.positioned_yaml import MappingEntry, MappingNode, Node, ScalarNode, SequenceNode, iterate_scalars
from speclab.spec.problems import ProblemCollector
from speclab.spec.settings import Settings, System
from speclab.spec.settings_block import find_model, list_named_blocks
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


def validate_settings(found: object) -> type[System]:
    """Return the settings of the connector `found`. Raises `InvalidPlugin`, and any error of its fields."""
    settings = getattr(found, "settings", None)
    if settings is None:
        raise InvalidPlugin("is not a speclab.connectors.api.Connector with `settings`")
    if not isinstance(settings, type) or not issubclass(settings, System):
        raise InvalidPlugin("has settings that are not a subclass of speclab.spec.settings.System")
    if not settings.__module__.startswith("speclab."):  # building a model takes milliseconds, and ours are tested
        settings.model_rebuild()  # reports invalid fields here instead of at the first spec that uses them
        _check_depth(settings, ())
    return settings


def _check_depth(model: type[Settings], above: tuple[type[Settings], ...]) -> None:
    """Reject recursive settings: the guide and the reference list every nested setting."""
    if model in above:
        raise InvalidPlugin(f"has settings that contain themselves: {model.__name__}")
    for info in model.model_fields.values():
        if inner := find_model(info.annotation):
            _check_depth(inner, (*above, model))


SYSTEMS: Final[PluginRegistry[type[System]]] = PluginRegistry("speclab.connectors", validate_settings)


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


_KINDS: Final = {
    "env": (re.compile(r"[A-Za-z_][A-Za-z0-9_]*"), "${env:NAME}"),
    "file": (re.compile(r"[^\s#]+(?: [^\s#]+)*"), "${file:PATH}"),
    "keyring": (re.compile(r"[^\s/]+/\S+"), "${keyring:SERVICE/NAME}"),
    "vault": (re.compile(r"[^\s#]+#[^\s#]+"), "${vault:PATH#KEY}"),
    "aws": (re.compile(r"[^\s#]+#[^\s#]+"), "${aws:NAME#KEY}"),
}
_URL_PASSWORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://(?:\$\{[^{}]*\}|[^\s/?#@:{])*:(?P<password>[^\s/?#]+)@")
_SECRET_NAMES: Final = frozenset(
    {"api_key", "client_secret", "password", "refresh_token", "secret", "secret_key", "token", "access_token"}
)
_SECRET_CARRIERS: Final = frozenset(
    {"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "apikey", "api_key"}
    | {"x-auth-token", "access_token", "client_secret", "password"}
)
_SECRET_NAME: Final = re.compile(
    r"(?:.*[_-])?(?:authorization|cookie|token|secret|password|passphrase|credentials?|connection[_-]?string"
    r"|(?:api|secret|private|access|account)[_-]?key)",
    re.IGNORECASE,
)
_QUERY_PARAMETER: Final = re.compile(r"[?&](?P<name>[^\s=&?#]+)=(?P<value>[^\s&#]+)")
_UNENCRYPTED: Final = re.compile(r"http://(?:[^/?#@]*@)?(?P<host>\[[^\]]*\]|(?:\$\{[^{}]*\}|[^/?#:])+)", re.IGNORECASE)
_LOOPBACK: Final = re.compile(r"(?:.*\.)?localhost\.?|127(?:\.\d{1,3}){3}|\[::1\]", re.IGNORECASE)
_PASSED_ON: Final = ("config", "options", "env")
"""Settings that are passed on to an external program or driver."""


def names_secret(name: str) -> bool:
    """Whether the name of an external program's setting is that of a secret, such as `client_secret`."""
    return _SECRET_NAME.fullmatch(name) is not None


def check_references(tree: MappingNode, findings: ProblemCollector) -> None:
    """Report every reference of an unknown kind (A102) or with a syntax error (A103)."""
    for scalar in iterate_scalars(tree):
        for match in REFERENCE_LIKE.finditer(scalar.text):
            at = scalar.part(*match.span())
            kind, name = match["kind"], match["name"]
            if not match["close"]:
                findings.error("A103", at, "this reference is not closed; expected a } after its name")
            elif not match["colon"]:
                meant = f"${{env:{kind}}}" if _KINDS["env"][0].fullmatch(kind) else None
                hint = f"did you mean {meant}?" if meant else f"expected one such as {_KINDS['env'][1]}"
                findings.error("A103", at, f"a reference needs a kind: {hint}", meant)
            elif kind not in _KINDS:
                near = find_likely_name(kind, list(_KINDS))
                hint = describe_choices(kind, list(_KINDS), "expected one of")
                findings.error(
                    "A102", at, f"unknown kind of reference {kind!r}; {hint}", f"${{{near}:{name}}}" if near else None
                )
            elif not _KINDS[kind][0].fullmatch(name):
                findings.error("A103", at, f"{name!r} is not a valid name; expected {_KINDS[kind][1]}")


def check_secrets(tree: MappingNode, model: type[Settings] | None, owner: str, findings: ProblemCollector) -> None:
    """Report every literal where a secret belongs (A101, A104).

    `model` says which settings are secret; without it, their names do. `owner` (`source`, `target`) is part of the
    name of the environment variable that the message suggests.
    """
    named = (entry for entry in tree.entries if entry.key.text in _SECRET_NAMES)
    for entry in _secret_entries(tree, model) if model else named:
        _check_literal(entry, owner, findings)
    for scalar in iterate_scalars(tree):
        _check_url(scalar, owner, findings)
        _check_query(scalar, owner, findings)
    for entry in _sent_secrets(tree):
        _check_literal(entry, owner, findings, whole=False)


def check_encryption(tree: MappingNode, setting: str, what: str, findings: ProblemCollector) -> None:
    """Warn of an `http://` URL in `setting` over which `what` is sent unencrypted (A105), except to loopback."""
    entry = tree.get(setting)
    if entry is None or not isinstance(entry.node, ScalarNode):
        return
    url = _UNENCRYPTED.match(entry.node.text)
    if url is None or "${" in url["host"] or _LOOPBACK.fullmatch(url["host"]):
        return
    message = f"{what} sent unencrypted over http://, where anyone on the network path can read it; use https://"
    findings.warning("A105", entry.node.part(0, len("http")), message)


def _secret_entries(tree: MappingNode, model: type[Settings]) -> Iterator[MappingEntry]:
    """Yield the entries that `model` marks as secret, at any depth."""
    from speclab.spec.settings_types import is_secret

    for name, info in model.model_fields.items():
        entry = tree.get(info.alias or name)
        if entry is not None and is_secret(info):
            yield entry
        elif entry is not None and isinstance(entry.node, MappingNode) and (inner := find_model(info.annotation)):
            named = get_origin(info.annotation) is dict
            for _, block in list_named_blocks(name, entry.node) if named else [(name, entry.node)]:
                yield from _secret_entries(block, inner)


def _sent_secrets(tree: MappingNode) -> Iterator[MappingEntry]:
    """Yield entries named like a secret, among those sent with requests or passed on to another program."""
    for carrier in _carriers(tree):
        yield from (entry for entry in _all_entries(carrier) if entry.key.text.casefold() in _SECRET_CARRIERS)
    for name in _PASSED_ON:
        if (given := tree.get(name)) is not None:
            yield from (entry for entry in _all_entries(given.node) if names_secret(entry.key.text))


def _carriers(tree: MappingNode) -> list[MappingNode]:
    """Return the mappings of a system that are sent with requests: headers, parameters and bodies."""
    found = []
    for entry in tree.entries:
        if isinstance(entry.node, MappingNode) and entry.key.text not in _PASSED_ON:
            found += [entry.node] if entry.key.text in {"headers", "params", "body"} else _carriers(entry.node)
    return found


def _all_entries(node: Node) -> Iterator[MappingEntry]:
    """Yield all entries at any depth, such as those of a tap's `config`."""
    for inner in node.nodes if isinstance(node, SequenceNode) else ():
        yield from _all_entries(inner)
    for entry in node.entries if isinstance(node, MappingNode) else ():
        yield entry
        yield from _all_entries(entry.node)


def _check_literal(entry: MappingEntry, owner: str, findings: ProblemCollector, *, whole: bool = True) -> None:
    """Report a value that is not a reference; unless `whole`, text around it is fine (`Bearer ${env:T}`)."""
    node = entry.node
    if not isinstance(node, ScalarNode) or not node.text or node.value is None or isinstance(node.value, bool):
        return
    if REFERENCE_LIKE.search(node.text) if not whole else ENCLOSED_REFERENCE.fullmatch(node.text):
        return
    reference = _reference(owner, entry.key.text)
    if whole and REFERENCE_LIKE.search(node.text):
        findings.error("A101", node, f"`{entry.key.text}` is a secret: expected a single reference such as {reference}")
        return
    findings.error(
        "A101", node, f"the file contains a secret; move it to the environment and write {reference}", reference
    )


def _reference(owner: str, name: str) -> str:
    """Return the reference to suggest for a secret of that name."""
    variable = re.sub(r"[^A-Za-z0-9]+", "_", f"{owner}_{name}").upper()
    return f"${{env:{variable}}}"


def _check_url(node: ScalarNode, owner: str, findings: ProblemCollector) -> None:
    match = _URL_PASSWORD.match(node.text)
    if match is None or REFERENCE_LIKE.search(match["password"]):
        return
    reference = f"${{env:{owner.upper()}_PASSWORD}}"
    findings.error(
        "A104",
        node.part(*match.span("password")),
        f"the file contains a password; move it to the environment and write {reference}",
        reference,
    )


def _check_query(node: ScalarNode, owner: str, findings: ProblemCollector) -> None:
    """Report a secret in the query of a URL or a path, such as `/list?api_key=abc`."""
    for match in _QUERY_PARAMETER.finditer(node.text):
        if match["name"].casefold() in _SECRET_CARRIERS and "{" not in match["value"]:
            reference = _reference(owner, match["name"])
            findings.error(
                "A104",
                node.part(*match.span("value")),
                f"the file contains a secret; move it to the environment and write {reference}",
                reference,
            )
