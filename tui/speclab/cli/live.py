"""The progress of a run as one line at the end of a terminal, replaced once a second; nothing where there is none."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from speclab.cli.output import report
from speclab.runlog.progress import progress_text

if TYPE_CHECKING:
    from speclab.outcome import Level
    from speclab.runlog import RunRow

_CLEAR: Final = b"\r\x1b[K"


class LiveLine:
    """The line, on stderr. Whatever else is printed there during the run goes through `report`."""

    def __init__(self) -> None:
        self._works = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._shown = False

    def show(self, run: RunRow) -> None:
        """Show how `run` goes."""
        if not self._works:
            return
        doing = progress_text(run, datetime.now(UTC))
        text = " ".join(f"{run.spec_id}: {run.read:,} read, {doing}".split())
        self.clear()
        with suppress(OSError):  # the run goes on where nobody sees it
            width = os.get_terminal_size(sys.stderr.fileno()).columns
            sys.stderr.write(text[: width - 1])
            sys.stderr.flush()
            self._shown = True

    def clear(self) -> None:
        """Remove the line, so that the next output starts where it began."""
        if self._shown:
            self._shown = False
            with suppress(OSError):
                sys.stderr.buffer.write(_CLEAR)
                sys.stderr.buffer.flush()

    def report(self, level: Level, message: str) -> None:
        """Print a message in place of the line."""
        self.clear()
        report(level, message)
