"""The terminal driver: Textual's, which survives the end of its terminal until the app has ended.

Textual's output thread ends with the first write that fails; then its queue fills, and the app waits on it forever.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from io import TextIOWrapper
from typing import TextIO, cast

from textual.app import App

from speclab.app.input import InputDriver


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
    """What the output thread uses of a file, without its errors: `speclab.hangup` notices why they come."""

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
