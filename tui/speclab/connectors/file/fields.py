"""The fields of files: what their first records have, or the header of a table without any."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from speclab.connectors.base import Description, Seams
from speclab.connectors.describing import first
from speclab.connectors.file.target import Target
from speclab.connectors.opening import sample
from speclab.connectors.references import References
from speclab.errors import SpeclabError
from speclab.mapping.fields import field_of, fields_of
from speclab.paths import FieldPath

if TYPE_CHECKING:
    from speclab.spec.auth import Auth
    from speclab.spec.integration import Role
    from speclab.spec.systems.file import FileSystem


async def file_fields(
    role: Role, system: FileSystem, auth: Auth, references: References, seams: Seams, limit: int
) -> Description:
    """What the first `limit` records of the file have, at either end.

    Raises as a reader does, and `SpeclabError` for a target that is not there yet, or a file that says nothing.
    """
    target = Target(references.resolve_settings(system), references)
    if role == "target" and not await asyncio.to_thread(target.place.exists):
        raise SpeclabError(f"{target.name} is not there yet", hint="A run makes it, with the fields of the mapping.")
    records = await sample(system, auth, references, seams, limit)
    if records:
        return Description(fields_of(records), f"{first(len(records))} of {target.name}")
    names = await asyncio.to_thread(target.columns)
    if not names:
        raise SpeclabError(f"{target.name} has no records, which could show what fields it has")
    return Description(tuple(field_of(FieldPath((name,)), (), 0) for name in names), f"the header of {target.name}")
