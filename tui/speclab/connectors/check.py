"""Trying the credentials of one end of an integration: what they name, the token they get, and a request with them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from speclab.connectors.api import Reader, RuntimeContext
from speclab.connectors.registry import load_parts, open_reader, open_writer
from speclab.connectors.secrets.references import References, find_references
from speclab.core.clock import format_timestamp
from speclab.core.errors import SpeclabError, Unauthorized
from speclab.core.text import format_count

if TYPE_CHECKING:
    from speclab.connectors.auth.login import Show
    from speclab.connectors.auth.tokens import Token
    from speclab.spec.auth import OAuth2Auth
    from speclab.spec.integration import Endpoint


@dataclass(frozen=True, slots=True)
class ConnectionCheck:
    """How far one end let us in: each field is empty where it did not come to that, `error` says why it ended.

    `references` are all that the end's settings name; `request` is what was asked with the credentials and answered.
    """

    references: tuple[str, ...]
    token: Token | None = None
    is_new: bool = False
    """Whether the token was had just now, and not kept from before."""
    request: str = ""
    error: SpeclabError | None = None

    @property
    def granted(self) -> bool:
        """Whether the credentials are good, as far as a request that changes nothing can tell."""
        return self.error is None

    @property
    def token_expires_at(self) -> str | None:
        """When the token ends, as the run log writes times; None where there is none, or nobody knows."""
        if self.token is None or self.token.expires_at is None:
            return None
        return format_timestamp(datetime.fromtimestamp(self.token.expires_at, UTC))


def _untold(access: ConnectionCheck) -> None:
    """For those who only wait for the end."""


async def check_connection(
    end: Endpoint,
    references: References,
    context: RuntimeContext,
    *,
    show: Show | None = None,
    renew: bool = False,
    tell: Callable[[ConnectionCheck], None] = _untold,
) -> ConnectionCheck:
    """Resolve what `end` names, get a token where it has one, and make the cheapest request that needs it.

    A person logs in where the flow wants it and `show` can ask them to. With `renew`, a token that is kept does not
    count. `tell` is told how far it has come: when all that is named was found, and when there is a token. What goes
    wrong is told, not raised.
    """
    access = ConnectionCheck(tuple(dict.fromkeys(find_references(end.system) + find_references(end.auth))))
    try:
        await references.fetch(end.system, end.auth)
        references.resolve_settings(end.system)
        auth = references.resolve_settings(end.auth)
        tell(access)
        if auth.type != "oauth2":
            return replace(access, request=await _asked(end, references, context))
        login = _Login(auth, references, context, show)
        access = await login.token(access, renew=renew)
        tell(access)
        try:
            return replace(access, request=await _asked(end, references, context))
        except Unauthorized:
            if access.is_new or not login.by_person:
                raise
        access = await login.anew(access)  # the token that was kept is no good after all
        tell(access)
        return replace(access, request=await _asked(end, references, context))
    except SpeclabError as error:
        return replace(access, error=error)


class _Login:
    """The way to a token, with a person at hand where `show` can ask one."""

    def __init__(self, auth: OAuth2Auth, references: References, context: RuntimeContext, show: Show | None) -> None:
        from speclab.connectors.auth.oauth2 import INTERACTIVE, Tokens

        self._auth = auth
        self._redactor = references.redactor
        self._context = context
        self._show = show
        self._tokens = Tokens(auth, references.redactor, context)
        self.by_person = auth.flow in INTERACTIVE and show is not None

    async def token(self, access: ConnectionCheck, *, renew: bool) -> ConnectionCheck:
        """`access` with a token: one that is kept, or a new one, or one that a person logs in for."""
        before = self._context.clock.now().timestamp()
        if renew and self.by_person:
            return await self.anew(access)
        try:
            token = await (self._tokens.renewed() if renew else self._tokens.current())
        except Unauthorized:
            if not self.by_person:
                raise
            return await self.anew(access)
        return replace(access, token=token, is_new=token.issued_at >= before)

    async def anew(self, access: ConnectionCheck) -> ConnectionCheck:
        """`access` with a token that a person logs in for."""
        from speclab.connectors.auth.login import log_in

        assert self._show is not None  # noqa: S101 - `by_person` says so
        token = await log_in(self._auth, self._redactor, self._context, self._show)
        await self._tokens.take(token)
        return replace(access, token=token, is_new=True)


async def _asked(end: Endpoint, references: References, context: RuntimeContext) -> str:
    """What a request that changes nothing was answered: the first page of a source, a look at a target."""
    from speclab.spec.settings import RetrySettings

    once = RetrySettings(attempts=1)
    if end.role == "source":
        return await _first_page(open_reader(end.system, end.auth, references, context, once))
    check = load_parts(end.system).check
    if check is not None:
        return await check(end.system, end.auth, references, context, once)
    await open_writer(end.system, end.auth, references, context, once).close()
    return "it has nothing that could be asked without writing"


async def _first_page(reader: Reader) -> str:
    try:
        pages = reader.pages(None, full=True)
        page = await anext(aiter(pages), None)
        if isinstance(pages, AsyncGenerator):
            await pages.aclose()  # it may have asked for the next page already
    finally:
        await reader.close()
    return "no page" if page is None else f"{page.request}: {format_count(len(page.records), 'record')}"
