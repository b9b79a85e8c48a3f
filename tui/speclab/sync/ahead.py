"""Reading ahead: the next page is read and drafted while the one before is delivered. One page, never more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

from speclab.connectors.base import Page
from speclab.errors import SystemFailure
from speclab.sync.draft import Draft, Drafter
from speclab.sync.patience import Patience


@dataclass(frozen=True, slots=True)
class DraftedPage:
    """A page and the drafts of its records, to be delivered one after the other; `cut` if a limit left some out."""

    page: Page
    drafts: list[Draft]
    cut: bool

    @property
    def read(self) -> int:
        """How many records the drafts are of."""
        return sum(draft.read for draft in self.drafts)


async def read_ahead(
    pages: AsyncIterator[Page], drafter: Drafter, patience: Patience, limit: int | None
) -> AsyncGenerator[DraftedPage, None]:
    """`pages` with their drafts, at most `limit` records in all.

    Ends early when the run is asked to stop while a page is being read.
    """
    following = asyncio.ensure_future(_next(pages, drafter, limit))
    try:
        while page := await patience.unless_cancelled(following):
            limit = None if limit is None else limit - page.read
            following = asyncio.ensure_future(_next(pages, drafter, limit))
            yield page
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError, SystemFailure):
            await following
        if isinstance(pages, AsyncGenerator):
            await pages.aclose()


async def _next(pages: AsyncIterator[Page], drafter: Drafter, limit: int | None) -> DraftedPage | None:
    """The next page, drafted; None after the last, and where the limit leaves nothing of it."""
    if limit == 0:
        return None
    page = await anext(pages, None)
    if page is None:
        return None
    records = page.records if limit is None else page.records[:limit]
    return DraftedPage(page, drafter.drafts(records), cut=len(records) < len(page.records))
