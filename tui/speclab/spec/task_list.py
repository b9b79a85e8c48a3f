"""The lines of the section Tasks Created: read, and new ones inserted, without changing other bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from typing import Final

from speclab.core.errors import EditRejected
from speclab.spec.document import TASKS, Document
from speclab.spec.front_matter import Splice
from speclab.spec.outline import BlockKind, LineSpan, Section, comparable


class Effort(StrEnum):
    """The size of a task: hours, a day, a week, more."""

    S = "S"
    M = "M"
    L = "L"
    XL = "XL"


@dataclass(frozen=True, slots=True)
class Task:
    """One task line.

    `id` is the id in the line, of any tool, "" without one. `done` is None for a line without a check box. `phase` is
    the title of its group. `line` counts from 1; 0 for a task that is not in the document yet.
    """

    title: str
    id: str = ""
    effort: Effort | None = None
    blocked_by: tuple[str, ...] = ()
    done: bool | None = None
    obsolete: bool = False
    phase: str = ""
    line: int = 0
    body: str = ""

    def __str__(self) -> str:
        """Return the task as the text of a list item."""
        box = {None: "", False: "[ ] ", True: "[x] "}[self.done]
        name = f"{self.id} " if self.id else ""
        more = [self.effort or "", f"blocked by {', '.join(self.blocked_by)}" if self.blocked_by else ""]
        size = f" ({', '.join(filter(None, more))})" if any(more) else ""
        return f"{box}{name}{self.title}{size}{' (obsolete)' if self.obsolete else ''}"


_LONGEST: Final = 100  # characters of a title
ITEM: Final = re.compile(
    r"(?P<indent>[ \t]*)(?P<marker>[-*+]|\d{1,9}[.)])[ \t]+"
    r"(?:(?P<box>\[[ xX]\])[ \t]+)?(?:`(?P<hex>[0-9a-f]{8})`:?[ \t]+)?(?:(?P<id>[A-Za-z0-9][\w.-]*-\d+):?[ \t]+)?"
)
_SIZE: Final = re.compile(r"\((?P<effort>S|M|L|XL)?(?:(?:^|,[ \t]*|(?<=\())blocked by[ \t]+(?P<blockers>[^()]+))?\)")
OBSOLETE: Final = "(obsolete)"
_FENCE: Final = re.compile(r"[ \t]*(?:[-*+][ \t]+)?(`{3,}|~{3,})")
_GROUP: Final = re.compile(r"[ \t]*(?:(?P<bold>\*\*|__)(?P<title>[^*_].*?):?(?P=bold):?|(?P<plain>[^*_`].*):)[ \t]*")


@dataclass(frozen=True, slots=True)
class TaskLine:
    """A task with the section and the spans of its line: the check box, and the whole line without its line end."""

    task: Task
    section: Section
    span: LineSpan
    box: LineSpan | None
    indent: str
    marker: str
    item_end: int  # offset after the last line of its list item


class TaskKind(StrEnum):
    """What a derived task asks for; `CRITERION` and `PROBLEMS` exist once per criterion and per section."""

    PROBLEMS = "problems"
    SOURCE = "source"
    TARGET = "target"
    API = "api"
    DATA = "data"
    RISK = "risk"
    MAPPING = "mapping"
    APPROVAL = "approval"
    DRY_RUN = "dry run"
    RUN = "run"
    CRITERION = "criterion"
    CRITERIA = "criteria"
    SCHEDULE = "schedule"
    ALERTS = "alerts"
    PHASE = "phase"


STEMS: Final = {
    TaskKind.PROBLEMS: "Resolve the open problems in",
    TaskKind.SOURCE: "Get credentials for the source",
    TaskKind.TARGET: "Get credentials for the target",
    TaskKind.API: "Confirm the API dependencies",
    TaskKind.DATA: "Confirm the data dependencies",
    TaskKind.RISK: "Reduce the technical risks",
    TaskKind.MAPPING: "Complete the Field Mapping",
    TaskKind.APPROVAL: "Have the spec approved",
    TaskKind.DRY_RUN: "Pass a dry run",
    TaskKind.RUN: "Run the first sync",
    TaskKind.CRITERION: "Meet the criterion",
    TaskKind.CRITERIA: "Meet the remaining acceptance criteria",
    TaskKind.SCHEDULE: "Start the schedule",
    TaskKind.ALERTS: "Set up alerts",
    TaskKind.PHASE: "Deliver phase",
}
"""The start of each title. A title equals its stem, or continues with `: ` and details that may change."""

REOPENED: Final = frozenset({TaskKind.PROBLEMS, TaskKind.CRITERION, TaskKind.CRITERIA})
"""What gets a new task if it is open and its task is not."""

BLOCKERS: Final[Mapping[TaskKind, tuple[TaskKind, ...]]] = {
    TaskKind.MAPPING: (TaskKind.DATA,),
    TaskKind.APPROVAL: (TaskKind.PROBLEMS, TaskKind.MAPPING, TaskKind.RISK),
    TaskKind.DRY_RUN: (TaskKind.PROBLEMS, TaskKind.SOURCE, TaskKind.TARGET, TaskKind.API, TaskKind.MAPPING),
    TaskKind.RUN: (TaskKind.APPROVAL, TaskKind.DRY_RUN),
    TaskKind.CRITERION: (TaskKind.RUN,),
    TaskKind.CRITERIA: (TaskKind.RUN,),
    TaskKind.SCHEDULE: (TaskKind.RUN,),
    TaskKind.ALERTS: (TaskKind.RUN,),
    TaskKind.PHASE: (TaskKind.SCHEDULE,),
}


_DONE_WHEN: Final = {
    TaskKind.PROBLEMS: "Done when `speclab lint` reports no problem there.",
    TaskKind.SOURCE: "Done when all references of the source resolve on the machine that runs it.",
    TaskKind.TARGET: "Done when all references of the target resolve on the machine that runs it.",
    TaskKind.API: "Done when the owner of the API has confirmed each of them.",
    TaskKind.DATA: "Done when the owner of the data has confirmed each of them.",
    TaskKind.RISK: "Done when each risk has a response in the spec.",
    TaskKind.MAPPING: "Done when every target field has a row, and no row has a problem.",
    TaskKind.APPROVAL: "Done when `speclab approve` has recorded the approval.",
    TaskKind.DRY_RUN: "Done when `speclab run --dry-run` succeeds.",
    TaskKind.RUN: "Done when a run has read the source to the end.",
    TaskKind.CRITERION: "Done when the criterion is ticked, or its expression holds.",
    TaskKind.CRITERIA: "Done when each criterion is ticked, or its expression holds.",
    TaskKind.SCHEDULE: "Done when the status is `in-progress`, so that `speclab up` runs the spec.",
    TaskKind.ALERTS: "Done when the section Alerts has an alert.",
    TaskKind.PHASE: "Done when everything in this phase runs.",
}


@dataclass(frozen=True, slots=True)
class TaskNeed:
    """Something that a task must exist for; `about` is its section, criterion or phase."""

    kind: TaskKind
    effort: Effort
    phase: str
    done: bool
    about: str = ""
    details: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The title of a new task, at most `_LONGEST` characters."""
        apart = " " if self.kind in (TaskKind.PROBLEMS, TaskKind.PHASE) else ": "
        text = f"{STEMS[self.kind]}{apart}{self.about}" if self.about else STEMS[self.kind]
        if self.kind is TaskKind.PHASE:
            text = f"{text}: {self.details[0]}"
        text = " ".join(text.split())
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1].rstrip()}…"

    @property
    def body(self) -> str:
        """What the task covers and when it is done, as Markdown."""
        listed = "\n".join(f"- {detail}" for detail in self.details)
        return "\n\n".join(filter(None, (listed, _DONE_WHEN[self.kind])))


