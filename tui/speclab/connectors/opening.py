"""Opening a system by the name its settings give, found in the entry-point group that connectors are installed in."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final

from speclab.connectors.base import Connector, Finder, Reader, Seams, Writer
from speclab.errors import SpecError

if TYPE_CHECKING:
    from speclab.connectors.references import References
    from speclab.jsonvalue import Record
    from speclab.spec.auth import Auth
    from speclab.spec.settings import RetrySettings
    from speclab.spec.system import System

_GROUP: Final = "speclab.connectors"


def open_reader(
    system: System, auth: Auth, references: References, seams: Seams, retry: RetrySettings | None = None
) -> Reader:
    """A reader of `system`; what may heal is tried again as `retry` says.

    Raises `SpecError` for settings that cannot work, and `UnresolvedReference`.
    """
    return connector_of(system).reader(system, auth, references, seams, retry or _default_retry())


def open_writer(
    system: System, auth: Auth, references: References, seams: Seams, retry: RetrySettings | None = None
) -> Writer:
    """A writer to `system`. Raises as `open_reader` does."""
    return connector_of(system).writer(system, auth, references, seams, retry or _default_retry())


def open_finder(
    system: System, auth: Auth, references: References, seams: Seams, retry: RetrySettings | None = None
) -> Finder | None:
    """What looks records up at `system`; None where it cannot be asked. Raises as `open_reader` does."""
    opens = connector_of(system).finder
    return opens(system, auth, references, seams, retry or _default_retry()) if opens else None


async def sample(
    system: System, auth: Auth, references: References, seams: Seams, limit: int, retry: RetrySettings | None = None
) -> list[Record]:
    """The first `limit` records of `system`, from as many pages as they take. Raises as a reader does."""
    await references.fetch(system, auth)
    reader = open_reader(system, auth, references, seams, retry)
    records: list[Record] = []
    try:
        pages = reader.pages(None, full=True)
        async for page in pages:
            records += page.records
            if len(records) >= limit:
                break
        if isinstance(pages, AsyncGenerator):
            await pages.aclose()  # it may have asked for the next page already
    finally:
        await reader.close()
    return records[:limit]


def connector_of(system: System) -> Connector[System]:
    """The connector that `system` names. Raises `SpecError` where there is none."""
    found = entry_points(group=_GROUP, name=system.connector)
    if not found:
        names = ", ".join(sorted(entry_points(group=_GROUP).names))
        raise SpecError(f"there is no connector '{system.connector}' here; there is {names or 'none'}")
    connector: Connector[System] = next(iter(found)).load()
    return connector


def _default_retry() -> RetrySettings:
    from speclab.spec.settings import RetrySettings

    return RetrySettings()
