"""The dialog that asks whether a spec may use hosts, commands, references and paths outside its workspace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from textual.binding import BindingType
from textual.widget import Widget
from textual.widgets import Static

from speclab.app.actions import Action, bindings
from speclab.app.dialogs import NO, Dialog
from speclab.app.widgets.record import RecordView
from speclab.core.errors import SpeclabError, Untrusted
from speclab.workbench.samples import loaded

if TYPE_CHECKING:
    from speclab.app.context import AppContext
    from speclab.spec.integration import Endpoint

AGREE: Final = Action(
    "agree", "trust it", "Allow the spec to use all of this; new entries need a new decision.", ("y",)
)
REFUSE: Final = replace(NO, title="cancel")


class TrustQuestion(Dialog[bool]):
    """List what a spec uses outside its workspace and ask for trust; enter alone does not agree."""

    ACTIONS = (AGREE, REFUSE)
    BINDINGS: ClassVar[list[BindingType]] = bindings(ACTIONS)
    DEFAULT_CSS = """
    TrustQuestion RecordView { height: auto; max-height: 10; margin: 1 0; }
    """

    def __init__(self, name: str, listed: Sequence[str], *, more: bool) -> None:
        super().__init__(f"trust {name}?")
        self._listed = listed
        self._more = more

    def inside(self) -> Sequence[Widget]:
        """Return the list and what agreeing means."""
        lines = RecordView()
        lines.tell_text("\n".join(self._listed))
        more = "more than you agreed to" if self._more else "the following outside its workspace"
        first = Static(f"The spec uses {more}:", markup=False)
        last = Static("Agree only if you know who wrote the spec. You are asked again when it uses more.", markup=False)
        return (first, lines, last)

    def action_agree(self) -> None:
        """Close with agreement."""
        self.dismiss(True)

    def action_no(self) -> None:
        """Close without agreement."""
        self.dismiss(False)


async def may_use(context: AppContext, path: Path, ends: Sequence[Endpoint] | None = None) -> bool:
    """Return whether the spec at `path` may use what `ends` name (default: both endpoints), asking the user once.

    True for a spec that cannot be read: the caller reports why.
    """
    from speclab.connectors.trust import describe_reach, give_trust, read_wanted, require_trust, what_is_wanted

    try:
        wanted = await loaded(lambda: what_is_wanted(path, ends) if ends is not None else read_wanted(path))
        require_trust(wanted)
    except Untrusted:
        listed = [describe_reach(reach) for reach in wanted.missing]
        if not await context.push_screen_wait(TrustQuestion(path.stem, listed, more=bool(wanted.granted))):
            return False
        try:
            give_trust(wanted)
        except SpeclabError as error:
            context.tell("The decision was not saved", error)
            return False
    except (SpeclabError, OSError):
        return True
    return True
