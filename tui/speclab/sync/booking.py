"""Booking: a draft and what the target answered, made into one page of the run log's books."""

from __future__ import annotations

from collections.abc import Sequence

from speclab.connectors.base import Answer, Item
from speclab.outcome import Effect, Outcome
from speclab.runlog import PageBooks
from speclab.sync.delivery import UNDECIDED
from speclab.sync.draft import Draft
from speclab.sync.verdict import Judge


def book(draft: Draft, items: Sequence[Item], answers: Sequence[Answer], judge: Judge) -> PageBooks:
    """The books of `draft`, whose `items` were answered with `answers`; bytes read and cursor are the page's to add.

    Records left undecided are not in them, and keep the cursor where it is: the next run reads them again.
    """
    effects = [answer.effect for answer in answers]
    outcomes = draft.outcomes.copy()
    outcomes[Outcome.WRITTEN] += len(effects) - effects.count(None)
    failures = list(draft.failures)
    undecided: set[str] = set()
    for item, answer in zip(items, answers, strict=True) if None in effects else ():
        if answer is UNDECIDED:
            undecided.add(item.key)
        elif answer.refusal is not None:
            verdict = judge.verdict(item, answer)
            outcomes[verdict.outcome] += 1
            failures += [verdict.failure] if verdict.failure else []
    states = [(key, hash_) for key, hash_, effect in zip(draft.keys, draft.hashes, effects, strict=True) if effect]
    return PageBooks(
        read=draft.read - len(undecided),
        outcomes=outcomes,
        effects={effect: effects.count(effect) for effect in Effect},
        bytes_in=0,
        bytes_out=sum([answer.bytes_out for answer in answers]),
        cursor=None,
        failures=failures,
        keys=[key for key in draft.seen if key not in undecided],
        states=states,
        keep_cursor=bool(undecided),
    )
