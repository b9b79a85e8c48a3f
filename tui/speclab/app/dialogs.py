"""Small questions over what is on the screen: yes or no, a line of text, one of several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar, Final, TypeVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Input, Static

from speclab.app.actions import Action, Actor, bindings
from speclab.app.widgets.grid import Grid, GridColumn, GridRow
from speclab.app.widgets.keybar import KeyBar
from speclab.app.widgets.record import RecordView

Result = TypeVar("Result")

YES: Final = Action("yes", "yes", "Do it.", ("y", "enter"))
NO: Final = Action("no", "no", "Leave everything as it is.", ("n", "escape"))
ENTER: Final = Action("enter", "done", "Take what was written.", ("enter",))
CHOOSE: Final = Action("choose", "choose", "Take the one under the cursor.", ("enter",))
CLOSE: Final = Action("close", "close", "Close this.", ("escape", "enter"))
COPY: Final = Action("copy", "copy", "Copy this to the clipboard.", ("y",))
CANCEL: Final = Action("cancel", "cancel", "Leave everything as it is.", ("escape",))


class Dialog(ModalScreen[Result], Actor):
    """A box in the middle with a title in its border; what is behind stays in sight."""

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
    Dialog #wrong { color: $error; }
    Dialog #wrong.-nothing { display: none; }
    """

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title

    def compose(self) -> ComposeResult:
        """The box, with what a subclass puts in it."""
        box = Vertical(*self.inside(), KeyBar(), id="box")
        box.border_title = Content(self._title)  # a plain string would be markup
        yield box

    def inside(self) -> Sequence[Widget]:
        """What stands in the box."""
        return ()


class ConfirmDialog(Dialog[bool]):
    """Asks before something that cannot be taken back; `yes` and `no` are what the keys will do, in words."""

    ACTIONS = (YES, NO)
    BINDINGS: ClassVar[list[BindingType]] = bindings(ACTIONS)

    def __init__(self, title: str, message: str, *, yes: str, no: str = "cancel") -> None:
        super().__init__(title)
        self._message = message
        self._words = (replace(YES, title=yes), replace(NO, title=no))

    def actions(self) -> Sequence[Action]:
        """The two answers in the words of the question."""
        return self._words

    def inside(self) -> Sequence[Widget]:
        """The question."""
        return (Static(self._message, markup=False),)

    def action_yes(self) -> None:
        """Answer yes."""
        self.dismiss(True)

    def action_no(self) -> None:
        """Answer no."""
        self.dismiss(False)


class PromptDialog(Dialog[str | None]):
    """Asks for a line of text; `wrong` says what is wrong with it, or None, and is asked before it is taken.

    `wrong` may do what the line is for, where that is how one learns what is wrong.
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
        wrong: Callable[[str], str | None] = lambda _text: None,
    ) -> None:
        super().__init__(title)
        self._message = message
        self._value = value
        self._placeholder = placeholder
        self._wrong = wrong

    def inside(self) -> Sequence[Widget]:
        """The question, the line, and what is wrong with it."""
        line = Input(self._value, placeholder=self._placeholder, select_on_focus=False)
        line.cursor_blink = False
        return (Static(self._message, markup=False), line, Static("", id="wrong", classes="-nothing", markup=False))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter, which the line itself takes first."""
        event.stop()
        self.action_enter()

    def action_enter(self) -> None:
        """Take the line, if nothing is wrong with it."""
        text = self.query_one(Input).value
        if (wrong := self._wrong(text)) is not None:
            self.query_one("#wrong", Static).remove_class("-nothing").update(wrong)
            return
        self.dismiss(text)

    def action_cancel(self) -> None:
        """Take nothing."""
        self.dismiss(None)


class MessageDialog(Dialog[None]):
    """Something told in full, to read and to copy."""

    ACTIONS = (CLOSE, COPY)
    BINDINGS: ClassVar[list[BindingType]] = bindings(ACTIONS)
    DEFAULT_CSS = """
    MessageDialog RecordView { height: auto; max-height: 20; }
    """

    def __init__(self, title: str, text: str) -> None:
        super().__init__(title)
        self._text = text

    def inside(self) -> Sequence[Widget]:
        """The text."""
        told = RecordView()
        told.tell_text(self._text)
        return (told,)

    def action_close(self) -> None:
        """Close it."""
        self.dismiss(None)

    def action_copy(self) -> None:
        """Copy the text to the clipboard."""
        self.app.copy_to_clipboard(self._text)
        self.notify("It is in the clipboard.", timeout=3)


class ChoiceDialog(Dialog[str | None]):
    """Asks for one of several `options`: rows of a word and what it means; the result is the row's key."""

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
        """The options, with the cursor on what holds now."""
        longest = max(len(str(getattr(row.cells[0], "text", row.cells[0]))) for row in self._options)
        grid = Grid([GridColumn("", longest), GridColumn("", 10, flex=1)], self._options, heading=False)
        at = next((index for index, row in enumerate(self._options) if row.key == self._now), 0)
        grid.move(at)
        return (grid,)

    def on_grid_chosen(self, event: Grid.Chosen) -> None:
        """Enter or a second click on an option, which the grid takes first."""
        self.dismiss(event.row.key)

    def action_choose(self) -> None:
        """Take the option under the cursor."""
        self.query_one(Grid).action_choose()

    def action_cancel(self) -> None:
        """Take nothing."""
        self.dismiss(None)
