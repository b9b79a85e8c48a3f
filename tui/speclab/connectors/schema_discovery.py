"""Schema discovery: the fields of an endpoint, from its connector or else from a sample of its records."""

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


SAMPLE_SIZE: Final = 500
"""Number of records in a sample by default."""


async def discover_schema(
    end: Endpoint, references: References, context: RuntimeContext, limit: int = SAMPLE_SIZE
) -> DiscoveredSchema:
    """Return the fields of `end`, from at most `limit` of its records, without changing anything.

    Secrets are removed from the values. Raises as a reader does, and `SpeclabError` if the fields cannot be known.
    """
    await references.fetch(end.system, end.auth)
    discover = load_parts(end.system).discover
    found = await discover(end.role, end.system, end.auth, references, context, limit) if discover else None
    if found is None:
        found = await _sample_fields(end, references, context, limit)
    return replace(found, fields=tuple(_redact_field(field, references) for field in found.fields))


async def _sample_fields(
    end: Endpoint, references: References, context: RuntimeContext, limit: int
) -> DiscoveredSchema:
    """Return the fields of the first records that a reader returns."""
    if end.role == "target" and getattr(end.system, "read", end) is None:
        raise SpeclabError(
            f"the fields of the target are unknown: {end.system.connector} shows them only in its records, and the "
            "Target System has no `read`",
            hint="Add a `read`, such as `read: {path: /customers}`; it is used for this only.",
        )
    records = await sample(end.system, end.auth, references, context, limit)
    if not records:
        raise SpeclabError(
            f"the fields of the {end.role} are unknown: it has no records",
            hint="Check that `read` names the right list.",
        )
    return DiscoveredSchema(collect_fields(records), describe_sample(len(records)))


def describe_sample(count: int) -> str:
    """Return the size of a sample in words."""
    return "the first record" if count == 1 else f"the first {count:,} records"


def _redact_field(field: Field, references: References) -> Field:
    return replace(field, values=tuple(_redact_value(value, references) for value in field.values))


def _redact_value(value: Json, references: References) -> Json:
    if isinstance(value, str):
        return references.redactor.redact(value)
    if isinstance(value, list):
        return [_redact_value(inner, references) for inner in value]
    if isinstance(value, dict):
        return {references.redactor.redact(key): _redact_value(inner, references) for key, inner in value.items()}
    return value
