"""Changes to Textual: input, key order, crashes, painting and resizing.

All uses of its private parts are here, each with its reason; `tests/app/test_textual_internals.py` checks them.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import selectors
import signal
from codecs import getincrementaldecoder
from collections import deque
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import suppress
from functools import lru_cache
from io import TextIOWrapper
from traceback import format_exc
from typing import Final, Generic, TextIO, TypeAlias, TypeVar, cast
from unicodedata import category

from rich.cells import split_graphemes
from rich.color import ColorSystem
from rich.console import COLOR_SYSTEMS, Console, RenderableType
from rich.text import Text
from textual import events, work
from textual._compositor import ChopsUpdate, Compositor, CompositorMap, CompositorUpdate, LayoutUpdate, ReflowResult
from textual._parser import ParseError
from textual._xterm_parser import XTermParser
from textual.app import App
from textual.dom import DOMNode
from textual.drivers.linux_driver import LinuxDriver
from textual.geometry import Size
from textual.message_pump import MessagePump
from textual.notifications import Notification
from textual.screen import Screen
from textual.strip import Strip
from textual.widget import Widget

from speclab.app.widgets.cells import printable

_CHUNK: Final = 4096
_INTERVAL: Final = 0.1
"""Seconds between two checks for the end of the app and for the rest of an escape sequence."""


class InputDriver(LinuxDriver):
    """Textual's driver, with bytes that are not UTF-8 decoded as U+FFFD.

    Private: `XTermParser`, `ParseError` and `_debug`, because Textual's own loop raises `UnicodeDecodeError`.
    """

    def run_input_thread(self) -> None:
        """Read the input until the app ends. Raises `OSError` when the terminal is gone."""
        decode = getincrementaldecoder("utf-8")("replace").decode
        parser = XTermParser(self._debug)
        with selectors.SelectSelector() as selector:  # the only selector that supports terminals on macOS
            selector.register(self.fileno, selectors.EVENT_READ)
            while not self.exit_event.is_set():
                if selector.select(_INTERVAL):
                    data = os.read(self.fileno, _CHUNK)
                    if not data:
                        raise OSError(errno.EIO, "the terminal is gone")
                    text = decode(data)  # empty in the middle of a character, which the parser would treat as the end
                    for event in parser.feed(text) if text else ():
                        self.process_message(event)
                for event in parser.tick():
                    self.process_message(event)
        try:
            for _ in parser.feed(""):
                pass  # the rest of an escape sequence is dropped
        except (EOFError, ParseError):
            return


class LastingDriver(InputDriver):
    """A driver that drops output once the terminal is gone, and sends SIGHUP to this process.

    Private: `_file`, because Textual's output thread dies with its first error.
    """

    def __init__(
        self, app: App[object], *, debug: bool = False, mouse: bool = True, size: tuple[int, int] | None = None
    ) -> None:
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        if self._file is not None:
            self._file = cast("TextIOWrapper", _Output(self._file))

    def run_input_thread(self) -> None:
        """Read the input until the app or the terminal ends."""
        try:
            super().run_input_thread()
        except OSError:
            os.kill(os.getpid(), signal.SIGHUP)


class _Output:
    """The file methods that the output thread uses, without errors: `speclab.core.processes` handles the cause."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._file.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._file.flush()

    def fileno(self) -> int:
        return self._file.fileno()


Return = TypeVar("Return")

_MAX_KEY_WAIT: Final = 2.0
"""Seconds after which the next key no longer waits for the previous one."""

_MAX_KEYS: Final = 4096
"""Maximum number of keys that become one paste."""

_MAX_MESSAGES: Final = 20
"""Maximum number of app messages to process while looking for the next key."""


