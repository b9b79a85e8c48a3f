"""Settings of the Python interpreter that suit a command which does nothing but run a spec."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_GC_THRESHOLD: Final = 20_000
"""Objects after which garbage is collected: about one page."""
_SWITCH_INTERVAL: Final = 0.0001
"""Seconds for which a thread keeps Python's lock when another one wants it."""


@contextmanager
def tuned_interpreter() -> Iterator[None]:
    """Tune Python for pages, which are many objects at once and are written while the next ones are read.

    A full garbage collection goes through all that was ever imported, which costs 3 µs a record; the small ones, every
    700 objects by default, cost another. And a thread that writes a page would wait for the lock until the next page is
    mapped: that takes less than the default switch interval of 5 ms.
    """
    thresholds, interval = gc.get_threshold(), sys.getswitchinterval()
    gc.set_threshold(_GC_THRESHOLD, *thresholds[1:])
    gc.freeze()
    sys.setswitchinterval(_SWITCH_INTERVAL)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.unfreeze()
        gc.set_threshold(*thresholds)
