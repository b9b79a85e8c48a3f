"""The section panel (front matter, editor, preview), and the guide beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, ClassVar, Final

from rich.cells import cell_len
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Markdown, Static

from speclab.app.actions import Action, bindings
from speclab.app.formatting import CRUMB, ELLIPSIS, FAILED, IDLE, NOTHING, RUNNING, WELL, Icon, exactly
from speclab.app.views.specs.editor import EditableBody, SectionEditor, Underline
from speclab.app.widgets.grid import MOVES, Grid, GridCell, GridColumn, GridRow
from speclab.app.widgets.panel import Panel
from speclab.core.errors import EditRejected, EndpointError, SpeclabError, UnresolvedReference
from speclab.core.outcome import Level
from speclab.spec.document import Document, Section
from speclab.spec.front_matter import FrontMatterEntry
from speclab.spec.guide import Guide, SettingHelp, Variant
from speclab.spec.problems import Problem
from speclab.workbench.launcher import ConnectionTest
from speclab.workbench.open_specs import OpenSpec

if TYPE_CHECKING:
    from speclab.connectors.check import ConnectionCheck

_WHICH: Final = re.compile(r"^(?:connector|type):\s*[\"']?([\w.-]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A styled text, indented by `indent` cells; continuation lines are indented by `hang` more.

    `head` is a text before it with another style.
    """

    words: str
    style: str = ""
    head: str = ""
    head_style: str = ""
    indent: int = 0
    hang: int = 0

    def lines(self, width: int) -> Iterator[Content]:
        """Wrap the paragraph to `width` cells."""
        text = f"{self.head}{self.words}"
        first, rest = " " * self.indent, " " * (self.indent + self.hang)
        head = len(self.head)
        for line in wrap(text, max(12, width), initial_indent=first, subsequent_indent=rest) or [""]:
            cut = self.indent + head if head else 0
            yield Content.assemble((line[:cut], self.head_style), (line[cut:], self.style))
            head = 0


BLANK: Final = Paragraph("")


class GuideView(VerticalScroll, can_focus=True):
    """The guide to a section: summary, choices and settings."""

    DEFAULT_CSS = """
    GuideView { padding: 0 1; scrollbar-size-vertical: 1; }
    GuideView Static { color: $foreground; }
    """

    def __init__(self) -> None:
        self._text = Static()
        super().__init__(self._text)
        self._paragraphs: Sequence[Paragraph] = ()

    def show(self, guide: Guide, body: str, offered: Sequence[Paragraph]) -> None:
        """Show the guide to a section with the text `body`, with `offered` actions and results."""
        apart = (BLANK,) if offered else ()
        self._show_paragraphs([Paragraph(guide.summary), *apart, *offered, *_choices(guide), *_variants(guide, body)])

    def show_front_matter(self) -> None:
        """Show the guide to the front matter."""
        self._show_paragraphs([Paragraph("The name and the status of the spec. Keys of other tools are kept.")])

    def on_resize(self) -> None:
        """Wrap the lines again."""
        self._break()

    def _show_paragraphs(self, paragraphs: Sequence[Paragraph]) -> None:
        if paragraphs != self._paragraphs:
            self._paragraphs = paragraphs
            self._break()
            self.scroll_home(animate=False)

    def _break(self) -> None:
        width = self.size.width - 3  # padding and scroll bar
        lines = [line for paragraph in self._paragraphs for line in paragraph.lines(width)]
        self._text.update(Content("\n").join(lines))


def _choices(guide: Guide) -> Iterator[Paragraph]:
    for choice in guide.choices:
        yield BLANK
        yield Paragraph(choice.text, "bold" if choice.runs else "", hang=2)
        yield Paragraph(choice.summary if choice.runs else f"{choice.summary}; not run yet", "$muted", indent=2)


def _variants(guide: Guide, body: str) -> Iterator[Paragraph]:
    chosen = _chosen(guide, body)
    if chosen is not None:
        yield BLANK
        if not chosen.settings:
            yield Paragraph(chosen.summary)
        for setting in chosen.settings:
            yield from _setting(setting)
        return
    for variant in guide.variants:
        yield BLANK
        yield Paragraph(variant.name, "bold")
        yield Paragraph(variant.summary, "$muted", indent=2)
        if variant.provider:
            yield Paragraph(f"from {variant.provider}", "$muted", indent=2)


def _chosen(guide: Guide, body: str) -> Variant | None:
    """Return the variant named in the section's settings block, or the only variant."""
    if len(guide.variants) == 1:
        return guide.variants[0]
    names = set(_WHICH.findall(body))
    return next((variant for variant in guide.variants if variant.name in names), None)