class CrashSafeApp(App[Return]):
    """An app that saves before it exits with an error, and prints tracebacks without values of variables.

    Private: `_return_code`, which `panic` does not set; `_fatal_error`, which prints local variables, that may be
    secrets; `_notifications` and `_unnotify`, because toasts cannot be removed one by one.
    """

    def save_before_crash(self) -> None:
        """Save what a crash would lose; called before the app exits with an error."""

    def panic(self, *renderables: RenderableType) -> None:
        """Exit after an error, such as one of the input thread, with `renderables` as its message."""
        self._return_code = 1
        self.save_before_crash()
        super().panic(*renderables)

    def _fatal_error(self) -> None:
        """Exit with the traceback of an exception."""
        self.panic(Text(format_exc()))

    def remove_toasts(self, kind: type[Notification]) -> None:
        """Remove the toasts of a kind."""
        for shown in [shown for shown in self._notifications if isinstance(shown, kind)]:
            self._unnotify(shown, refresh=False)


class SequentialKeysApp(CrashSafeApp[Return]):
    """A Textual app that handles keys strictly in order.

    Textual dispatches a key while the previous one may still be moving the focus. Here, text goes to the focused widget
    at once; after any other key, the input waits until that key and the messages it caused are handled.
    """

    def __init__(self, *, ansi_color: bool | None = None) -> None:
        super().__init__(ansi_color=ansi_color)
        self._typed = asyncio.Queue[events.Key | events.Paste]()
        self._next_keys = deque[events.Key | events.Paste]()  # taken from `_typed`, handled next

    def on_mount(self) -> None:
        """Start handling the input."""
        self._handle_keys_in_order()

    async def on_event(self, event: events.Event) -> None:
        """Queue keys and pastes; handle other events at once."""
        if isinstance(event, events.Key | events.Paste) and not event.is_forwarded:
            self._typed.put_nowait(event)
        else:
            await super().on_event(event)

    @work(group="keyboard")
    async def _handle_keys_in_order(self) -> None:
        while True:
            event = self._next_keys.popleft() if self._next_keys else await self._typed.get()
            if (text := _text_of(event)) and self._takes_text():
                event = await self._join_text(event, text)
            is_text = isinstance(event, events.Paste) or (
                self.focused is not None and self.focused.check_consume_key(event.key, event.character)
            )
            await super().on_event(event)
            if not is_text:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_MAX_KEY_WAIT):
                        await self._wait_until_handled()

    def _takes_text(self) -> bool:
        """Return whether the focused widget is an input or an editable text."""
        from textual.widgets import Input, TextArea

        focused = self.focused
        return isinstance(focused, Input) or (isinstance(focused, TextArea) and not focused.read_only)

    async def _join_text(self, event: events.Key | events.Paste, text: str) -> events.Key | events.Paste:
        """Return `event`, or one paste of its `text` and that of the keys already received.

        A terminal without bracketed paste sends pasted text key by key, and each edit costs milliseconds. Format
        characters such as joiners, which Textual does not treat as text, become a paste even alone: Persian needs them.
        """
        texts = [text]
        while len(texts) < _MAX_KEYS and (following := await self._next_received()) is not None:
            if not (more := _text_of(following)):
                self._next_keys.append(following)
                break
            texts.append(more)
        return events.Paste("".join(texts)) if len(texts) > 1 or category(text) == "Cf" else event

    async def _next_received(self) -> events.Key | events.Paste | None:
        """Return the next key in the queue or among the app's messages; None if none has arrived."""
        for _ in range(_MAX_MESSAGES):
            if not self._typed.empty():
                return self._typed.get_nowait()
            if not self.message_queue_size:
                return None
            await asyncio.sleep(0)  # the app dispatches one of its messages
        return None

    async def _wait_until_handled(self) -> None:
        """Wait until the key and the messages it caused have bubbled from the focused widget to the app."""
        before = None
        while before is not (now := self.focused or self.screen):
            before = now
            for _ in ("the key", "the messages it caused"):
                for node in now.ancestors_with_self:
                    await _wait_for_queue(node)


def _text_of(event: events.Key | events.Paste) -> str:
    """Return the character that a key types; empty for any other key, and for a paste."""
    if isinstance(event, events.Key) and (character := event.character):
        return character if character.isprintable() or category(character) == "Cf" else ""
    return ""


async def _wait_for_queue(pump: MessagePump) -> None:
    """Wait until `pump` has handled its queued messages."""
    handled = asyncio.Event()
    if pump.call_later(handled.set):
        await handled.wait()


