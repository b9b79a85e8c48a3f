"""The settings blocks of a spec as typed models: one word for one idea, the same on both ends.

Descriptions are the one source of what the guide, completion and the reference say of a setting. A string may hold
`${kind:name}` references; they are resolved when a run starts, never here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StrictBool, model_validator

from speclab.spec.kinds import (
    Cel,
    Columns,
    Duration,
    Key,
    Location,
    OptionalSecret,
    ParentName,
    Path,
    RateLimit,
    Request,
    Secret,
    Share,
    SignedText,
    Size,
    misfit,
    places,
)


class Settings(BaseModel):
    """A settings block: frozen, and an unknown key is an error."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        arbitrary_types_allowed=True,
        defer_build=True,  # a spec uses a third of these models, and building one costs milliseconds
    )


class Limits(Settings):
    """What a system may be asked for."""

    rate: RateLimit | None = Field(default=None, description="requests a window, such as 100/min")
    concurrency: int = Field(default=4, ge=1, le=1000, description="requests at once")
    timeout: Duration = Field(default=30.0, description="how long one request may take")
    response: Size = Field(default=50_000_000, description="the largest answer that is read")


class Pagination(Settings):
    """How the next page is asked for."""

    by: Literal["auto", "cursor", "page", "offset", "next_url", "link", "none"] = Field(
        default="auto", description="how the next page is found"
    )
    param: str | None = Field(default=None, description="parameter that carries the cursor, the page or the offset")
    next: Path | None = Field(default=None, description="path of the next cursor or URL in the body")
    header: str | None = Field(default=None, description="header of the answer that holds the next cursor or URL")
    start: int | None = Field(default=None, description="number of the first page (default 1)")
    size_param: str | None = Field(default=None, description="parameter that asks for the size of a page")
    size: int | None = Field(default=None, ge=1, description="records a page")
    pages: Path | None = Field(default=None, description="path of the number of pages in the body")
    total: Path | None = Field(default=None, description="path of the number of records in the body")

    @model_validator(mode="after")
    def _complete(self) -> Pagination:
        if self.by == "cursor" and not (self.param and (self.next or self.header)):
            raise misfit("pagination by cursor needs `param`, and `next` (path in the body) or `header`", at="by")
        if self.by in ("page", "offset") and not self.param:
            raise misfit(f"pagination by {self.by} needs `param`", at="by")
        if self.by == "next_url" and not (self.next or self.header):
            raise misfit("pagination by next_url needs `next` (path in the body) or `header`", at="by")
        return self


class Since(Settings):
    """How only what changed is asked for."""

    param: str | None = Field(default=None, description="parameter that carries the time or number to read from")
    field: str = Field(description="path of the time or number in a record")
    start: str | None = Field(default=None, description="where the very first run begins")
    lookback: Duration = Field(default=0.0, description="how far before the last one seen to ask again")
    sorted: StrictBool = Field(default=False, description="true if the source gives records in the order of `field`")


class ForEach(Settings):
    """The read is made once for each record of a parent list."""

    path: Location = Field(description="path of the parent list")
    params: dict[str, JsonValue] = Field(default_factory=dict, description="query parameters of it")
    records: Path | None = Field(default=None, description="where the list is in the body")
    pagination: Pagination = Field(default_factory=Pagination, description="how its pages follow")
    name: ParentName = Field(alias="as", description="the name parents go by: `{account.id}`, and `source.account.id`")


