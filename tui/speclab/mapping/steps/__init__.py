"""The catalogue of steps; each module here has the steps of one kind of value."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from rapidfuzz import fuzz, process

from speclab.mapping.steps.dates import DATE_STEPS
from speclab.mapping.steps.numbers import NUMBER_STEPS
from speclab.mapping.steps.text import TEXT_STEPS
from speclab.mapping.steps.values import JOIN_STEPS, VALUE_STEPS
from speclab.mapping.types import Step

STEPS: Final[Mapping[str, Step]] = MappingProxyType(
    {step.name: step for step in (*VALUE_STEPS, *TEXT_STEPS, *NUMBER_STEPS, *DATE_STEPS, *JOIN_STEPS)}
)
"""All steps by name, in the order of the help."""

_BY_NAME: Final = {name.lower(): step for name, step in STEPS.items()}
_BY_OTHER_NAME: Final = {other: step for step in reversed(list(STEPS.values())) for other in step.other_names}
_NEAR: Final = 70


def find_step(name: str) -> Step | None:
    """Return the step with this name, ignoring case."""
    return _BY_NAME.get(name.lower())


def find_similar_step(name: str) -> Step | None:
    """Return the step that `name` probably means: a name in other tools, or a misspelled one."""
    plain = name.lower().replace("_", "").replace("-", "").replace(" ", "")
    if step := _BY_NAME.get(plain) or _BY_OTHER_NAME.get(plain):
        return step
    prefixed = [step for key, step in _BY_NAME.items() if len(plain) > 1 and key.startswith(plain)]
    if prefixed:
        return prefixed[0]  # as completion does
    for names in (_BY_NAME, _BY_OTHER_NAME):
        for found in process.extract(plain, names.keys(), scorer=fuzz.ratio, score_cutoff=_NEAR, limit=1):
            return names[found[0]]
    return None
