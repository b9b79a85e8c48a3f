"""Writes without a sure end: while one is on its way, and if nobody hears what became of it, the target is unknown.

What is known of the target is forgotten before anything is sent. Otherwise a record that comes back to what it was,
after a change that had no answer or a run that was killed, would be taken to be unchanged, and the target would keep
what nobody wants any more.
"""

from __future__ import annotations

from collections.abc import Sequence

from speclab.connectors.base import Answer, Item
from speclab.runlog import IN_DOUBT, RunLog
from speclab.sync.actions import untouched
from speclab.sync.delivery import Delivery


async def send(delivery: Delivery, items: Sequence[Item], log: RunLog, spec_id: str, attempt: int = 1) -> list[Answer]:
    """What `delivery` answers to `items`, each of which is in doubt until its state is booked, or surely the old one.

    Not so at a target where sending something twice does harm: what had no answer there is `unknown`, and a person's.
    """
    known = {}
    if delivery.idempotent and not delivery.anew:
        known = log.hashes(spec_id, [item.key for item in items])
    log.know(spec_id, dict.fromkeys(known, IN_DOUBT))
    answers = await delivery.send(items, attempt)
    if known:
        answered = zip(items, answers, strict=True)
        kept = {item.key for item, answer in answered if answer.refusal is not None and untouched(answer.refusal)}
        log.know(spec_id, {key: hash_ for key, hash_ in known.items() if key in kept})
    return answers
