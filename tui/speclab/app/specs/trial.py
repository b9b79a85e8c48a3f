"""One try of the credentials of an end: how far it has come, and the lines in which the guide tells it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from speclab.app.glyphs import ELLIPSIS, FAILED, IDLE, RUNNING, WELL, Mark
from speclab.app.specs.guide import Paragraph
from speclab.app.words import exactly
from speclab.errors import SpeclabError, SystemFailure, UnresolvedReference

if TYPE_CHECKING:
    from speclab.connectors import Access

_COLOURS: Final = {WELL: "$success", FAILED: "$error", IDLE: "$muted", RUNNING: "$accent"}
_MOST: Final = 12
"""Lines of an answer that are shown; `speclab auth` shows all there is."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A try, as far as it has come: `doing` says what is waited for, and is empty once it is over.

    `of` is what the end's sections said when it began: where they say something else by now, it tells nothing any
    more. `reports` are what the connector told on the way, `refusal` is why it could not even begin.
    """

    of: tuple[str, ...]
    title: str
    doing: str = ""
    access: Access | None = None
    reports: tuple[str, ...] = ()
    refusal: SpeclabError | None = None
    stopped: bool = False

    def paragraphs(self) -> Iterator[Paragraph]:
        """What happened, line by line."""
        yield Paragraph(self.title, "bold")
        error = self.refusal or (self.access.error if self.access is not None else None)
        if self.access is not None:
            yield from _steps(self.access, unresolved=isinstance(error, UnresolvedReference))
        for report in self.reports:
            yield _line(IDLE, report, "$muted")
        if self.doing:
            yield _line(RUNNING, f"{self.doing} {ELLIPSIS}")
            yield Paragraph("esc stops it", "$muted", indent=2)
        elif self.stopped:
            yield _line(IDLE, "stopped", "$muted")
        elif error is not None:
            yield from _failure(error)
        else:
            yield _line(WELL, "let in", "bold")


def _steps(access: Access, *, unresolved: bool) -> Iterator[Paragraph]:
    if access.references:
        names = ", ".join(access.references)
        yield _line(IDLE, f"names {names}", "$muted") if unresolved else _line(WELL, f"found {names}")
    if access.token is not None:
        until = access.token_expires_at
        good = f"good until {exactly(until)}" if until else "for as long as the server likes"
        yield _line(WELL, f"{'a new' if access.is_new else 'the kept'} token, {good}")
    if access.request:
        yield _line(WELL, access.request)


def _failure(error: SpeclabError) -> Iterator[Paragraph]:
    """What is wrong and what to do; below, for whoever wants to know, what was asked and answered."""
    yield _line(FAILED, error.message)
    if error.hint:
        yield Paragraph(error.hint, "$accent", indent=2)
    if isinstance(error, SystemFailure):
        for name, text in (("request", error.request), ("response", error.response)):
            lines = text.splitlines()
            if lines:
                yield Paragraph(name, "$secondary", indent=2)
            yield from (Paragraph(line, "$muted", indent=2, hang=2) for line in lines[:_MOST])
            if len(lines) > _MOST:
                yield Paragraph(f"{ELLIPSIS} {len(lines) - _MOST} more lines", "$muted", indent=2)


def _line(mark: Mark, words: str, style: str = "") -> Paragraph:
    return Paragraph(words, style, f"{mark.glyph} ", _COLOURS[mark], hang=2)
