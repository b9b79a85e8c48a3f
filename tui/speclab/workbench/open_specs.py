"""Open specs: their documents, outlines and problems, with undo, redo and recovery."""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Final

from speclab.core.errors import EditRejected, SpeclabError, UsageError
from speclab.core.files import MAX_SPEC_SIZE, resolve_path, too_large
from speclab.core.outcome import Level
from speclab.core.plugins import load_in_thread
from speclab.spec import store
from speclab.spec.document import Document, Section
from speclab.spec.guide import is_template_text
from speclab.spec.problems import Problem
from speclab.spec.store import SaveConflict, Side, merge
from speclab.spec.workspace import SpecFile, State, file_state

FRONT_MATTER: Final = ""
"""The address of the front matter, the first row of the outline."""


def count_problems(document: Document, problems: Iterable[Problem]) -> dict[str, Counter[Level]]:
    """Count the problems of each level in every section and in the front matter."""
    found: dict[str, Counter[Level]] = {section.address: Counter() for section in document.sections}
    found[FRONT_MATTER] = Counter()
    for problem in problems:
        found[find_section_address(document, problem.line)][problem.level] += 1
    return found


def find_section_address(document: Document, line: int) -> str:
    """Return the address of the section that contains `line`; `FRONT_MATTER` before the first."""
    at = bisect_right([section.line for section in document.sections], line)
    return document.sections[at - 1].address if at else FRONT_MATTER


def find_section_title(document: Document, line: int) -> str:
    """Return the title of the section that contains `line`."""
    at = bisect_right([section.line for section in document.sections], line)
    return document.sections[at - 1].title if at else "Front matter"


def get_subsections(sections: Sequence[Section], at: int) -> list[Section]:
    """Return the sections below the one at index `at`."""
    inner = []
    for section in sections[at + 1 :]:
        if section.level <= sections[at].level:
            break
        inner.append(section)
    return inner


def is_filled(document: Document, section: Section, inner: Sequence[Section]) -> bool:
    """Return whether the section has text, or all of its subsections have."""
    if section.empty or is_template_text(document, section):
        return bool(inner) and all(is_filled(document, other, ()) for other in inner)
    return True


def apply_fix(document: Document, problem: Problem) -> Document:
    """Return `document` with the fix of `problem`. Raises `EditRejected` if that is not safe."""
    start = document.lines.starts[problem.line - 1] + problem.column - 1
    end, fix = start + problem.length, problem.fix or ""
    for section in document.sections:
        if section.body.start <= start and end <= section.body.end:
            body, at = document.body(section), section.body.start
            return document.with_body(section, body[: start - at] + fix + body[end - at :])
    for entry in document.front_matter.entries:
        if entry.value.start <= start and end <= max(entry.value.end, start + 1):
            return document.with_front_matter(entry.key, fix)
    raise EditRejected("this must be fixed by hand", hint=problem.message)


_TILDES: Final = re.compile(r"~{3,}")


@dataclass(frozen=True, slots=True)
class SpecEdit:
    """One step of the history. Steps of one `group`, such as all typing in one editor session, become one."""

    label: str
    before: Document
    after: Document
    group: str = ""


@dataclass(frozen=True, slots=True)
class RejectedText:
    """Text from an editor that the document rejects, and why. It is kept until it is fixed or discarded."""

    section: Section
    body: str
    error: EditRejected


class OpenOutcome(StrEnum):
    """The result of reading the file again."""

    SAME = "same"
    READ_AGAIN = "read again"  # it changed, and nothing here was unsaved
    MERGED = "merged"  # it changed, and the unsaved changes were merged
    CONFLICT = "conflict"  # the same lines changed here and in the file: saving asks
    GONE = "gone"
    UNREADABLE = "unreadable"  # it was replaced by something that is not read, such as a named pipe or a file of 24 MB


