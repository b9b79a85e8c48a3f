"""The kinds of system that a spec can name, with their settings: the connectors of the group `speclab.connectors`.

Only a connector's settings are used here, so that a spec is checked without the code that reads and writes.
"""

from __future__ import annotations

from typing import Final

from speclab.core.plugins import InvalidPlugin, PluginRegistry
from speclab.spec.settings import Settings, System
from speclab.spec.settings_block import find_model


def validate_settings(found: object) -> type[System]:
    """Return the settings of the connector `found`. Raises `InvalidPlugin`, and any error of its fields."""
    settings = getattr(found, "settings", None)
    if settings is None:
        raise InvalidPlugin("is not a speclab.connectors.api.Connector with `settings`")
    if not isinstance(settings, type) or not issubclass(settings, System):
        raise InvalidPlugin("has settings that are not a subclass of speclab.spec.settings.System")
    if not settings.__module__.startswith("speclab."):  # building a model takes milliseconds, and ours are tested
        settings.model_rebuild()  # reports invalid fields here instead of at the first spec that uses them
        _check_depth(settings, ())
    return settings


def _check_depth(model: type[Settings], above: tuple[type[Settings], ...]) -> None:
    """Reject recursive settings: the guide and the reference list every nested setting."""
    if model in above:
        raise InvalidPlugin(f"has settings that contain themselves: {model.__name__}")
    for info in model.model_fields.values():
        if inner := find_model(info.annotation):
            _check_depth(inner, (*above, model))


SYSTEMS: Final[PluginRegistry[type[System]]] = PluginRegistry("speclab.connectors", validate_settings)