def _setting(setting: SettingHelp) -> Iterator[Paragraph]:
    depth = 2 * setting.name.count(".")
    expected = setting.type
    if setting.required:
        expected += ", required"
    elif setting.default:
        expected += f", default {setting.default}"
    name = setting.name.rpartition(".")[2]
    yield Paragraph(expected, "$secondary", f"{name}  ", "bold" if setting.required else "", indent=depth, hang=4)
    if setting.description:
        yield Paragraph(setting.description, "$muted", indent=depth + 2)


_ICON_COLOURS: Final = {WELL: "$success", FAILED: "$error", IDLE: "$muted", RUNNING: "$accent"}
_MAX_LINES: Final = 12
"""Maximum lines of a response shown; `speclab auth` prints all."""


def describe_test(test: ConnectionTest) -> Iterator[Paragraph]:
    """Yield the steps of a connection test and its result."""
    yield Paragraph(test.title, "bold")
    error = test.error or (test.check.error if test.check is not None else None)
    if test.check is not None:
        yield from _test_steps(test.check, unresolved=isinstance(error, UnresolvedReference))
    for report in test.reports:
        yield _icon_line(IDLE, report, "$muted")
    if test.step:
        yield _icon_line(RUNNING, f"{test.step} {ELLIPSIS}")
        yield Paragraph("esc stops it", "$muted", indent=2)
    elif test.stopped:
        yield _icon_line(IDLE, "stopped", "$muted")
    elif error is not None:
        yield from _test_failure(error)
    else:
        yield _icon_line(WELL, "connected", "bold")


def _test_steps(check: ConnectionCheck, *, unresolved: bool) -> Iterator[Paragraph]:
    if check.references:
        names = ", ".join(check.references)
        yield _icon_line(IDLE, f"names {names}", "$muted") if unresolved else _icon_line(WELL, f"found {names}")
    if check.token is not None:
        until = check.token_expires_at
        valid = f"valid until {exactly(until)}" if until else "without an expiry"
        yield _icon_line(WELL, f"{'a new' if check.is_new else 'the kept'} token, {valid}")
    if check.request:
        yield _icon_line(WELL, check.request)


def _test_failure(error: SpeclabError) -> Iterator[Paragraph]:
    """Yield the error and its hint, then the request and the response."""
    yield _icon_line(FAILED, error.message)
    if error.hint:
        yield Paragraph(error.hint, "$accent", indent=2)
    if isinstance(error, EndpointError):
        for name, text in (("request", error.request), ("response", error.response)):
            lines = text.splitlines()
            if lines:
                yield Paragraph(name, "$secondary", indent=2)
            yield from (Paragraph(line, "$muted", indent=2, hang=2) for line in lines[:_MAX_LINES])
            if len(lines) > _MAX_LINES:
                yield Paragraph(f"{ELLIPSIS} {len(lines) - _MAX_LINES} more lines", "$muted", indent=2)


def _icon_line(mark: Icon, text: str, style: str = "") -> Paragraph:
    return Paragraph(text, style, f"{mark.glyph} ", _ICON_COLOURS[mark], hang=2)


KEYS: Final = (
    *(action for action in MOVES if action.id != "choose"),
    Action("choose", "change", "Change the value under the cursor.", ("enter",)),
)


class FrontMatterGrid(Grid):
    """The keys and values of the front matter; a row's key is the front matter key."""

    ACTIONS = KEYS
    BINDINGS: ClassVar[list[BindingType]] = bindings(KEYS)

    def __init__(self) -> None:
        super().__init__(
            (GridColumn("key", 12), GridColumn("value", 20, flex=1)),
            empty=("No spec is open.", "n creates one from the template; `speclab demo` runs an example."),
        )

    def show_keys(self, document: Document, problems: Iterable[Problem]) -> None:
        """Show the keys of `document`; values with problems are highlighted."""
        levels = {problem.line: problem.level for problem in problems}
        rows = [_key_row(entry, document, levels) for entry in document.front_matter.entries]
        self.show(rows, empty=("No front matter.", "A spec begins with --- and its keys: spec_id, type, status."))


def _key_row(entry: FrontMatterEntry, document: Document, levels: Mapping[int, Level]) -> GridRow:
    value = entry.value.of(document.text)
    level = levels.get(document.position(entry.value.start)[0])
    style = {Level.ERROR: "failed", Level.WARNING: "attention"}.get(level or Level.INFO, "" if value else "muted")
    return GridRow(entry.key, (GridCell(entry.key, "muted"), GridCell(value or NOTHING, style)))