@lru_cache(maxsize=4096)
def recognize(title: str) -> tuple[TaskKind, str] | None:
    """Return the kind of a derived title, and its section, criterion or phase; None for any other title."""
    key = comparable(title)
    for kind, stem in STEMS.items():
        start = comparable(stem)
        if kind in (TaskKind.PROBLEMS, TaskKind.PHASE):
            if key.startswith(f"{start} "):
                return kind, key.removeprefix(start).strip()
        elif key == start or key.startswith(f"{start}:"):
            return kind, key.removeprefix(start).lstrip(": ")
    return None


def read_tasks(document: Document) -> tuple[Task, ...]:
    """Return the tasks in the section Tasks Created and its subsections, in file order."""
    return tuple(line.task for line in read_task_lines(document))


def find_task_sections(document: Document) -> list[Section]:
    """Return the section Tasks Created and its subsections; none if it is missing."""
    found = document.outline.at(TASKS)
    if not found:
        return []
    at = document.sections.index(found[0])
    sections = [found[0]]
    for section in document.sections[at + 1 :]:
        if section.level <= found[0].level:
            break
        sections.append(section)
    return sections


def read_task_lines(document: Document) -> list[TaskLine]:
    """Return the task lines with their locations, in file order."""
    lines: list[TaskLine] = []
    for section in find_task_sections(document):
        phase = section.title if comparable(section.title) != comparable(TASKS) else ""
        for block in section.blocks:
            if block.kind is BlockKind.LIST:
                lines += _read_list(document, section, block.first, block.end, phase)
            elif block.kind is BlockKind.PARAGRAPH and block.end == block.first + 1:
                match = _GROUP.fullmatch(document.lines.content(block.first))
                phase = (match["title"] or match["plain"]) if match else phase
    return lines


