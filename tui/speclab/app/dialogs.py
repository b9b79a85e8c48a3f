"""Dialogs: questions, choices, and the trust question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Input, Static

from speclab.app.actions import Action, Actor, bindings
from speclab.app.widgets.grid import Grid, GridColumn, GridRow
from speclab.app.widgets.header import KeyBar
from speclab.app.widgets.record import RecordView
from speclab.core.errors import SpeclabError, Untrusted
from speclab.core.plugins import load_in_thread

if TYPE_CHECKING:
    from speclab.app.view import AppContext
    from speclab.spec.integration import Endpoint

Result = TypeVar("Result")

YES: Final = Action("yes", "yes", "Confirm.", ("y", "enter"))
NO: Final = Action("no", "no", "Cancel without changes.", ("n", "escape"))
ENTER: Final = Action("enter", "done", "Accept the text.", ("enter",))
CHOOSE: Final = Action("choose", "choose", "Choose the row under the cursor.", ("enter",))
CLOSE: Final = Action("close", "close", "Close the dialog.", ("escape", "enter"))
COPY: Final = Action("copy", "copy", "Copy the text to the clipboard.", ("y",))
CANCEL: Final = Action("cancel", "cancel", "Cancel without changes.", ("escape",))


class Dialog(ModalScreen[Result], Actor):
    """A centred box with a title in its border; the screen behind it stays visible."""

    DEFAULT_CSS = """
    Dialog { align: center middle; background: transparent; }
    Dialog > #box {
        width: 72;
        max-width: 94%;
        height: auto;
        max-height: 80%;
        background: $surface;
        border: round $accent;
        border-title-color: $accent;
        border-title-style: bold;
        padding: 1 1 0 1;
    }
    Dialog > #box > KeyBar { dock: none; background: $surface; margin-top: 1; }
    Dialog Static { background: $surface; padding: 0 1; }
    Dialog Grid { background: $surface; }
    Dialog Input, Dialog Input:focus {
        background: $panel;
        background-tint: $panel 0%;
        border: none;
        height: 1;
        padding: 0 1;
        margin: 1 1 0 1;
    }
    Dialog #error { color: $error; }
    Dialog #error.-nothing { display: none; }
    """

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title

    def compose(self) -> ComposeResult:
        """Compose the box with the content of `inside`."""
        box = Vertical(*self.inside(), KeyBar(), id="box")
        box.border_title = Content(self._title)  # a plain string would be markup
        yield box

    def inside(self) -> Sequence[Widget]:
        """Return the widgets in the box."""
        return ()


class ConfirmDialog(Dialog[bool]):
    """Ask for confirmation of something that cannot be undone; `yes` and `no` label the two keys."""

    ACTIONS = (YES, NO)
    BINDINGS: ClassVar[list[BindingType]] = bindings(ACTIONS)

    def __init__(self, title: str, message: str, *, yes: str, no: str = "cancel") -> None:
        super().__init__(title)
        self._message = message
        self._labels = (replace(YES, title=yes), replace(NO, title=no))

    def actions(self) -> Sequence[Action]:
        """Return the two actions with their labels."""
        return self._labels

    def inside(self) -> Sequence[Widget]:
        """Return the message."""
        return (Static(self._message, markup=False),)

    def action_yes(self) -> None:
        """Close with True."""
        self.dismiss(True)

    def action_no(self) -> None:
        """Close with False."""
        self.dismiss(False)


class PromptDialog(Dialog[str | None]):
    """Ask for a line of text; `validate` returns the error message for an invalid text, else None.

    `validate` may perform the action that the text is for, if only that shows whether the text is valid.
    """

    ACTIONS = (ENTER, CANCEL)
    BINDINGS: ClassVar[list[BindingType]] = bindings(ACTIONS)

    def __init__(
        self,
        title: str,
        message: str,
        *,
        value: str = "",
        placeholder: str = "",
        validate: Callable[[str], str | None] = lambda _text: None,
    ) -> None:
        super().__init__(title)
        self._message = message
        self._value = value
        self._placeholder = placeholder
        self._validate = validate

    def inside(self) -> Sequence[Widget]:
        """Return the message, the input and the error line."""
        line = Input(self._value, placeholder=self._placeholder, select_on_focus=False)
        line.cursor_blink = False
        return (Static(self._message, markup=False), line, Static("", id="error", classes="-nothing", markup=False))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Accept on enter, which the input handles first."""
        event.stop()
        self.action_enter()

    def action_enter(self) -> None:
        """Close with the text if it is valid; otherwise show the error."""
        text = self.query_one(Input).value
        if (error := self._validate(text)) is not None:
            self.query_one("#error", Static).remove_class("-nothing").update(error)
            return
        self.dismiss(text)

    def action_cancel(self) -> None:
        """Close without a result."""
        self.dismiss(None)


class MessageDialog(Dialog[None]):
    """A message in full, to read and to copy."""

    ACTIONS = (CLOSE, COPY)
    BINDINGS: ClassVar[list[BindingType]] = bindings(ACTIONS)
    DEFAULT_CSS = """
    MessageDialog RecordView { height: auto; max-height: 20; }
    """

    def __init__(self, title: str, text: str) -> None:
        super().__init__(title)
        self._text = text

    def inside(self) -> Sequence[Widget]:
        """Return the text."""
        view = RecordView()
        view.show_text(self._text)
        return (view,)

    def action_close(self) -> None:
        """Close the dialog."""
        self.dismiss(None)

    def action_copy(self) -> None:
        """Copy the text to the clipboard."""
        self.app.copy_to_clipboard(self._text)
        self.notify("Copied to the clipboard.", timeout=3)


class ChoiceDialog(Dialog[str | None]):
    """Ask for one of `options`: rows of a value and its meaning; the result is the row's key."""

    ACTIONS = (CHOOSE, CANCEL)
    BINDINGS: ClassVar[list[BindingType]] = bindings(ACTIONS)
    DEFAULT_CSS = """
    ChoiceDialog Grid { height: auto; max-height: 16; }
    """

    def __init__(self, title: str, options: Sequence[GridRow], *, now: str = "") -> None:
        super().__init__(title)
        self._options = options
        self._now = now

    def inside(self) -> Sequence[Widget]:
        """Return the options, with the cursor on the current value."""
        longest = max(len(str(getattr(row.cells[0], "text", row.cells[0]))) for row in self._options)
        grid = Grid([GridColumn("", longest), GridColumn("", 10, flex=1)], self._options, heading=False)
        at = next((index for index, row in enumerate(self._options) if row.key == self._now), 0)
        grid.move(at)
        return (grid,)

    def on_grid_chosen(self, event: Grid.Chosen) -> None:
        """Choose on enter or a second click, which the grid handles first."""
        self.dismiss(event.row.key)

    def action_choose(self) -> None:
        """Choose the option under the cursor."""
        self.query_one(Grid).action_choose()

    def action_cancel(self) -> None:
        """Close without a result."""
        self.dismiss(None)


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
        lines.show_text("\n".join(self._listed))
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
        wanted = await load_in_thread(lambda: what_is_wanted(path, ends) if ends is not None else read_wanted(path))
        require_trust(wanted)
    except Untrusted:
        listed = [describe_reach(reach) for reach in wanted.missing]
        if not await context.push_screen_wait(TrustQuestion(path.stem, listed, more=bool(wanted.granted))):
            return False
        try:
            give_trust(wanted)
        except SpeclabError as error:
            context.show_error("The decision was not saved", error)
            return False
    except (SpeclabError, OSError):
        return True
    return True
