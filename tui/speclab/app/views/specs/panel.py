"""The panel beside a section: its guide, problems and outline."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import ClassVar, Final

from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Markdown, Static

from speclab.app.actions import Action, bindings
from speclab.app.formatting import NOTHING
from speclab.app.views.specs.editor import EditableBody, SectionEditor, Underline
from speclab.app.widgets.grid import MOVES, Grid, GridCell, GridColumn, GridRow
from speclab.app.widgets.panel import Panel
from speclab.core.errors import EditRejected
from speclab.core.outcome import Level
from speclab.spec.document import Document, Section
from speclab.spec.front_matter import FrontMatterEntry
from speclab.spec.guide import Guide, SettingHelp, Variant
from speclab.spec.problems import Problem

_WHICH: Final = re.compile(r"^(?:connector|type):\s*[\"']?([\w.-]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Words in a style, `indent` cells in; a line that is broken goes on `hang` cells further in.

    `head` are words before them in a style of their own.
    """

    words: str
    style: str = ""
    head: str = ""
    head_style: str = ""
    indent: int = 0
    hang: int = 0

    def lines(self, width: int) -> Iterator[Content]:
        """The lines of it that fit into `width` cells."""
        text = f"{self.head}{self.words}"
        first, rest = " " * self.indent, " " * (self.indent + self.hang)
        head = len(self.head)
        for line in wrap(text, max(12, width), initial_indent=first, subsequent_indent=rest) or [""]:
            cut = self.indent + head if head else 0
            yield Content.assemble((line[:cut], self.head_style), (line[cut:], self.style))
            head = 0


BLANK: Final = Paragraph("")


class GuideView(VerticalScroll, can_focus=True):
    """What belongs here, in words, as choices, as settings."""

    DEFAULT_CSS = """
    GuideView { padding: 0 1; scrollbar-size-vertical: 1; }
    GuideView Static { color: $foreground; }
    """

    def __init__(self) -> None:
        self._text = Static()
        super().__init__(self._text)
        self._paragraphs: Sequence[Paragraph] = ()

    def show(self, guide: Guide, body: str, offered: Sequence[Paragraph]) -> None:
        """Show what belongs in a section whose text is `body`, and what can be done about it, or came of it."""
        apart = (BLANK,) if offered else ()
        self._tell([Paragraph(guide.summary), *apart, *offered, *_choices(guide), *_variants(guide, body)])

    def show_front_matter(self) -> None:
        """Show what belongs in the front matter."""
        self._tell([Paragraph("What the spec is called, and how far it is. Keys that other tools use are kept.")])

    def on_resize(self) -> None:
        """Break the lines anew."""
        self._break()

    def _tell(self, paragraphs: Sequence[Paragraph]) -> None:
        if paragraphs != self._paragraphs:
            self._paragraphs = paragraphs
            self._break()
            self.scroll_home(animate=False)

    def _break(self) -> None:
        width = self.size.width - 3  # what padding takes, and the scroll bar where there is one
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
    """The variant that the section's settings block says it is, or the only one there is."""
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


KEYS: Final = (
    *(action for action in MOVES if action.id != "choose"),
    Action("choose", "change", "Change the value under the cursor.", ("enter",)),
)


class FrontMatterGrid(Grid):
    """The keys of the front matter and their values as they are written; a row's key is the key."""

    ACTIONS = KEYS
    BINDINGS: ClassVar[list[BindingType]] = bindings(KEYS)

    def __init__(self) -> None:
        super().__init__(
            (GridColumn("key", 12), GridColumn("value", 20, flex=1)),
            empty=("No spec is open.", "n makes one from the template; `speclab demo` shows one at work."),
        )

    def show_keys(self, document: Document, problems: Iterable[Problem]) -> None:
        """Show the keys of `document`; values with problems stand out."""
        levels = {problem.line: problem.level for problem in problems}
        rows = [_key_row(entry, document, levels) for entry in document.front_matter.entries]
        self.show(rows, empty=("No front matter.", "A spec begins with --- and its keys: spec_id, type, status."))


def _key_row(entry: FrontMatterEntry, document: Document, levels: Mapping[int, Level]) -> GridRow:
    value = entry.value.of(document.text)
    level = levels.get(document.position(entry.value.start)[0])
    style = {Level.ERROR: "failed", Level.WARNING: "attention"}.get(level or Level.INFO, "" if value else "muted")
    return GridRow(entry.key, (GridCell(entry.key, "muted"), GridCell(value or NOTHING, style)))