class OpenSpec:
    """One open spec file.

    `document` is shown and edited; `base` is the content of the file when it was last read or written.
    `problems` are those of the document `checked`, which lags behind while text is typed.
    """

    def __init__(self, path: Path, *, read_only: str = "") -> None:
        self.path = path
        self.document = self.base = Document.load(path)
        self.rejected: RejectedText | None = None
        self.gone = False
        self.unreadable = ""  # why the file as it is now cannot be read
        self.problems: Sequence[Problem] = ()
        self.checked: Document | None = None
        self.draft_source: Callable[[], str | None] | None = None
        """Returns the whole text with the draft in an editor; None if there is no draft."""
        self._read_only = read_only
        self._undo: list[SpecEdit] = []
        self._redo: list[SpecEdit] = []
        self._recovery_text: str | None = None  # the text that the recovery file holds
        self._recovery_is_durable = True

    @property
    def read_only(self) -> str:
        """Why the spec is read-only, as a sentence; empty if it can be edited."""
        if self._read_only:
            return self._read_only
        if self.path.exists() and not os.access(self.path, os.W_OK):
            return "the file is read-only"
        return ""

    @property
    def unsaved(self) -> bool:
        """Whether closing now would lose changes."""
        return self.rejected is not None or self.gone or bool(self.unreadable) or self.document.text != self.base.text

    # History

    @property
    def next_undo(self) -> str:
        """The label of the change that `undo` reverts, or an empty string."""
        return self._undo[-1].label if self._undo else ""

    @property
    def next_redo(self) -> str:
        """The label of the change that `redo` repeats, or an empty string."""
        return self._redo[-1].label if self._redo else ""

    def edit(self, after: Document, label: str, group: str = "") -> None:
        """Make `after` the document, as one step of the history, or as a part of the last one if it is of that group.

        Raises `EditRejected` if the spec is read-only or becomes too large.
        """
        if self.read_only:
            raise EditRejected(f"nothing can be changed: {self.read_only}")
        if after.text == self.document.text:
            return
        if len(after.text) > MAX_SPEC_SIZE >= len(self.document.text):
            error = too_large(self.path, len(after.to_bytes()))
            raise EditRejected(error.message, hint=error.hint)
        before = self.document
        if group and self._undo and self._undo[-1].group == group and self._undo[-1].after == before:
            before = self._undo.pop().before
        if after.text != before.text:
            self._undo.append(SpecEdit(label, before, after, group))
        self._redo.clear()
        self.document = after

    def undo(self) -> str:
        """Undo the last change and return its label. Raises `EditRejected` if that is not possible."""
        self._require_no_rejected_text("undo")
        if not self._undo:
            raise EditRejected("nothing to undo")
        change = self._undo[-1]
        self.document = self._turned(change.after, change.before, f"cannot undo: {change.label}")
        self._redo.append(self._undo.pop())
        return change.label

    def redo(self) -> str:
        """Redo the change that was undone last and return its label. Raises `EditRejected` as `undo` does."""
        self._require_no_rejected_text("redo")
        if not self._redo:
            raise EditRejected("nothing to redo")
        change = self._redo[-1]
        self.document = self._turned(change.before, change.after, f"cannot redo: {change.label}")
        self._undo.append(self._redo.pop())
        return change.label

    def _require_no_rejected_text(self, step: str) -> None:
        """Raise `EditRejected` if there is rejected text, which undo or redo would lose."""
        if self.rejected is not None:
            error = self.rejected.error
            raise EditRejected(
                f"cannot {step}: the text in {self.rejected.section.title} is not in the spec yet: {error.message}",
                hint=error.hint,
            )

    def _turned(self, old: Document, new: Document, error: str) -> Document:
        """Return the document with the change from `old` to `new`; it may have changed since."""
        if self.document.text == old.text:
            return new
        merged = merge(old, self.document, new)
        if merged.conflicts:
            raise EditRejected(f"{error}: the same lines were changed since")
        return Document.parse(merged.resolved(), self.path)

    # Text in an editor

    def write_section(self, section: Section, body: str, group: str) -> None:
        """Replace the text of that section by `body`.

        If the document rejects it, it is kept as `rejected`, with the reason.
        """
        try:
            self.edit(self.document.with_body(section, body), f"edit of {section.title}", group)
        except EditRejected as error:
            self.rejected = RejectedText(section, body, error)
        else:
            self.rejected = None

    def discard_rejected(self) -> None:
        """Discard the text that the document rejects."""
        self.rejected = None

    # The file

    def reload(self) -> OpenOutcome:
        """Read the file again if it changed, and merge unsaved changes."""
        try:
            now = Document.load(self.path)
        except UsageError as error:
            self.unreadable = error.message if os.path.lexists(self.path) else ""
            self.gone = not self.unreadable
            return OpenOutcome.UNREADABLE if self.unreadable else OpenOutcome.GONE
        self.gone, self.unreadable = False, ""
        if now.text == self.base.text:
            return OpenOutcome.SAME
        if self.document.text in (self.base.text, now.text):
            self.document = self.base = now
            return OpenOutcome.READ_AGAIN
        merged = merge(self.base, self.document, now)
        if merged.conflicts:
            return OpenOutcome.CONFLICT
        self.document, self.base = Document.parse(merged.resolved(), self.path), now
        return OpenOutcome.MERGED

    def save(self) -> bool:
        """Write the document, merged with external changes; return whether there were any.

        Raises `EditRejected` if there is rejected text, `SaveConflict` if the file was changed in the same lines (see
        `resolve_conflicts`), and `SpeclabError` if it cannot be written. Then the file is unchanged.
        """
        if self.read_only:
            raise EditRejected(f"cannot be saved: {self.read_only}")
        if self.rejected is not None:
            error = self.rejected.error
            raise EditRejected(f"not saved: {error.message}", hint=error.hint)
        saved = store.save(self.document, self.base)
        self.document = self.base = saved.document
        self.gone, self.unreadable = False, ""
        self.update_recovery()
        return saved.merged

    def resolve_conflicts(self, conflict: SaveConflict, sides: Sequence[Side]) -> None:
        """Resolve each conflict with a side, as one step of the history; then the spec can be saved."""
        self.base = conflict.theirs
        self.edit(Document.parse(conflict.merge.resolved(sides), self.path), "merge with the file")

    # Recovery

    def update_recovery(self, *, durable: bool = True) -> None:
        """Bring the recovery file up to date with unsaved changes and the draft; delete it without any.

        For `durable`, see `store.write_recovery`.
        """
        draft = self.draft_source() if self.draft_source is not None else None
        text = draft if draft is not None else self._whole() if self.unsaved else None
        is_done = text == self._recovery_text and (self._recovery_is_durable or not durable)
        if is_done and (text is None or store.find_recovery(self.path) is not None):
            return  # else another speclab dropped it, to which it was offered
        if text is None:
            store.drop_recovery(self.path)
        else:
            store.write_recovery(self.path, text, durable=durable)
        self._recovery_text, self._recovery_is_durable = text, durable or text is None

    def with_draft(self, section: Section, body: str) -> str:
        """Return the text of the document with `body` in `section`, without checking the sections after it.

        Cheap enough for every key, unlike an edit, which is verified; for the recovery file only.
        """
        text, newline = self.document.text, self.document.newline
        lines = newline.join(body.split("\n")) if "\r" not in body else body
        return f"{text[: section.body.start]}{lines}{text[section.body.end :]}"

    def recover(self, recovery: store.Recovery) -> None:
        """Restore recovered text, as one step of the history."""
        self._recovery_text = recovery.text
        self.edit(Document.parse(recovery.text, self.path), f"text recovered from {recovery.at:%H:%M}")

    def _whole(self) -> str:
        """Return the document, with rejected text in a fence in its section, where it can be fixed."""
        if self.rejected is None:
            return self.document.text
        longest = max(map(len, _TILDES.findall(self.rejected.body)), default=2)
        fence = "~" * (longest + 1)
        fenced = f"{fence}\n{self.rejected.body}\n{fence}"
        try:
            return self.document.with_body(self.rejected.section, fenced).text
        except EditRejected:  # the section no longer exists
            return f"{self.document.text}\n\n{fenced}\n"