def get_bound_keys(node: DOMNode) -> AbstractSet[str]:
    """Return the keys that `node` binds itself. Private: `_bindings`; only the screen has a public property."""
    return node._bindings.key_to_bindings.keys()  # noqa: SLF001 (see above)


Result = TypeVar("Result")


class ResizeFixCompositor(Compositor):
    """A compositor that reports new widgets as resized even if `full_map` found them before the layout.

    Textual's own drops them, and a widget without a size stays blank. Private: `Compositor` with its `_full_map`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._unreported: set[Widget] = set()

    @property
    def full_map(self) -> CompositorMap:
        """The region of every widget."""
        before = self._full_map
        now = super().full_map
        if now is not before:
            self._unreported |= {
                widget
                for widget, view in now.items()
                if widget not in before or before[widget].region.size != view.region.size
            }
        return now

    def reflow(self, parent: Widget, size: Size) -> ReflowResult:
        """Compute the layout and return the widgets that were hidden, shown and resized."""
        hidden, shown, resized = super().reflow(parent, size)
        unreported, self._unreported = self._unreported & self.widgets, set()
        return ReflowResult(hidden, shown, resized | unreported)


class ResizeFixScreen(Screen[Result], Generic[Result]):
    """A screen with `ResizeFixCompositor`. Private: `_compositor`, which has no public setter."""

    def __init__(self) -> None:
        super().__init__()
        self._compositor = ResizeFixCompositor()


_Cell: TypeAlias = "tuple[str, str]"
"""A grapheme and its SGR codes; the right half of a wide grapheme is an empty text."""

_NEAR: Final = 6
"""Unchanged cells that are sent again instead of skipped: moving the cursor costs as much."""

_UNKNOWN: Final[_Cell] = ("", "?")


class Terminal:
    """The cells that the terminal shows, as last sent. Call `forget` when something else may have drawn."""

    def __init__(self) -> None:
        self._rows: list[list[_Cell]] = []
        self._width = 0

    def forget(self) -> None:
        """Forget the cells: the next update is sent in full."""
        self._rows = []

    def only_changes(self, update: CompositorUpdate, size: Size) -> CompositorUpdate:
        """Return an update that sends a terminal of `size` only the cells that changed."""
        return _Changes(self, update, size)

    def difference(self, update: CompositorUpdate, size: Size, colours: ColorSystem) -> str:
        """Return the output that turns the terminal's content into `update`; it counts as sent."""
        if len(self._rows) != size.height or self._width != size.width:
            self._rows = [[_UNKNOWN] * size.width for _ in range(size.height)]
            self._width = size.width
        out: list[str] = []
        style = ""
        for y, x, strip in _pieces(update):
            if y < size.height and x < size.width:  # else it was drawn before the terminal shrank
                width = min(strip.cell_length, size.width - x)  # escaped control characters may have made it wider
                style = self._line(out, style, y, x, _cells(strip, colours)[:width])
        if style:
            out.append("\x1b[m")
        return "".join(out)

    def _line(self, out: list[str], style: str, y: int, x: int, new: list[_Cell]) -> str:
        """Append the output for the cells of `new` that differ at (x, y); return the resulting SGR style."""
        row = self._rows[y]
        old = row[x : x + len(new)]
        if old == new:
            return style
        for start, end in _runs(old, new):
            out.append(f"\x1b[{y + 1};{x + start + 1}H")
            for at in range(start, end):
                text, wanted = new[at]
                if not text:
                    continue
                if wanted != style:
                    out.append(_turn(style, wanted))
                    style = wanted
                if len(text) == 1:
                    out.append(text)
                    continue
                # Terminals disagree about the width of such a grapheme: blank its cells, and set the cursor after.
                width = 2 if _wide(new, at) else 1
                out.append(f"{' ' * width}\x1b[{x + at + 1}G{text}\x1b[{x + at + width + 1}G")
        row[x : x + len(new)] = new
        return style


