"""What to say when a name is not there: the names near it, or those there are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from rapidfuzz import fuzz
from rapidfuzz.distance import OSA
from rapidfuzz.utils import default_process

_NEAR: Final = 65.0
_SURE: Final = 75.0
_SHOWN: Final = 12


def near(name: str, names: Sequence[str]) -> list[str]:
    """Those of `names` that `name` may be a slip of, nearest first, at most three; of an address its end will do."""
    scores = {other: max(_likeness(name, other), _likeness(name, other.rpartition(" > ")[2])) for other in names}
    return sorted((other for other in scores if scores[other] >= _NEAR), key=lambda other: -scores[other])[:3]


def slip(name: str, names: Sequence[str]) -> str | None:
    """The one of `names` that `name` is surely a slip of: nearly the same letters, and no other as near."""
    scores = sorted(((_likeness(name, other), other) for other in names), reverse=True)
    if not scores or (len(scores) > 1 and scores[1][0] == scores[0][0]):
        return None
    score, other = scores[0]
    one_slip = len(name) > 2 and OSA.distance(name, other, processor=default_process, score_cutoff=1) == 1
    return other if score >= _SURE or one_slip else None


def meant(name: str, names: Iterable[str]) -> str:
    """The end of a message that `name` is not there: `. Did you mean 'a'?`, or nothing where none is near."""
    found = near(name, list(names))
    return f". Did you mean '{found[0]}'?" if found else ""


def nearest(name: str, names: Sequence[str], there_are: str) -> str:
    """A hint: `did you mean 'a' or 'b'?`; else `there_are` and the names."""
    if close := near(name, names):
        return f"did you mean {' or '.join(repr(other) for other in close)}?"
    shown = ", ".join(repr(other) for other in names[:_SHOWN])
    return f"{there_are} {shown}{', ...' if len(names) > _SHOWN else ''}" if names else ""


def _likeness(one: str, other: str) -> float:
    return fuzz.ratio(one, other, processor=default_process)