class Session:
    """All specs that were opened since the app started, each with its own history."""

    def __init__(self, *, read_only: bool = False) -> None:
        self._read_only = "speclab was started with --read-only" if read_only else ""
        self._specs: dict[Path, OpenSpec] = {}

    def open(self, path: Path) -> OpenSpec:
        """Return the open spec at `path`; open it on first use. Raises `UsageError` if it cannot be read."""
        whole = resolve_path(path)
        if whole not in self._specs:
            self._specs[whole] = OpenSpec(path, read_only=self._read_only)
        return self._specs[whole]

    def unsaved(self) -> list[OpenSpec]:
        """Return the specs with unsaved changes."""
        return [spec for spec in self._specs.values() if spec.unsaved]

    def opened(self, path: Path) -> OpenSpec | None:
        """Return the spec at `path` if it is open."""
        return self._specs.get(resolve_path(path))

    def specs(self) -> list[OpenSpec]:
        """Return all open specs."""
        return list(self._specs.values())

    def recovery_files(self) -> list[tuple[Path, Path]]:
        """Return the specs that have a recovery file, and those files."""
        paths = [spec.path for spec in self._specs.values()]
        return [(path, store.recovery_path(path)) for path in paths if store.find_recovery(path) is not None]

    def update_recovery(self, *, durable: bool = True) -> None:
        """Bring all recovery files up to date. Raises `SpeclabError` if one cannot be written."""
        for spec in self._specs.values():
            spec.update_recovery(durable=durable)


class SpecErrors:
    """The number of errors of each spec file, by its resolved path, as far as they were counted."""

    def __init__(self) -> None:
        self.counts: dict[Path, int] = {}
        self._states: dict[Path, State | None] = {}

    def get_counts(self, opened: OpenSpec | None) -> Mapping[Path, int]:
        """Return the number of errors of each spec; of `opened`, as it is edited."""
        if opened is None or opened.checked is None:
            return self.counts
        errors = sum(problem.level is Level.ERROR for problem in opened.problems)
        return {**self.counts, resolve_path(opened.path): errors}

    async def count(self, specs: Iterable[SpecFile]) -> AsyncIterator[Path]:
        """Count the errors of specs that changed since the last count; yield each path with a new number."""
        paths = [resolve_path(spec.path) for spec in specs]
        for gone in self.counts.keys() - set(paths):
            del self.counts[gone], self._states[gone]
        for path in paths:
            state = file_state(path)
            if path in self.counts and self._states[path] == state:
                continue
            count = await load_in_thread(partial(_errors, path))
            changed = self.counts.get(path, 0) != count
            self.counts[path], self._states[path] = count, state
            if changed:
                yield path


def _errors(path: Path) -> int:
    from speclab.mapping import lint

    try:
        problems = lint(Document.load(path))
    except SpeclabError:  # it was deleted or cannot be read: opening it shows the error
        return 0
    return sum(problem.level is Level.ERROR for problem in problems)
