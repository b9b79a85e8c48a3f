"""What to say when a name is not there: the names near it, or those there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rapidfuzz import fuzz, process, utils

_NEAR: Final = 60.0
_SURE: Final = 75.0
_SHOWN: Final = 12


def near(name: str, names: Sequence[str]) -> list[str]:
    """Those of `names` that `name` may be a slip of, nearest first, at most three."""
    found = process.extract(
        name, names, scorer=fuzz.WRatio, processor=utils.default_process, score_cutoff=_NEAR, limit=3
    )
    return [str(match[0]) for match in found]


def slip(name: str, names: Sequence[str]) -> str | None:
    """The one of `names` that `name` is surely a slip of: nearly the same letters, and no other as near."""
    found = process.extract(
        name, names, scorer=fuzz.ratio, processor=utils.default_process, score_cutoff=_SURE, limit=2
    )
    if not found or (len(found) > 1 and found[1][1] >= found[0][1]):
        return None
    return str(found[0][0])


def nearest(name: str, names: Sequence[str], there_are: str) -> str:
    """A hint: `did you mean 'a' or 'b'?`; else `there_are` and the names."""
    if meant := near(name, names):
        return f"did you mean {' or '.join(repr(other) for other in meant)}?"
    shown = ", ".join(repr(other) for other in names[:_SHOWN])
    return f"{there_are} {shown}{', ...' if len(names) > _SHOWN else ''}" if names else ""
