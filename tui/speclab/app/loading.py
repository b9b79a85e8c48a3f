"""Modules that take time to load: loaded in a thread, so that no key is late, and one at a time.

Two threads that import the same packages in another order can each be given a module that is not complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Lock
from typing import Final, TypeVar

Loaded = TypeVar("Loaded")

_ALONE: Final = Lock()


async def loaded(load: Callable[[], Loaded]) -> Loaded:
    """What `load` gives, a function that imports; nothing else is being loaded meanwhile."""
    return await asyncio.to_thread(_alone, load)


def _alone(load: Callable[[], Loaded]) -> Loaded:
    with _ALONE:
        return load()