class HttpRead(Settings):
    """What is asked of an HTTP source."""

    path: Location | None = Field(default=None, description="path of the list, asked with GET")
    request: Request | None = Field(default=None, description="method and path, where it is no GET")
    body: JsonValue = Field(default=None, description="body of that request")
    params: dict[str, JsonValue] = Field(default_factory=dict, description="query parameters")
    records: Path | None = Field(default=None, description="path of the list in the body (default: the body itself)")
    pagination: Pagination = Field(default_factory=Pagination, description="how pages follow")
    since: Since | None = Field(default=None, description="read only what changed")
    deleted: Cel | None = Field(default=None, description="CEL that is true of a deleted record")
    for_each: ForEach | None = Field(default=None, description="a parent list to read once for each of")

    @model_validator(mode="after")
    def _one_request(self) -> HttpRead:
        if self.path is None and self.request is None:
            raise misfit("expected `path`, or `request` where it is no GET")
        if self.path is not None and self.request is not None:
            raise misfit("expected one of `path` and `request`, not both", at="request")
        if self.body is not None and self.request is None:
            raise misfit("a `body` needs `request`, such as POST /search", at="body")
        if self.since is not None and self.since.param is None:
            raise misfit("over HTTP `since` needs `param`, the parameter that asks for what changed", at="since")
        return self

    @model_validator(mode="after")
    def _about_the_parent(self) -> HttpRead:
        at, each = "path" if self.path else "request", self.for_each
        names = places(self.path or self.request)
        if each is None:
            if names:
                raise misfit(f"{{{names[0]}}}: a read is about no record, unless `for_each` gives it one", at=at)
            return self
        own = f"{each.name}."
        if stray := [name for name in names if not name.startswith(own)]:
            raise misfit(f"{{{stray[0]}}} is no field of `{each.name}`, the only record a read can be about", at=at)
        if above := places(each.path):
            raise misfit(f"{{{above[0]}}}: the parent list is about no record", at="for_each.path")
        if not any(name.startswith(own) for name in [*names, *places(self.params), *places(self.body)]):
            named = f"{{{own}id}}"
            raise misfit(
                f"each `{each.name}` would be asked the same; put {named} into path, params or body", "for_each"
            )
        return self


class ErrorFields(Settings):
    """Where an answer names the fields it refuses."""

    at: str = Field(description='path of the list, such as "errors[*]"')
    field: Path = Field(description="path of the field's name in an entry")
    message: Path = Field(description="path of the message in an entry")


class BatchItem(Settings):
    """What stands in a batch's list, if not the record itself."""

    method: str | None = Field(default=None, description="method of one record's request")
    path: Location | None = Field(default=None, description="path of one record's request")
    body: JsonValue = Field(default="$record", description="its body; $record is the record")


class HttpWrite(Settings):
    """How records are written over HTTP: one of upsert, create (with update and lookup) or batch."""

    upsert: Request | None = Field(default=None, description='method and path, such as "PUT /customers/{external_id}"')
    create: Request | None = Field(default=None, description='method and path, such as "POST /customers"')
    update: Request | None = Field(
        default=None, description="method and path; {found.id} is from the answer to `lookup`"
    )
    lookup: Request | None = Field(default=None, description="method and path that finds what is already there")
    found: Path | None = Field(default=None, description="path of what was found in the answer to `lookup`")
    delete: Request | None = Field(default=None, description="method and path that deletes")
    batch: Request | None = Field(
        default=None, description='method and path that takes many, such as "POST /customers/batch"'
    )
    size: int = Field(default=100, ge=1, description="records a batch")
    envelope: str | None = Field(default=None, description="key the record or list is wrapped in")
    item: BatchItem | None = Field(default=None, description="what stands in a batch's list")
    results: Path | None = Field(default=None, description="path of the list of results, one a record, in order")
    ok: Cel | None = Field(
        default=None, description="CEL over an entry, or a whole answer (`item`), that is true of a success"
    )
    message: Path | None = Field(default=None, description="path of the message in an entry or answer, from `item`")
    headers: dict[str, str] = Field(default_factory=dict, description="headers of every write")
    idempotency: str | None = Field(default=None, description="header that carries the idempotency key")
    exists: tuple[int, ...] = Field(default=(), description='statuses that mean "already there as it should be"')
    errors: ErrorFields | None = Field(default=None, description="where an answer names the fields it refuses")

    @model_validator(mode="after")
    def _one_way(self) -> HttpWrite:
        ways = [name for name in ("upsert", "create", "batch") if getattr(self, name)]
        if not ways:
            raise misfit("expected one of `upsert`, `create` and `batch`")
        if len(ways) > 1:
            raise misfit(f"expected one of `upsert`, `create` and `batch`, not {len(ways)} of them", at=ways[1])
        if self.update is not None and self.create is None:
            raise misfit("`update` goes with `create`", at="update")
        if self.update is not None and self.lookup is None:
            raise misfit("`update` needs `lookup`, which finds what is already there", at="update")
        for name in ("item", "results"):
            if getattr(self, name) is not None and self.batch is None:
                raise misfit(f"`{name}` goes with `batch`", at=name)
        return self


