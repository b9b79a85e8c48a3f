"""Opens the reader, writer, lookup or lister of a system by the connector that its settings name.

Connectors are entry points of the group `speclab.connectors`, those of speclab as well as those of other packages.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Final

from speclab.connectors.api import (
    Connector,
    ConnectorParts,
    Reader,
    RecordLister,
    RecordLookup,
    RuntimeContext,
    UnreadableRecord,
    Writer,
)
from speclab.core.errors import IncompleteRead, SpecError
from speclab.core.plugins import BrokenPlugin, InvalidPlugin, PluginRegistry, describe_exception
from speclab.spec.settings import RetrySettings

if TYPE_CHECKING:
    from speclab.connectors.secrets.references import References
    from speclab.core.json import Record
    from speclab.spec.auth import Auth
    from speclab.spec.settings import System


def validate_connector(found: object) -> Connector[System]:
    """Return `found` if it is a connector. Raises `InvalidPlugin`."""
    if not isinstance(found, Connector):
        raise InvalidPlugin("is not a speclab.connectors.api.Connector")
    return found


CONNECTORS: Final[PluginRegistry[Connector[System]]] = PluginRegistry("speclab.connectors", validate_connector)


def open_reader(
    system: System, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings | None = None
) -> Reader:
    """Return a reader of `system`, which retries as `retry` says.

    Raises `SpecError` for settings that cannot work, and `UnresolvedReference`.
    """
    opens = load_parts(system).reader
    if opens is None:
        raise SpecError(f"the connector {system.connector!r} cannot be a source: it only writes")
    return opens(system, auth, references, context, retry or RetrySettings())


def open_writer(
    system: System, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings | None = None
) -> Writer:
    """Return a writer to `system`. Raises as `open_reader` does."""
    opens = load_parts(system).writer
    if opens is None:
        raise SpecError(f"the connector {system.connector!r} cannot be a target: it only reads")
    return opens(system, auth, references, context, retry or RetrySettings())


def open_lookup(
    system: System, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings | None = None
) -> RecordLookup | None:
    """Return a lookup of records at `system`, or None if it has none. Raises as `open_reader` does."""
    opens = load_parts(system).lookup
    return opens(system, auth, references, context, retry or RetrySettings()) if opens else None


def open_lister(
    system: System, auth: Auth, references: References, context: RuntimeContext, retry: RetrySettings | None = None
) -> RecordLister | None:
    """Return a lister of the records at `system`, or None if they cannot be listed. Raises as `open_reader` does."""
    opens = load_parts(system).lister
    return opens(system, auth, references, context, retry or RetrySettings()) if opens else None


async def sample(
    system: System,
    auth: Auth,
    references: References,
    context: RuntimeContext,
    limit: int,
    retry: RetrySettings | None = None,
) -> list[Record]:
    """Return the first `limit` records of `system`, from as many pages as they take.

    A sample may be incomplete: records that cannot be read are left out. Raises as a reader does.
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
            await pages.aclose()  # stops the prefetch of the next page
    except IncompleteRead:
        if not records:
            raise
    finally:
        await reader.close()
    return records[:limit]


def load_parts(system: System) -> ConnectorParts[System]:
    """Return the parts of the connector that `system` names. Raises `SpecError` if there is none that can be used."""
    name = system.connector
    if system.runs_elsewhere:
        raise SpecError(f"the connector {name!r} has no records: another tool runs the integration")
    connector = CONNECTORS.get(name)
    if connector is None:
        raise SpecError(
            f"the connector {name!r} is not installed; installed are {', '.join(CONNECTORS)}",
            hint="Install the package that provides it, into the environment of speclab.",
        )
    if isinstance(connector, BrokenPlugin):
        raise SpecError(f"the connector {name!r} cannot be used: {connector.reason}")
    try:
        parts = connector.load()
    except Exception as error:
        reason = f"its parts cannot be loaded: {describe_exception(error)}; fix the package, or uninstall it"
        raise SpecError(f"the connector {name!r} cannot be used: {reason}") from error
    if not isinstance(parts, ConnectorParts):
        raise SpecError(
            f"the connector {name!r} cannot be used: expected ConnectorParts from `load`, got {type(parts).__name__}"
        )
    return parts
