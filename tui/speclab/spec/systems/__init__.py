"""The kinds of system there are, by the name that a spec gives them: entry points of the group `speclab.settings`.

What reads and writes them is in another group, for it takes long to import, and a spec is checked without it.
"""

from __future__ import annotations

from typing import Final

from speclab.installed import Installed, Unfit
from speclab.spec.system import System


def checked(found: object) -> type[System]:
    """`found`, if it can be the settings of a system. Raises `Unfit`, and whatever its fields raise."""
    if not isinstance(found, type) or not issubclass(found, System):
        raise Unfit("is no subclass of speclab.spec.system.System")
    found.model_rebuild()  # what is wrong with its fields is found here, and not at the first spec that uses it
    return found


SYSTEMS: Final[Installed[type[System]]] = Installed("speclab.settings", checked)