class HttpSystem(Settings):
    """A system that speaks JSON over HTTP."""

    connector: Literal["http"] = Field(description="what kind of system it is")
    base_url: str = Field(description="where every path starts")
    limits: Limits = Field(default_factory=Limits, description="what it may be asked for")
    headers: dict[str, str] = Field(default_factory=dict, description="headers of every request")
    key: Key = Field(description="path of a record's identity, or several")
    read: HttpRead | None = Field(default=None, description="how it is read, at the source")
    write: HttpWrite | None = Field(default=None, description="how it is written, at the target")


class SqlRead(Settings):
    """What is read from a database."""

    table: str | None = Field(default=None, description="the table to read")
    query: str | None = Field(default=None, description="a SELECT, instead of a table")
    since: Since | None = Field(default=None, description="read only what changed")
    size: int = Field(default=5000, ge=1, description="rows a page")

    @model_validator(mode="after")
    def _one_source(self) -> SqlRead:
        if self.table is None and self.query is None:
            raise misfit("expected `table`, or `query`")
        if self.table is not None and self.query is not None:
            raise misfit("expected one of `table` and `query`, not both", at="query")
        return self


class SqlWrite(Settings):
    """How rows are written to a database."""

    upsert: str | None = Field(default=None, description="the table to write, by key")
    insert: str | None = Field(default=None, description="the table to append to")
    size: int = Field(default=500, ge=1, description="rows a statement")
    create_table: StrictBool = Field(default=False, description="make the table from the mapping if it is not there")

    @model_validator(mode="after")
    def _one_table(self) -> SqlWrite:
        if self.upsert is None and self.insert is None:
            raise misfit("expected `upsert`, or `insert`")
        if self.upsert is not None and self.insert is not None:
            raise misfit("expected one of `upsert` and `insert`, not both", at="insert")
        return self


class SqlSystem(Settings):
    """A SQL database."""

    connector: Literal["sql"] = Field(description="what kind of system it is")
    url: str = Field(description="SQLAlchemy URL, or a plain postgresql:// or mysql:// DSN")
    key: Columns = Field(description="column of a row's identity, or several")
    limits: Limits = Field(default_factory=Limits, description="what it may be asked for")
    read: SqlRead | None = Field(default=None, description="how it is read, at the source")
    write: SqlWrite | None = Field(default=None, description="how it is written, at the target")


class FileSystem(Settings):
    """Files of records."""

    connector: Literal["file"] = Field(description="what kind of system it is")
    path: str = Field(description="the file; a glob when reading")
    format: Literal["json", "jsonl", "csv", "tsv"] | None = Field(default=None, description="default: by the ending")
    mode: Literal["replace", "append", "upsert"] = Field(default="upsert", description="what a run does to the file")
    key: Key = Field(description="path of a record's identity, or several")
    limits: Limits = Field(default_factory=Limits, description="what it may be asked for")


System: TypeAlias = Annotated[HttpSystem | SqlSystem | FileSystem, Field(discriminator="connector")]
"""The settings of a Source System or a Target System section."""
SYSTEMS: Final[Mapping[str, type[HttpSystem | SqlSystem | FileSystem]]] = {
    "http": HttpSystem,
    "sql": SqlSystem,
    "file": FileSystem,
}


