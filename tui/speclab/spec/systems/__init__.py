"""The kinds of system there are, by the name that a spec gives them: entry points of the group `speclab.settings`.

What reads and writes them is in another group, for it takes long to import, and a spec is checked without it.
"""

from __future__ import annotations

from typing import Final

from speclab.core.plugins import InvalidPlugin, PluginRegistry
from speclab.spec.settings import Settings, System
from speclab.spec.settings_block import model_in


def checked(found: object) -> type[System]:
    """`found`, if it can be the settings of a system. Raises `InvalidPlugin`, and whatever its fields raise."""
    if not isinstance(found, type) or not issubclass(found, System):
        raise InvalidPlugin("is no subclass of speclab.spec.settings.System")
    if not found.__module__.startswith("speclab."):  # ours are well, and building one takes milliseconds
        found.model_rebuild()  # what is wrong with its fields is found here, and not at the first spec that uses it
        _check_depth(found, ())
    return found


def _check_depth(model: type[Settings], above: tuple[type[Settings], ...]) -> None:
    """Settings have an end: whoever lists them, such as the guide, goes through all there are."""
    if model in above:
        raise InvalidPlugin(f"has settings that hold themselves: {model.__name__}")
    for info in model.model_fields.values():
        if inner := model_in(info.annotation):
            _check_depth(inner, (*above, model))


SYSTEMS: Final[PluginRegistry[type[System]]] = PluginRegistry("speclab.settings", checked)