class SectionPanel(Panel):
    """One section: looked at, edited from `begin` to `end`, or previewed; or the front matter."""

    DEFAULT_CSS = """
    SectionPanel {
        & > SectionEditor, & > FrontMatterGrid, & > #preview { height: 1fr; }
        & > SectionEditor { padding: 0 1; }
        & > #preview { padding: 0 1; background: $background; scrollbar-size-vertical: 1; }
        & > #preview > Markdown { padding: 0; margin: 0; background: $background; }
        & > #word { height: auto; max-height: 6; padding: 0 1; background: $background; }
    }
    """

    def __init__(self) -> None:
        self.editor = SectionEditor()
        self.keys = FrontMatterGrid()
        self._preview = VerticalScroll(Markdown(), id="preview")
        self._word = Static(id="word", markup=False)
        super().__init__(self.editor, self.keys, self._preview, self._word, title="", id="section_panel")
        self.editor.display = self._preview.display = self._word.display = False
        self.previewing = False
        self._previewed = ""
        self._editable = EditableBody.of("")
        self._unreadable: EditRejected | None = None
        self._known: str | None = None  # the body that the editor's text stands for, as the document has it
        self._taken = ""  # the editor's text when it was last taken
        self._shown: tuple[Path | None, str] | None = None  # the spec and the section that the editor shows

    @property
    def editing(self) -> bool:
        """Whether somebody edits the text now."""
        return not self.editor.read_only

    def show(self, document: Document, section: Section | None, problems: Sequence[Problem], typed: str | None) -> None:
        """Show `section`, or the front matter if it is None; `typed` is text for it that the document refuses."""
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

    def say(self, word: str, style: str = "") -> None:
        """Say something below the text; nothing if empty."""
        self._word.update(Content.styled(word, style))
        self._word.display = bool(word)

    # Editing

    def begin(self) -> None:
        """Let the text be edited. Raises `EditRejected` where it would not come back as it is."""
        if self._unreadable is not None:
            raise self._unreadable
        self.editor.read_only = False
        self.editor.show_cursor = True
        self.editor.add_class("-editing")
        self.editor.focus()

    def end(self) -> None:
        """Only look at the text from now on."""
        self.editor.read_only = True
        self.editor.show_cursor = False
        self.editor.remove_class("-editing")
        self._known = None  # what the document made of it is shown next

    @property
    def untaken(self) -> bool:
        """Whether anything was written since `written` was last asked."""
        return self.editing and self.editor.text != self._taken

    def draft(self) -> str | None:
        """What was written since `written` was last asked, as a body; None if nothing. It stays to be asked for."""
        return self._editable.written(self.editor.text) if self.untaken else None

    def written(self) -> str | None:
        """What was written since this was last asked, as a body; None if nothing."""
        if not self.untaken:
            return None
        self._taken = self.editor.text
        return self._editable.written(self._taken)

    def taken(self, body: str) -> None:
        """The document, or its `typed`, now has `body` for what was written."""
        self._known = body

    def _load(self, body: str, *, keep_cursor: bool) -> None:
        self._unreadable = None
        try:
            self._editable = EditableBody.of(body)
        except EditRejected as refusal:
            self._unreadable = refusal
            self._editable = EditableBody.to_look_at(body)
        at = self.editor.cursor_location if keep_cursor else (0, 0)
        self.editor.load_text(self._editable.shown)
        self.editor.place_cursor(at)
        if not keep_cursor:
            self.editor.scroll_home(animate=False)
        self._known = body
        self._taken = self.editor.text

    def _underlines(self, document: Document, section: Section, problems: Iterable[Problem]) -> Iterator[Underline]:
        lines = self.editor.text.split("\n")
        blank = next((at for at, line in enumerate(lines) if line.strip()), 0)  # the document has none of these
        first = document.position(section.body.start)[0] - blank
        for problem in problems:
            if first + blank <= problem.line < first + len(lines):
                yield Underline(problem.line - first, problem.column - 1, problem.length, problem.level)

    def _read_out(self, markdown: str) -> None:
        if markdown != self._previewed:
            self._previewed = markdown
            self._preview.query_one(Markdown).update(markdown)
