"""A look at a target file that changes nothing: whether it is there, and whether one may look."""

from __future__ import annotations

import asyncio

from speclab.connectors.base import Seams
from speclab.connectors.file.target import Target
from speclab.connectors.references import References
from speclab.spec.auth import Auth
from speclab.spec.settings import RetrySettings
from speclab.spec.systems.file import FileSystem


async def file_probe(system: FileSystem, auth: Auth, references: References, seams: Seams, retry: RetrySettings) -> str:
    """What a look found. Raises `Unauthorized`, `Unreachable` and `SpecError`."""
    del auth, seams, retry  # a store's credentials are in its options
    target = Target(references.resolve_settings(system), references)
    there = await asyncio.to_thread(target.place.exists)
    return f"{target.name}: {'is there' if there else 'not there yet; a run makes it'}"
