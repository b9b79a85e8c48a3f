"""What a person decides about failed records: to try them again now, or to give them up with a reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from speclab.app.actions import Action
from speclab.app.monitor.integrations import Listed
from speclab.app.widgets.dialogs import Confirm, Prompt
from speclab.errors import RunLogError
from speclab.plural import plural

if TYPE_CHECKING:
    from speclab.app.application import SpeclabApp
    from speclab.runlog import FailureRow, RunLog, RunLogReader

RETRY: Final = Action("retry", "retry", "Try the failed records again now, mapped as the spec is now.", ("R",))
DISCARD: Final = Action("discard", "discard", "Give the failed records up, with a reason.", ("D",))


@dataclass(frozen=True, slots=True)
class Chosen:
    """Failures a decision is about: of which integration, how many, and how to ask the run log for them."""

    spec_id: str
    count: int
    question: Callable[[RunLogReader], Sequence[FailureRow]]


def why_not_run(app: SpeclabApp, listed: Listed | None) -> str | None:
    """Why a spec cannot be run now; None if it can."""
    if listed is None:
        return "there is no integration to run"
    if app.read_only:
        return "the app was started with --read-only"
    if listed.path is None:
        return f"the spec of {listed.spec_id} is not in this directory"
    if listed.running:
        return f"{listed.spec_id} is running already"
    return None


def why_not_pause(app: SpeclabApp, listed: Listed | None) -> str | None:
    """Why an integration cannot be paused, or resumed, now; None if it can."""
    if listed is None:
        return "there is no integration to pause"
    if app.read_only:
        return "the app was started with --read-only"
    if listed.path is None and not listed.paused:
        return f"the spec of {listed.spec_id} is not in this directory: nothing runs it by itself"
    return None


def why_not_cancel(app: SpeclabApp, listed: Listed | None) -> str | None:
    """Return why the run of an integration cannot be cancelled now; None if it can."""
    if listed is None:
        return "there is no integration to cancel a run of"
    if app.read_only:
        return "the app was started with --read-only"
    if not listed.running:
        return f"{listed.spec_id} is not running"
    return None


async def cancel(app: SpeclabApp, listed: Listed, key: str) -> None:
    """Ask the running run to stop after its page, or at once if it was asked before; `key` asks again."""
    from speclab.runlog.progress import NOW
    from speclab.sync.lock import user

    try:
        runs = await app.run_log.record(lambda log: log.cancel(listed.spec_id, user()))
    except RunLogError as error:
        app.tell("Nothing was recorded", error)
        return
    if not runs:
        app.notify("It ended before.", title=f"{listed.spec_id} is not running", timeout=3)
    elif runs[0].cancel == NOW:
        app.notify("The next run continues from the checkpoint.", title=f"{listed.spec_id} stops now", timeout=3)
    else:
        app.notify(f"{key} again stops it now.", title=f"{listed.spec_id} stops after this page", timeout=5)


async def pause(app: SpeclabApp, listed: Listed) -> None:
    """Have `speclab up` leave an integration alone, or end that."""
    from speclab.sync.lock import user

    def entry(log: RunLog) -> bool:
        return log.resume(listed.spec_id, user()) if listed.paused else log.pause(listed.spec_id, user())

    try:
        await app.run_log.record(entry)
    except RunLogError as error:
        app.tell("Nothing was recorded", error)
        return
    if listed.paused:
        app.notify("Times that passed meanwhile come to one run.", title=f"{listed.spec_id} is resumed", timeout=3)
    else:
        going = " The run under way goes on to its end." if listed.running else ""
        app.notify(f"speclab up leaves it alone.{going}", title=f"{listed.spec_id} is paused", timeout=3)


async def retry(app: SpeclabApp, chosen: Chosen, listed: Listed | None) -> None:
    """Put them first into the retry queue, and start a run, which tries what is due before it reads on."""
    records = plural(chosen.count, "record")
    question = Confirm(
        f"retry {records} of {chosen.spec_id}",
        "They are mapped anew, as the spec is now, and sent again; where a newer record was written, nothing is.",
        yes=f"retry {records}",
    )
    if not await app.push_screen_wait(question):
        return
    if await _record(app, chosen, lambda log, ids: log.requeue(ids)) is None:
        return
    if listed is not None and listed.path is not None and why_not_run(app, listed) is None:
        app.run_spec(listed.path, listed.spec_id)
    else:
        app.notify("The next run tries them first.", title=f"{records} in the retry queue")


async def discard(app: SpeclabApp, chosen: Chosen) -> None:
    """Ask for the reason, and give them up."""
    records = plural(chosen.count, "record")
    reason = await app.push_screen_wait(
        Prompt(
            f"discard {records} of {chosen.spec_id}",
            "They are not tried again and no longer counted as dead. The run log keeps them, and why.",
            placeholder="the reason, for whoever asks later",
            wrong=lambda text: None if text.strip() else "A reason is needed: the record will not arrive.",
        )
    )
    if reason is None:
        return
    given_up = await _record(app, chosen, lambda log, ids: log.discard(ids, reason.strip()))
    if given_up is not None:
        app.notify(reason, title=f"{plural(given_up, 'record')} discarded")


async def _record(app: SpeclabApp, chosen: Chosen, entry: Callable[[RunLog, Sequence[str]], int]) -> int | None:
    """Write a decision into the run log; None, and told, if it cannot be."""
    found = await app.ask(chosen.question)
    if found is None:
        return None
    ids = [failure.id for failure in found]
    try:
        return await app.run_log.record(lambda log: entry(log, ids))
    except RunLogError as error:
        app.tell("Nothing was recorded", error)
        return None