class NoAuth(Settings):
    """No credentials."""

    type: Literal["none"] = Field(default="none", description="how to log in")


class ApiKeyAuth(Settings):
    """A key in a header or a parameter."""

    type: Literal["api_key"] = Field(description="how to log in")
    key: Secret = Field(description="the key")
    header: str | None = Field(default=None, description="header that carries it")
    param: str | None = Field(default=None, description="query parameter that carries it")
    prefix: str = Field(default="", description="what stands before it in the header")

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
    password: Secret = Field(description="the password")


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
    token_url: str = Field(description="where tokens are given out")
    authorize_url: str | None = Field(default=None, description="where a person logs in, for authorization_code")
    device_url: str | None = Field(default=None, description="where device codes are given out, for device_code")
    client_id: str = Field(description="what the authorization server calls this client")
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
    header: str = Field(description="header that carries the signature")
    over: SignedText = Field(description='what is signed, such as "{timestamp}.{body}"')
    algorithm: Literal["sha1", "sha256", "sha384", "sha512"] = Field(default="sha256", description="the hash")
    encoding: Literal["hex", "base64"] = Field(default="hex", description="how the signature is written")
    prefix: str = Field(default="", description="what stands before the signature in the header, such as sha256=")
    timestamp: str | None = Field(default=None, description="header that carries {timestamp}, in Unix seconds")
    nonce: str | None = Field(default=None, description="header that carries {nonce}, new for each request")

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
    region: str = Field(description="the region, such as eu-central-1")
    service: str = Field(description="the service's name in signatures, such as execute-api")
    access_key: str = Field(description="the access key's id")
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
NOT_RUN_YET: Final = frozenset({"singer", "webhook"})
"""Connectors that the format knows and this version cannot do."""


class MappingSettings(Settings):
    """What the Field Mapping section says beside its table."""

    filter: Cel | None = Field(default=None, description="CEL; records it refuses are counted as filtered")
    lookups: dict[str, dict[str, JsonValue]] = Field(default_factory=dict, description="tables for Lookup(name)")
    check: dict[str, dict[str, JsonValue]] = Field(default_factory=dict, description="JSON Schema for target fields")


class RetrySettings(Settings):
    """How a write that may heal is tried again; full jitter under `base * 2^n`, at most `cap`."""

    attempts: int = Field(default=5, ge=1, description="tries in all, the first included")
    backoff: Literal["exponential"] = Field(default="exponential", description="how waits grow, with full jitter")
    base: Duration = Field(default=2.0, description="the first wait's upper bound")
    cap: Duration = Field(default=300.0, description="the longest wait")
    give_up_after: Duration = Field(default=86400.0, description="age at which a waiting record becomes a dead letter")

    @model_validator(mode="after")
    def _growing(self) -> RetrySettings:
        if self.cap < self.base:
            raise misfit("`cap`, the longest wait, is shorter than `base`, the first", at="cap")
        return self


class LoggingSettings(Settings):
    """How long the run log keeps what."""

    retention: Duration = Field(default=30 * 86400.0, description="events and finished runs")
    failures: Duration = Field(default=90 * 86400.0, description="failures that are resolved, superseded or discarded")


class GuardSettings(Settings):
    """What is suspicious about a run, as a share of the volume, and what is done about it."""

    action: Literal["warn", "stop"] = Field(
        default="warn", description="tell it only, or fail the run before it writes or deletes more"
    )
    least: Share = Field(default=0.5, description="share of `records` that a read of the whole source gives at least")
    most: Share = Field(default=10.0, description="share of `records` it gives at most, or of `per_run` if it goes on")
    deletes: Share = Field(default=0.2, description="share of `records` that one run deletes at most")


class VolumeSettings(Settings):
    """How much is expected; the guards and the plan go by it."""

    records: int | None = Field(default=None, ge=0, description="records a full read holds")
    per_run: int | None = Field(default=None, ge=0, description="records a usual run reads")
    guard: GuardSettings = Field(default_factory=GuardSettings, description="when a run is suspicious")
