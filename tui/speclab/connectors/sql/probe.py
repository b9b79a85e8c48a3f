"""A look at a target database that changes nothing: whether it can be connected to."""

from __future__ import annotations

from speclab.connectors.base import Seams
from speclab.connectors.references import References
from speclab.connectors.sql.database import Database
from speclab.spec.auth import Auth
from speclab.spec.settings import RetrySettings
from speclab.spec.systems.sql import SqlSystem


async def probe(system: SqlSystem, auth: Auth, references: References, seams: Seams, retry: RetrySettings) -> str:
    """What came of connecting. Raises `Unauthorized`, `Unreachable` and `SpecError`."""
    del auth  # a database's credentials are in its URL
    system = references.resolve_settings(system)
    database = Database(system.url, references, system.limits, seams, retry, writes=False)
    try:
        if database.absent:
            return f"{database.name}: not there yet; a run makes it"
        await database.run(lambda _: None)
        return f"{database.name}: connected"
    finally:
        await database.close()
