"""The question whether a spec may use what it names outside of its workspace, before the first thing that does."""

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

AGREE: Final = Action("agree", "trust it", "Let the spec use all of this, until it uses more.", ("y",))
REFUSE: Final = replace(NO, title="cancel")


class TrustQuestion(Dialog[bool]):
    """Lists what a spec uses outside of its workspace and asks whether it may; Enter alone agrees to nothing."""

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
        """What is used, and what agreeing means."""
        lines = RecordView()
        lines.tell_text("\n".join(self._listed))
        more = "more than you agreed to" if self._more else "this, outside of its workspace"
        first = Static(f"The spec uses {more}:", markup=False)
        last = Static("Agree only if you know who wrote the spec. You are asked again when it uses more.", markup=False)
        return (first, lines, last)

    def action_agree(self) -> None:
        """Agree."""
        self.dismiss(True)

    def action_no(self) -> None:
        """Agree to nothing."""
        self.dismiss(False)


async def may_use(context: AppContext, path: Path, ends: Sequence[Endpoint] | None = None) -> bool:
    """Whether the spec at `path` may use what `ends` name (default: both, as its file says); a person is asked once.

    A spec that cannot be read may: whoever uses it is told why it cannot.
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
            context.tell("The decision was not kept", error)
            return False
    except (SpeclabError, OSError):
        return True
    return True