class DiffingApp(SequentialKeysApp[Return]):
    """An app that sends its terminal only the cells that changed.

    Private: `_display` and the updates passed to it. Textual sends whole lines, which is slow over SSH.
    """

    def __init__(self, *, ansi_color: bool | None = None) -> None:
        super().__init__(ansi_color=ansi_color)
        self._terminal = Terminal()

    def on_mount(self) -> None:
        """Redraw after another program used the terminal: a shell (SIGTSTP) or an editor."""
        self.app_resume_signal.subscribe(self, lambda _app: self.action_redraw())

    def _display(self, screen: Screen[object], renderable: RenderableType | CompositorUpdate | None) -> None:
        if isinstance(renderable, CompositorUpdate) and not self.is_inline:
            renderable = self._terminal.only_changes(renderable, self.size)
        super()._display(screen, cast("RenderableType | None", renderable))

    def on_resize(self) -> None:
        """Forget the cells: the terminal may have moved its text, or another program may have used it."""
        self._terminal.forget()

    def action_redraw(self) -> None:
        """Redraw the screen."""
        self._terminal.forget()
        self.screen.refresh()


class _Changes(CompositorUpdate):
    """An update that computes the difference when Textual sends it."""

    def __init__(self, terminal: Terminal, update: CompositorUpdate, size: Size) -> None:
        self._terminal = terminal
        self._update = update
        self._size = size

    def render_segments(self, console: Console) -> str:
        colours = COLOR_SYSTEMS[console.color_system or "standard"]
        return self._terminal.difference(self._update, self._size, colours)


def _pieces(update: CompositorUpdate) -> Iterator[tuple[int, int, Strip]]:
    """Yield the parts of lines in an update: y, x and the strip."""
    if isinstance(update, LayoutUpdate):
        for y, line in enumerate(update.strips, update.region.y):
            x = update.region.x
            for strip in line:
                yield y, x, strip
                x += strip.cell_length
    elif isinstance(update, ChopsUpdate):
        for y, first, last in update.spans:
            for (x, part), end in zip(update.chops[y].items(), update.chop_ends[y], strict=False):
                if part is not None and x < last and end > first:
                    yield y, x, part


def _cells(strip: Strip, colours: ColorSystem) -> list[_Cell]:
    cells: list[_Cell] = []
    for text, style, control in strip:
        if control:
            continue
        codes = Strip.render_ansi(style, colours) if style else ""
        text = printable(text)  # noqa: PLW2901 - the terminal never receives a control character of a widget
        if text.isascii():
            cells.extend([(character, codes) for character in text])
            continue
        for start, end, width in split_graphemes(text)[0]:
            if width:
                cells.append((text[start:end], codes))
            if width == 2:
                cells.append(("", codes))
    return cells


def _runs(old: list[_Cell], new: list[_Cell]) -> Iterator[tuple[int, int]]:
    """Yield the ranges in which `new` differs from `old`, as (start, end); near ranges are joined."""
    start = end = -1
    for at, cell in enumerate(new):
        if cell == old[at]:
            continue
        if start < 0:
            start = at
        elif at - end > _NEAR:
            yield start, end
            start = at
        end = at + 1
    if start >= 0:
        yield start, end


@lru_cache(4096)
def _turn(old: str, new: str) -> str:
    """Return the sequence from the SGR codes `old` to `new`: only the differing parts, if nothing must be reset."""
    have, want = _parts(old), _parts(new)
    if have[0] != want[0] or (have[1] and not want[1]) or (have[2] and not want[2]):
        return f"\x1b[0;{new}m" if new else "\x1b[m"
    return f"\x1b[{';'.join(part for part, before in zip(want, have, strict=True) if part != before)}m"


_COLOUR: Final = re.compile(r"(?:^|;)(?P<code>[34]8;(?:2;\d+;\d+;\d+|5;\d+)|3[0-79]|9[0-7]|4[0-79]|10[0-7])(?=;|$)")


@lru_cache(4096)
def _parts(codes: str) -> tuple[str, str, str]:
    """Split SGR codes into attributes, foreground and background."""
    colours = [match["code"] for match in _COLOUR.finditer(codes)]
    front = next((code for code in colours if code[0] in "39"), "")
    back = next((code for code in colours if code[0] in "41"), "")
    return _COLOUR.sub("", codes), front, back


def _wide(cells: list[_Cell], at: int) -> bool:
    return at + 1 < len(cells) and not cells[at + 1][0]