class SectionPanel(Panel):
    """One section: read-only, edited from `begin` to `end`, or previewed; or the front matter."""

    DEFAULT_CSS = """
    SectionPanel {
        & > SectionEditor, & > FrontMatterGrid, & > #preview { height: 1fr; }
        & > SectionEditor { padding: 0 1; }
        & > #preview { padding: 0 1; background: $background; scrollbar-size-vertical: 1; }
        & > #preview > Markdown { padding: 0; margin: 0; background: $background; }
        & > #message { height: auto; max-height: 6; padding: 0 1; background: $background; }
    }
    """

    def __init__(self) -> None:
        self.editor = SectionEditor()
        self.keys = FrontMatterGrid()
        self._preview = VerticalScroll(Markdown(), id="preview")
        self._message = Static(id="message", markup=False)
        super().__init__(self.editor, self.keys, self._preview, self._message, title="", id="section_panel")
        self.editor.display = self._preview.display = self._message.display = False
        self.previewing = False
        self._previewed = ""
        self._editable = EditableBody.of("")
        self._unreadable: EditRejected | None = None
        self._known: str | None = None  # the body of the editor's text in the document
        self._committed = ""  # the editor's text when it was last committed
        self._shown: tuple[Path | None, str] | None = None  # the spec and the section in the editor

    @property
    def editing(self) -> bool:
        """Whether the text is being edited."""
        return not self.editor.read_only

    def show(self, document: Document, section: Section | None, problems: Sequence[Problem], typed: str | None) -> None:
        """Show `section`, or the front matter if it is None; `rejected` is its text if the document rejected it."""
        self.keys.display = section is None
        self._preview.display = section is not None and self.previewing
        self.editor.display = section is not None and not self.previewing
        if section is None:
            self._known = None
            self.keys.show_keys(document, problems)
            return
        body = document.body(section) if typed is None else typed
        shown = (document.path, section.address)
        if body != self._known or shown != self._shown:
            self._load(body, keep_cursor=shown == self._shown)
        self._shown = shown
        self.editor.underline(self._underlines(document, section, problems) if typed is None else ())
        if self.previewing:
            self._read_out(f"{'#' * section.level} {section.title}\n\n{body}")

    def show_title(self, opened: OpenSpec, section: Section | None) -> None:
        """Show the path of `section` (None: the front matter), as much as fits, and the state of the spec."""
        states = (
            "editing" if self.editing else "preview" if self.previewing else "",
            "read-only" if opened.read_only else "",
            "unsaved" if opened.unsaved else "",
        )
        self.note = ", ".join(filter(None, states))
        names = (opened.path.stem, *(section.path if section is not None else ("Front matter",)))
        titles = [f" {CRUMB} ".join(names[at:]) for at in range(len(names))]
        room = self.size.width - len(self.note) - 12
        self.title = next((title for title in titles if cell_len(title) <= room), titles[-1])

    def show_message(self, message: str, style: str = "") -> None:
        """Show a message below the text; an empty one hides it."""
        self._message.update(Content.styled(message, style))
        self._message.display = bool(message)

    # Editing

    def begin(self) -> None:
        """Start editing. Raises `EditRejected` if the text could not be restored unchanged."""
        if self._unreadable is not None:
            raise self._unreadable
        self.editor.read_only = False
        self.editor.show_cursor = True
        self.editor.add_class("-editing")
        self.editor.focus()

    def end(self) -> None:
        """Stop editing."""
        self.editor.read_only = True
        self.editor.show_cursor = False
        self.editor.remove_class("-editing")
        self._known = None  # the text of the document is shown next

    @property
    def has_draft(self) -> bool:
        """Whether text was typed since the last `take_draft`."""
        return self.editing and self.editor.text != self._committed

    def draft(self) -> str | None:
        """Return the body with the text typed since the last `take_draft`, without taking it; None if there is none."""
        return self._editable.restore(self.editor.text) if self.has_draft else None

    def take_draft(self) -> str | None:
        """Return the body with the text typed since the last call; None if there is none."""
        if not self.has_draft:
            return None
        self._committed = self.editor.text
        return self._editable.restore(self._committed)

    def mark_committed(self, body: str) -> None:
        """Record that the document has `body` for the typed text, possibly as rejected text."""
        self._known = body

    def _load(self, body: str, *, keep_cursor: bool) -> None:
        self._unreadable = None
        try:
            self._editable = EditableBody.of(body)
        except EditRejected as error:
            self._unreadable = error
            self._editable = EditableBody.for_display(body)
        at = self.editor.cursor_location if keep_cursor else (0, 0)
        self.editor.load_text(self._editable.shown)
        self.editor.place_cursor(at)
        if not keep_cursor:
            self.editor.scroll_home(animate=False)
        self._known = body
        self._committed = self.editor.text

    def _underlines(self, document: Document, section: Section, problems: Iterable[Problem]) -> Iterator[Underline]:
        lines = self.editor.text.split("\n")
        blank = next(
            (at for at, line in enumerate(lines) if line.strip()), 0
        )  # blank lines before the first are not part of the section
        first = document.position(section.body.start)[0] - blank
        for problem in problems:
            if first + blank <= problem.line < first + len(lines):
                yield Underline(problem.line - first, problem.column - 1, problem.length, problem.level)

    def _read_out(self, markdown: str) -> None:
        if markdown != self._previewed:
            self._previewed = markdown
            self._preview.query_one(Markdown).update(markdown)
