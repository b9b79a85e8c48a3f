"""The fields of a stream, as a tap's catalog describes them."""

from __future__ import annotations

from speclab.connectors.base import Description, Seams
from speclab.connectors.references import References
from speclab.connectors.singer.source import Tap
from speclab.errors import SpeclabError
from speclab.mapping.fields import fields_of_schema
from speclab.spec.auth import Auth
from speclab.spec.integration import Role
from speclab.spec.systems.singer import SingerSystem


async def fields(
    role: Role, system: SingerSystem, auth: Auth, references: References, seams: Seams, limit: int
) -> Description | None:
    """What the catalog says of the stream; None for a tap without one.

    Raises `Unreachable`, `Unauthorized` and `BadAnswer`, and `SpeclabError` for a target.
    """
    del auth, limit
    if role == "target":
        raise SpeclabError(
            "what fields the target has cannot be known: a Singer target takes the records it is given",
            hint="What it checks is in its documentation; say it in `check:` of the Field Mapping section.",
        )
    tap = Tap(system, references, seams)
    schema = await tap.schema()
    if schema is None:
        return None
    return Description(fields_of_schema(schema), f"the catalog of {tap.program.name}")
