"""What fields one end of an integration has: as its connector knows them, or else as the records it reads show."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from speclab.connectors.api import DiscoveredSchema, RuntimeContext
from speclab.connectors.registry import load_parts, sample
from speclab.core.errors import SpeclabError
from speclab.mapping.fields import Field, collect_fields

if TYPE_CHECKING:
    from speclab.connectors.secrets.references import References
    from speclab.core.json import Json
    from speclab.spec.integration import Endpoint


LOOKED_AT: Final = 500
"""Records that are looked at unless told otherwise."""


async def discover_schema(
    end: Endpoint, references: References, context: RuntimeContext, limit: int = LOOKED_AT
) -> DiscoveredSchema:
    """The fields of one end; no more than `limit` of its records are looked at, and nothing is changed there.

    Secrets are taken out of the values. Raises as a reader does, and `SpeclabError` where it cannot be known.
    """
    await references.fetch(end.system, end.auth)
    discover = load_parts(end.system).discover
    found = await discover(end.role, end.system, end.auth, references, context, limit) if discover else None
    if found is None:
        found = await _sampled(end, references, context, limit)
    return replace(found, fields=tuple(_redacted(field, references) for field in found.fields))


async def _sampled(end: Endpoint, references: References, context: RuntimeContext, limit: int) -> DiscoveredSchema:
    """The fields of the first records that a reader gives."""
    if end.role == "target" and getattr(end.system, "read", end) is None:
        raise SpeclabError(
            f"what fields the target has cannot be known: {end.system.connector} only says by reading, and the "
            "Target System says nothing of how it is read",
            hint="Give it a `read`, such as `read: {path: /customers}`; it is used for nothing else.",
        )
    records = await sample(end.system, end.auth, references, context, limit)
    if not records:
        raise SpeclabError(
            f"what fields the {end.role} has cannot be known: it has no records",
            hint="Is its `read` about the right list?",
        )
    return DiscoveredSchema(collect_fields(records), first(len(records)))


def first(count: int) -> str:
    """So many records that were looked at, in words."""
    return "the first record" if count == 1 else f"the first {count:,} records"


def _redacted(field: Field, references: References) -> Field:
    return replace(field, values=tuple(_without_secrets(value, references) for value in field.values))


def _without_secrets(value: Json, references: References) -> Json:
    if isinstance(value, str):
        return references.redactor.redact(value)
    if isinstance(value, list):
        return [_without_secrets(inner, references) for inner in value]
    if isinstance(value, dict):
        return {references.redactor.redact(key): _without_secrets(inner, references) for key, inner in value.items()}
    return value
