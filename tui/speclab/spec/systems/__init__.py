"""The systems that speclab itself has connectors for, by the name that a spec gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from speclab.spec.system import System
from speclab.spec.systems.file import FileSystem
from speclab.spec.systems.http import HttpSystem
from speclab.spec.systems.sql import SqlSystem

SYSTEMS: Final[Mapping[str, type[System]]] = {"http": HttpSystem, "sql": SqlSystem, "file": FileSystem}
