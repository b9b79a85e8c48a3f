"""Which way records go: from where to where. A cursor is of one way, and of no use on another."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from speclab.spec.systems.http import HttpSystem
from speclab.spec.systems.singer import SingerSystem
from speclab.spec.systems.sql import SqlSystem

if TYPE_CHECKING:
    from speclab.jsonvalue import Json
    from speclab.runlog import RunLog
    from speclab.spec.system import System


def way(source: System, target: System) -> str:
    """A name for the way from `source` to `target`, whose references are resolved; it tells nothing of them."""
    return f"{_short(_origin(source))}-{_short(target.destination())}"


def cursor_on(log: RunLog, spec_id: str, way: str) -> tuple[Json, str]:
    """The cursor that a read on `way` goes on from; where it is of another way, none, and what is told of that."""
    known = log.way(spec_id)
    if known is None or known == way:
        return log.checkpoint(spec_id), ""
    end = "source" if known.partition("-")[0] != way.partition("-")[0] else "target"
    return None, f"the {end} is another than that of the runs before; reading from the start"


def _origin(source: System) -> str:
    """Where records come from: the place, and what is read there."""
    place = source.destination()
    if isinstance(source, HttpSystem) and source.read is not None:
        parents = source.read.for_each.path if source.read.for_each else ""
        return f"{place} {source.read.path or source.read.request} {parents}"
    if isinstance(source, SqlSystem) and source.read is not None:
        return f"{place} {source.read.table or source.read.query}"
    if isinstance(source, SingerSystem):  # its config has settings that the cursor outlives, and no name for the place
        return f"singer {source.command} {source.stream}"
    return place


def _short(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
