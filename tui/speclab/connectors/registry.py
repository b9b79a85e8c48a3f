"""Opening a system by the name its settings give, found in the entry-point group that connectors are installed in."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Final

from speclab.connectors.api import Connector, Reader, RecordLookup, RuntimeContext, Writer
from speclab.connectors.unreadable import UnreadableRecord
from speclab.core.errors import IncompleteRead, SpecError
from speclab.core.plugins import BrokenPlugin, InvalidPlugin, PluginRegistry

if TYPE_CHECKING:
    from speclab.connectors.secrets.references import References
    from speclab.core.json import Record
    from speclab.spec.auth import Auth
    from speclab.spec.settings import RetrySettings, System


def checked(found: object) -> Connector[System]:
    """`found`, if it is a connector. Raises `InvalidPlugin`."""
    if not isinstance(found, Connector):
        raise InvalidPlugin("is no speclab.connectors.api.Connector")
    return found


CONNECTORS: Final[PluginRegistry[Connector[System]]] = PluginRegistry("speclab.connectors", checked)


def open_reader(
    system: System, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings | None = None
) -> Reader:
    """A reader of `system`; what may heal is tried again as `retry` says.

    Raises `SpecError` for settings that cannot work, and `UnresolvedReference`.
    """
    opens = connector_of(system).reader
    if opens is None:
        raise SpecError(f"the connector {system.connector!r} cannot read: it is for targets alone")
    return opens(system, auth, references, context, retry or _default_retry())


def open_writer(
    system: System, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings | None = None
) -> Writer:
    """A writer to `system`. Raises as `open_reader` does."""
    opens = connector_of(system).writer
    if opens is None:
        raise SpecError(f"the connector {system.connector!r} cannot write: it is for sources alone")
    return opens(system, auth, references, context, retry or _default_retry())


def open_finder(
    system: System, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings | None = None
) -> RecordLookup | None:
    """What looks records up at `system`; None where it cannot be asked. Raises as `open_reader` does."""
    opens = connector_of(system).finder
    return opens(system, auth, references, context, retry or _default_retry()) if opens else None


async def sample(
    system: System,
    auth: Auth,
    references: References,
    context: RuntimeContext,
    limit: int,
    retry: RetrySettings | None = None,
) -> list[Record]:
    """Return the first `limit` records of `system`, from as many pages as they take.

    Records may be missing: a sample need not be complete. Raises as a reader does.
    """
    await references.fetch(system, auth)
    reader = open_reader(system, auth, references, context, retry)
    records: list[Record] = []
    try:
        pages = reader.pages(None, full=True)
        async for page in pages:
            records += [record for record in page.records if not isinstance(record, UnreadableRecord)]
            if len(records) >= limit:
                break
        if isinstance(pages, AsyncGenerator):
            await pages.aclose()  # it may have asked for the next page already
    except IncompleteRead:
        if not records:
            raise
    finally:
        await reader.close()
    return records[:limit]


def connector_of(system: System) -> Connector[System]:
    """The connector that `system` names. Raises `SpecError` where there is none that can be used."""
    found = CONNECTORS.get(system.connector)
    if found is None:
        raise SpecError(
            f"there is no connector {system.connector!r} here; there is {', '.join(CONNECTORS)}",
            hint="A package gives one by an entry point of the group speclab.connectors.",
        )
    if isinstance(found, BrokenPlugin):
        raise SpecError(f"the connector {system.connector!r} cannot be used: {found.reason}")
    return found


def _default_retry() -> RetrySettings:
    from speclab.spec.settings import RetrySettings

    return RetrySettings()
