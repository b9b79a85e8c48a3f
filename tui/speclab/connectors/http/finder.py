"""Looking records up as a run would before it writes: with the spec's `lookup`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from speclab.connectors.base import Item, Refusal, Seams
from speclab.connectors.http.writer import HttpWriter
from speclab.connectors.references import References
from speclab.jsonvalue import Record
from speclab.spec.auth import Auth
from speclab.spec.settings import RetrySettings
from speclab.spec.systems.http import HttpSystem


class HttpFinder:
    """Asks `write.lookup` for each record, at the pace the limits allow."""

    dear = True

    def __init__(self, writer: HttpWriter) -> None:
        self._writer = writer

    async def find(self, items: Sequence[Item]) -> Sequence[Record | Refusal | None]:
        """What the lookup finds of each item, in order."""
        return await asyncio.gather(*map(self._writer.find, items))

    async def close(self) -> None:
        """Close the connections."""
        await self._writer.close()


def http_finder(
    system: HttpSystem, auth: Auth, references: References, seams: Seams, retry: RetrySettings
) -> HttpFinder | None:
    """The finder of a target with a `lookup`. Raises `SpecError` for settings that cannot work."""
    if system.write is None or system.write.lookup is None:
        return None
    return HttpFinder(HttpWriter(system, auth, references, seams, retry))
