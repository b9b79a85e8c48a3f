"""Terminal drivers that accept any bytes and survive the end of the terminal; Textual's driver does neither."""

from __future__ import annotations

import errno
import os
import selectors
import signal
from codecs import getincrementaldecoder
from contextlib import suppress
from io import TextIOWrapper
from typing import Final, TextIO, cast

from textual._parser import ParseError
from textual._xterm_parser import XTermParser
from textual.app import App
from textual.drivers.linux_driver import LinuxDriver

_CHUNK: Final = 4096
_INTERVAL: Final = 0.1
"""Seconds between two checks for the end of the app and for the rest of an escape sequence."""


class InputDriver(LinuxDriver):
    """Textual's driver, with bytes that are not UTF-8 decoded as U+FFFD."""

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
    """A driver that drops output once the terminal is gone, and sends SIGHUP to this process."""

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
