"""Target fields that no row writes yet, each with the row that could."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from speclab.app.mapping.rows import Unmapped
from speclab.app.mapping.sheet import Sheet
from speclab.mapping.fields import Field
from speclab.mapping.kinds import label
from speclab.mapping.suggest import Suggestion, suggest, unmapped
from speclab.spec.systems.http import HttpSystem

_PLACEHOLDER: Final = re.compile(r"(?<!\$)\{([^{}]+)\}")


Suggested: TypeAlias = "dict[tuple[str, str], Suggestion | None]"
"""What was suggested for a target by its schema: of hundreds of fields at both ends it takes a moment to find."""


def offers(sheet: Sheet, fields: Sequence[Field], at_target: Sequence[Field], suggested: Suggested) -> list[Unmapped]:
    """What the target wants and no row gives.

    First its key and the placeholders of its paths, then the fields of `check`, then those that are known to be
    `at_target`; `fields` are the source's, for suggestions, and `suggested` those of the same fields so far.
    """
    known = {str(field.path): field for field in at_target}
    required = list(dict.fromkeys([*_required(sheet), *(name for name, field in known.items() if field.required)]))
    written = [row.target for row in sheet.rows if row.target]
    found = []
    for target in unmapped(written, [*required, *sheet.settings.check, *known]):
        schema = sheet.settings.check.get(target)
        kind = schema.get("type") if schema else None
        if kind is None and target in known:
            kind = label(known[target].kind)
        key = (target, repr(schema))
        if key not in suggested:
            suggested[key] = next(iter(suggest(target, fields, schema)), None)
        found.append(Unmapped(target, kind if isinstance(kind, str) else "", target in required, suggested[key]))
    return found


def _required(sheet: Sheet) -> Iterator[str]:
    integration = sheet.reading.integration
    if integration is None:
        return
    target = integration.target
    yield from [target.key] if isinstance(target.key, str) else target.key
    if isinstance(target, HttpSystem) and target.write is not None:
        for path in (target.write.upsert, target.write.create, target.write.update, target.write.batch):
            for name in _PLACEHOLDER.findall(path or ""):
                if not name.startswith(("source.", "found.")):
                    yield name
