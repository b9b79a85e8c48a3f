"""Connection tests and schema discovery: what a system answers before a run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from speclab.connectors.api import DiscoveredSchema, Reader, RuntimeContext
from speclab.connectors.registry import load_parts, open_reader, open_writer, sample
from speclab.connectors.secrets.references import References, find_references
from speclab.core.clock import format_timestamp
from speclab.core.errors import SpeclabError, Unauthorized
from speclab.core.text import format_count
from speclab.mapping.fields import Field, collect_fields

if TYPE_CHECKING:
    from speclab.connectors.auth.login import Show
    from speclab.connectors.auth.oauth2 import Token
    from speclab.connectors.secrets.references import References
    from speclab.core.json import Json
    from speclab.spec.auth import OAuth2Auth
    from speclab.spec.integration import Endpoint


@dataclass(frozen=True, slots=True)
class ConnectionCheck:
    """The result of a connection check, or its progress; fields of steps that were not reached are empty.

    `references` are all references in the settings, `request` is the request and its response in one line, and `error`
    is the error that ended the check.
    """

    references: tuple[str, ...]
    token: Token | None = None
    is_new: bool = False
    """Whether the token was obtained by this check, not stored before."""
    request: str = ""
    error: SpeclabError | None = None

    @property
    def granted(self) -> bool:
        """Whether the endpoint accepted the credentials for a request that changes nothing."""
        return self.error is None

    @property
    def token_expires_at(self) -> str | None:
        """When the token expires, as a timestamp of the run log, or None if unknown."""
        if self.token is None or self.token.expires_at is None:
            return None
        return format_timestamp(datetime.fromtimestamp(self.token.expires_at, UTC))


def _ignore_progress(check: ConnectionCheck) -> None:
    """Discard progress."""


async def check_connection(
    end: Endpoint,
    references: References,
    context: RuntimeContext,
    *,
    show: Show | None = None,
    renew: bool = False,
    on_progress: Callable[[ConnectionCheck], None] = _ignore_progress,
) -> ConnectionCheck:
    """Resolve the references of `end`, get a token if it uses one, and make a cheap request that needs it.

    If the OAuth flow needs a person, `show` asks them to log in. With `renew`, a stored token is not used.
    `on_progress` is called after the references are resolved and when there is a token. An error is returned, not
    raised.
    """
    check = ConnectionCheck(tuple(dict.fromkeys(find_references(end.system) + find_references(end.auth))))
    try:
        await references.fetch(end.system, end.auth)
        references.resolve_settings(end.system)
        auth = references.resolve_settings(end.auth)
        on_progress(check)
        if auth.type != "oauth2":
            return replace(check, request=await _request(end, references, context))
        login = _Login(auth, references, context, show)
        check = await login.token(check, renew=renew)
        on_progress(check)
        try:
            return replace(check, request=await _request(end, references, context))
        except Unauthorized:
            if check.is_new or not login.by_person:
                raise
        check = await login.log_in_again(check)  # the stored token was rejected
        on_progress(check)
        return replace(check, request=await _request(end, references, context))
    except SpeclabError as error:
        return replace(check, error=error)


class _Login:
    """Gets a token, by the login of a person if `show` is given."""

    def __init__(self, auth: OAuth2Auth, references: References, context: RuntimeContext, show: Show | None) -> None:
        from speclab.connectors.auth.oauth2 import INTERACTIVE, Tokens

        self._auth = auth
        self._redactor = references.redactor
        self._context = context
        self._show = show
        self._tokens = Tokens(auth, references.redactor, context)
        self.by_person = auth.flow in INTERACTIVE and show is not None

    async def token(self, check: ConnectionCheck, *, renew: bool) -> ConnectionCheck:
        """Return `check` with a stored token, a new one, or one from the login of a person."""
        before = self._context.clock.now().timestamp()
        if renew and self.by_person:
            return await self.log_in_again(check)
        try:
            token = await (self._tokens.renewed() if renew else self._tokens.current())
        except Unauthorized:
            if not self.by_person:
                raise
            return await self.log_in_again(check)
        return replace(check, token=token, is_new=token.issued_at >= before)

    async def log_in_again(self, check: ConnectionCheck) -> ConnectionCheck:
        """Return `check` with a token from the login of a person."""
        from speclab.connectors.auth.login import log_in

        assert self._show is not None  # noqa: S101 - checked by `by_person`
        token = await log_in(self._auth, self._redactor, self._context, self._show)
        await self._tokens.take(token)
        return replace(check, token=token, is_new=True)


async def _request(end: Endpoint, references: References, context: RuntimeContext) -> str:
    """Make a request that changes nothing: read the first page of a source, or check a target."""
    from speclab.spec.settings import RetrySettings

    once = RetrySettings(attempts=1)
    if end.role == "source":
        return await _read_first_page(open_reader(end.system, end.auth, references, context, once))
    check_target = load_parts(end.system).check
    if check_target is not None:
        return await check_target(end.system, end.auth, references, context, once)
    await open_writer(end.system, end.auth, references, context, once).close()
    return "not checked: this connector has no request that does not write"


async def _read_first_page(reader: Reader) -> str:
    try:
        pages = reader.pages(None, full=True)
        page = await anext(aiter(pages), None)
        if isinstance(pages, AsyncGenerator):
            await pages.aclose()  # stops the prefetch of the next page
    finally:
        await reader.close()
    return "no page" if page is None else f"{page.request}: {format_count(len(page.records), 'record')}"


SAMPLE_SIZE: Final = 500
"""Number of records in a sample by default."""


async def discover_schema(
    end: Endpoint, references: References, context: RuntimeContext, limit: int = SAMPLE_SIZE
) -> DiscoveredSchema:
    """Return the fields of `end`, from at most `limit` of its records, without changing anything.

    Secrets are removed from the values. Raises as a reader does, and `SpeclabError` if the fields cannot be known.
    """
    await references.fetch(end.system, end.auth)
    discover = load_parts(end.system).discover
    found = await discover(end.role, end.system, end.auth, references, context, limit) if discover else None
    if found is None:
        found = await _sample_fields(end, references, context, limit)
    return replace(found, fields=tuple(_redact_field(field, references) for field in found.fields))


async def _sample_fields(
    end: Endpoint, references: References, context: RuntimeContext, limit: int
) -> DiscoveredSchema:
    """Return the fields of the first records that a reader returns."""
    if end.role == "target" and getattr(end.system, "read", end) is None:
        raise SpeclabError(
            f"the fields of the target are unknown: {end.system.connector} shows them only in its records, and the "
            "Target System has no `read`",
            hint="Add a `read`, such as `read: {path: /customers}`; it is used for this only.",
        )
    records = await sample(end.system, end.auth, references, context, limit)
    if not records:
        raise SpeclabError(
            f"the fields of the {end.role} are unknown: it has no records",
            hint="Check that `read` names the right list.",
        )
    return DiscoveredSchema(collect_fields(records), describe_sample(len(records)))


def describe_sample(count: int) -> str:
    """Return the size of a sample in words."""
    return "the first record" if count == 1 else f"the first {count:,} records"


def _redact_field(field: Field, references: References) -> Field:
    return replace(field, values=tuple(_redact_value(value, references) for value in field.values))


def _redact_value(value: Json, references: References) -> Json:
    if isinstance(value, str):
        return references.redactor.redact(value)
    if isinstance(value, list):
        return [_redact_value(inner, references) for inner in value]
    if isinstance(value, dict):
        return {references.redactor.redact(key): _redact_value(inner, references) for key, inner in value.items()}
    return value
