"""Target fields that no mapping row writes, each with a suggested row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from speclab.mapping.fields import Field, Suggestion, find_unmapped, suggest
from speclab.mapping.types import kind_label
from speclab.workbench.mapping_sheet import MappingSheet


@dataclass(frozen=True, slots=True)
class UnmappedTarget:
    """A target field that no row writes: its type and whether it is required, if known, and a suggested row."""

    target: str
    type: str
    required: bool
    suggestion: Suggestion | None

    @property
    def key(self) -> str:
        """The key of its row in the grid."""
        return f"+{self.target}"


SuggestionCache: TypeAlias = "dict[tuple[str, str], Suggestion | None]"
"""Suggestions by target and schema: with hundreds of fields on both sides they take a moment to compute."""


def find_unmapped_targets(
    sheet: MappingSheet, fields: Sequence[Field], target_fields: Sequence[Field], cache: SuggestionCache
) -> list[UnmappedTarget]:
    """Return the target fields that no row writes: required ones first, then those of `check`, then `target_fields`.

    `fields` are the source's, from which rows are suggested; `cache` holds suggestions made from the same fields.
    """
    known = {str(field.path): field for field in target_fields}
    required = list(dict.fromkeys([*_required(sheet), *(name for name, field in known.items() if field.required)]))
    written = [row.target for row in sheet.rows if row.target]
    found = []
    for target in find_unmapped(written, [*required, *sheet.settings.check, *known]):
        schema = sheet.settings.check.get(target)
        kind = schema.get("type") if schema else None
        if kind is None and target in known:
            kind = kind_label(known[target].kind)
        key = (target, repr(schema))
        if key not in cache:
            cache[key] = next(iter(suggest(target, fields, schema)), None)
        found.append(UnmappedTarget(target, kind if isinstance(kind, str) else "", target in required, cache[key]))
    return found


def _required(sheet: MappingSheet) -> Iterator[str]:
    """Yield the target's key fields and the fields its paths and queries need."""
    integration = sheet.reading.integration
    if integration is None:
        return
    target = integration.target
    yield from [target.key] if isinstance(target.key, str) else target.key
    for paths in target.get_required_paths().values():
        yield from map(str, paths)