def _read_list(document: Document, section: Section, first: int, end: int, phase: str) -> Iterator[TaskLine]:
    lines, fence = document.lines, ""
    found: list[tuple[int, re.Match[str]]] = []
    top = 0
    for index in range(first, end):
        text = lines.content(index)
        if match := _FENCE.match(text):
            fence = "" if fence and match[1].startswith(fence) else fence or match[1]
        item = None if fence else ITEM.match(text)
        if item is None:
            continue
        width = len(item["indent"].expandtabs(4))
        top = width if not found else top
        if width <= top + 1 or item["id"] or item["hex"]:
            found.append((index, item))
    for (index, item), following in zip(found, [*(index for index, _ in found), end][1:], strict=True):
        last = max(at for at in range(index, following) if at == index or lines.content(at).strip(" \t"))
        start, text = lines.starts[index], lines.content(index)
        box = LineSpan(start + item.start("box"), start + item.end("box")) if item["box"] else None
        task = _parse(text[item.end() :], item, phase, index + 1)
        if task.title or task.id:
            yield TaskLine(
                task, section, lines.span(index, index + 1), box, item["indent"], item["marker"], lines.ends[last]
            )


def _parse(text: str, item: re.Match[str], phase: str, line: int) -> Task:
    text = text.strip(" \t")
    obsolete = text.endswith(OBSOLETE)
    text = text.removesuffix(OBSOLETE).rstrip(" \t")
    size = _SIZE.fullmatch(text, text.rfind("(")) if text.endswith(")") else None
    if size is not None and not (size["effort"] or size["blockers"]):
        size = None
    if size is not None:
        text = text[: size.start()].rstrip(" \t")
    blockers = re.split(r"[,\s]+", (size and size["blockers"]) or "")
    return Task(
        title=" ".join(text.split()),
        id=item["id"] or item["hex"] or "",
        effort=Effort(size["effort"]) if size and size["effort"] else None,
        blocked_by=tuple(blocker.strip("`") for blocker in blockers if blocker.strip("`")),
        done=None if item["box"] is None else item["box"] != "[ ]",
        obsolete=obsolete,
        phase=phase,
        line=line,
    )


def find_cycles(tasks: Sequence[Task]) -> Iterator[str]:
    """Yield a message if tasks block each other, which hand-written lines may say."""
    try:
        TopologicalSorter({task.id: task.blocked_by for task in tasks if task.id}).prepare()
    except CycleError as error:
        yield f"tasks block each other: {' → '.join(reversed(error.args[1]))}"


def apply_splices(document: Document, edits: Sequence[tuple[Section, Splice]]) -> Document:
    """Apply edits of several sections, from the end, so that the spans before them stay valid."""
    for section in reversed(find_task_sections(document)):
        own = [splice for other, splice in edits if other.address == section.address]
        document = document.with_splices(section, own) if own else document
    return document


def insert_tasks(document: Document, tasks: Sequence[Task]) -> Document:
    """Insert `tasks`: each after the last task of its phase, or else in a new group at the end of the section."""
    for phase in dict.fromkeys(task.phase for task in tasks):
        document = _insert_group(document, phase, [task for task in tasks if task.phase == phase])
    return document


def _insert_group(document: Document, phase: str, tasks: Sequence[Task]) -> Document:
    group = [line for line in read_task_lines(document) if comparable(line.task.phase) == comparable(phase)]
    if group:
        last = group[-1]
        bullet = last.marker if last.marker in ("-", "*", "+") else ""
        number = int(last.marker[:-1]) if not bullet else 0
        listed = [
            f"{last.indent}{bullet or f'{number + at}{last.marker[-1]}'} {task}" for at, task in enumerate(tasks, 1)
        ]
        return document.with_splices(last.section, [_insert_after(document, last.item_end, listed)])
    section = next(
        (one for one in find_task_sections(document)[1:] if comparable(one.title) == comparable(phase)), None
    )
    listed = [f"- {task}" for task in tasks]
    if section is None:
        section = find_task_sections(document)[0]
        listed = [f"**{phase}**", "", *listed]
    if section.body.start == section.body.end:
        return document.with_body(section, document.newline.join(listed))
    try:
        return document.with_splices(section, [_insert_after(document, section.body.end, ["", *listed])])
    except EditRejected:  # the next heading would continue the list
        return document.with_splices(section, [_insert_after(document, section.body.end, ["", *listed, ""])])


def _insert_after(document: Document, end: int, added: Sequence[str]) -> Splice:
    """Return the splice that inserts lines after the line that ends at `end` and keeps its own line end."""
    lines, newline = document.lines, document.newline
    following = lines.index(end) + 1
    if following == len(lines):
        return Splice(LineSpan(end, end), "".join(f"{newline}{line}" for line in added))
    at = lines.starts[following]
    text = "".join(f"{line}{newline}" for line in added)
    if document.text[at - 1] == "\r" and text.startswith("\n"):
        text = f"\r{text[1:]}"  # two line ends must not become one
    if text.endswith("\r") and document.text.startswith("\n", at):
        text = f"{text[:-1]}\n"
    return Splice(LineSpan(at, at), text)
