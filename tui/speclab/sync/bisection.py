"""Bisection: when a target refuses a whole batch, find the records it refuses and let the others pass."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from speclab.connectors.base import Answer, Item, Refusal

Send = Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]]


def refused_whole(answers: Sequence[Answer]) -> Refusal | None:
    """The one refusal that answers a whole batch of several; None where each item has an answer of its own."""
    first = answers[0].refusal
    if first is None or len(answers) == 1 or any(answer.refusal is not first for answer in answers):
        return None
    return first


async def bisect(send: Send, items: Sequence[Item], splits: Callable[[Refusal], bool]) -> list[Answer]:
    """Answers for `items`, a batch that was refused whole, by sending halves of it until those refused stand alone.

    A part that is refused whole again is split again if `splits` says so of its refusal. One bad record among n costs
    at most 2 * ceil(log2 n) sends: when one half passes, the other is known to be bad and is not sent whole.
    """
    return await _halves(send, items, splits)


async def _halves(send: Send, items: Sequence[Item], splits: Callable[[Refusal], bool]) -> list[Answer]:
    middle = len(items) // 2
    left = await _part(send, items[:middle], splits)
    if len(items) - middle > 1 and all(answer.refusal is None for answer in left):
        return left + await _halves(send, items[middle:], splits)
    return left + await _part(send, items[middle:], splits)


async def _part(send: Send, items: Sequence[Item], splits: Callable[[Refusal], bool]) -> list[Answer]:
    answers = list(await send(items))
    refusal = refused_whole(answers)
    if refusal is None or not splits(refusal):
        return answers
    return await _halves(send, items, splits)
