"""Terminal input of any bytes. Textual's own input thread ends at a byte that is not UTF-8, and the app with it."""

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
"""Seconds between two checks whether the app has ended, or an escape sequence goes on."""


class InputDriver(LinuxDriver):
    """Textual's driver, for which bytes that are not UTF-8 are U+FFFD and end nothing."""

    def run_input_thread(self) -> None:
        """Read what is typed until the app ends. Raises `OSError` when the terminal is gone."""
        decode = getincrementaldecoder("utf-8")("replace").decode
        parser = XTermParser(self._debug)
        with selectors.SelectSelector() as selector:  # the only one that takes terminals on macOS
            selector.register(self.fileno, selectors.EVENT_READ)
            while not self.exit_event.is_set():
                if selector.select(_INTERVAL):
                    data = os.read(self.fileno, _CHUNK)
                    if not data:
                        raise OSError(errno.EIO, "the terminal is gone")
                    text = decode(data)  # empty while a character goes on, which the parser takes for the end
                    for event in parser.feed(text) if text else ():
                        self.process_message(event)
                for event in parser.tick():
                    self.process_message(event)
        try:
            for _ in parser.feed(""):
                pass  # what is left of an escape sequence is not for the app any more
        except (EOFError, ParseError):
            return


class LastingDriver(InputDriver):
    """A driver whose output goes nowhere once the terminal is gone, and which says so with SIGHUP."""

    def __init__(
        self, app: App[object], *, debug: bool = False, mouse: bool = True, size: tuple[int, int] | None = None
    ) -> None:
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        if self._file is not None:
            self._file = cast("TextIOWrapper", _Output(self._file))

    def run_input_thread(self) -> None:
        """Read what is typed until the app ends, or the terminal does."""
        try:
            super().run_input_thread()
        except OSError:
            os.kill(os.getpid(), signal.SIGHUP)


class _Output:
    """What the output thread uses of a file, without its errors: `speclab.core.processes` notices why they come."""

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
