"""Tasks derived from a spec, and merged into its section Tasks Created."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from speclab.core.errors import EditRejected, UsageError
from speclab.core.text import format_count
from speclab.spec.document import (
    API_DEPENDENCIES,
    CRITERIA,
    DATA_DEPENDENCIES,
    FREQUENCY,
    PHASES,
    RISKS,
    TASKS,
    Document,
)
from speclab.spec.front_matter import Splice
from speclab.spec.guide import is_template_text
from speclab.spec.integration import Role, find_first_line
from speclab.spec.outline import BlockKind, LineSpan, Section, comparable
from speclab.spec.problems import Problem
from speclab.spec.rules import Criterion, read_criteria
from speclab.spec.task_list import (
    BLOCKERS,
    ITEM,
    OBSOLETE,
    REOPENED,
    STEMS,
    Effort,
    Task,
    TaskKind,
    TaskLine,
    TaskNeed,
    apply_splices,
    find_cycles,
    find_task_sections,
    insert_tasks,
    read_task_lines,
    read_tasks,
    recognize,
)

FEWEST: Final = 5
MOST: Final = 15
"""Bounds of the number of tasks derived from a spec that has none yet."""
_SIMILAR: Final = 90.0  # of 100
_FRONT_MATTER: Final = "the front matter"


@dataclass(frozen=True, slots=True)
class SpecProgress:
    """What holds of a spec now: the conditions that tick tasks.

    `problems` are all open ones, missing content included. `credentials` is True for a system whose references all
    resolve; a system without references is missing. `references` are those references. `passing` are the texts of the
    criteria that hold. `is_external` is True if another tool runs the integration.
    """

    problems: Sequence[Problem] = ()
    rows: int = 0
    is_external: bool = False
    credentials: Mapping[Role, bool] = field(default_factory=dict)
    references: Mapping[Role, Sequence[str]] = field(default_factory=dict)
    has_dry_run: bool = False
    has_run: bool = False
    has_alerts: bool = False
    is_approved: bool = False
    is_scheduled: bool = False
    passing: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Decomposition:
    """The document with its tasks brought up to date, and what changed; `notes` are conflicts for a person to solve."""

    document: Document
    tasks: tuple[Task, ...]
    added: tuple[Task, ...]
    ticked: tuple[Task, ...]
    obsolete: tuple[Task, ...]
    notes: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """The changes in one line."""
        counts = f"{len(self.added)} added, {len(self.ticked)} ticked, {len(self.obsolete)} marked as obsolete"
        return f"{format_count(len(self.tasks), 'task')}: {counts}"


def decompose(document: Document, progress: SpecProgress) -> Decomposition:
    """Bring the section Tasks Created up to date.

    Existing lines keep their bytes, except a tick, and the mark `(obsolete)`. Raises `UsageError` for another
    type and without the section, and `EditRejected` if the text there would swallow the new lines.
    """
    if document.front_matter.get("type", "integration") != "integration":
        raise UsageError("tasks are derived from specs with `type: integration` only")
    if not find_task_sections(document):
        raise UsageError(f"the section {TASKS!r} is missing", hint=f"Add the heading: ## {TASKS}")
    lines = read_task_lines(document)
    needs = _collect_needs(document, progress, [line.task for line in lines])
    matched = _match(needs, lines)
    ticks = [line for need, line in matched.items() if need.done and line.task.done is False and not line.task.obsolete]
    covered = {line.span.start for line in matched.values()}
    stale = [
        line
        for line in lines
        if line.span.start not in covered and line.task.done is not True and not line.task.obsolete
        and recognize(line.task.title) is not None
    ]  # fmt: skip
    solved = [line for line in stale if _is_solved(line.task, document)]
    obsolete = [line for line in stale if line not in solved]
    ticks += [line for line in solved if line.box is not None]
    new = _number(_select_new(needs, matched, len(lines)), needs, matched, lines, document)
    edits: list[tuple[Section, Splice]] = []
    for line in ticks:
        assert line.box is not None  # noqa: S101 - `done` is False only with a box
        edits.append((line.section, Splice(line.box, "[x]")))
    for line in obsolete:
        text = line.span.of(document.text).rstrip(" \t")
        end = line.span.start + len(text)
        edits.append((line.section, Splice(LineSpan(end, end), f" {OBSOLETE}")))
    after = insert_tasks(apply_splices(document, edits), new)
    tasks = read_tasks(after)
    _verify(lines, tasks, new)
    bodies = {need.title: need.body for need in needs} | {line.task.title: need.body for need, line in matched.items()}
    return Decomposition(
        after,
        tuple(replace(task, body=bodies.get(task.title, "")) for task in tasks),
        tuple(task for task in tasks if task.id in {one.id for one in new}),
        tuple(line.task for line in ticks),
        tuple(line.task for line in obsolete),
        tuple(find_cycles(tasks)),
    )


def _verify(before: Sequence[TaskLine], after: Sequence[Task], new: Sequence[Task]) -> None:
    """Verify that exactly the new tasks were added."""
    kept = [task.title for task in after if task.id not in {one.id for one in new} or not task.id]
    added = sorted((task.id, task.title, task.effort or "", task.blocked_by, task.done) for task in after
                   if task.id in {one.id for one in new})  # fmt: skip
    wanted = sorted((task.id, task.title, task.effort or "", task.blocked_by, task.done) for task in new)
    if kept != [line.task.title for line in before] or added != wanted:
        raise EditRejected(
            f"the text of {TASKS} would swallow or change the new tasks",
            hint="close an open fence, comment or HTML block there",
        )


# --- what the spec asks for


def _collect_needs(document: Document, progress: SpecProgress, tasks: Sequence[Task]) -> list[TaskNeed]:
    """Return what tasks must exist for, in the order to work on it; at most `MOST` for a document without tasks."""
    contents = _read_phases(document)
    phases = list(contents)
    first, second = phases[0], phases[min(1, len(phases) - 1)]
    needs: list[TaskNeed] = []

    def add(
        kind: TaskKind, effort: Effort, phase: str, *, done: bool, about: str = "", details: Sequence[str] = ()
    ) -> None:
        needs.append(TaskNeed(kind, effort, phase, done, about, tuple(details)))

    for role, resolved in progress.credentials.items():
        kind = TaskKind.SOURCE if role == "source" else TaskKind.TARGET
        names = [f"`${{{name}}}`" for name in progress.references.get(role, ())]
        add(kind, Effort.S, first, done=resolved, details=names)
    for address, kind in ((API_DEPENDENCIES, TaskKind.API), (DATA_DEPENDENCIES, TaskKind.DATA), (RISKS, TaskKind.RISK)):
        if items := _find_items(document, address):
            effort = Effort.S if len(items) == 1 else Effort.M
            add(kind, effort, first, done=False, about=items[0], details=items)
    wrong, in_mapping = _group_problems(document, progress.problems)
    complete = progress.rows > 0 and not in_mapping
    if progress.rows or in_mapping or not progress.is_external:
        add(TaskKind.MAPPING, _estimate(progress.rows, 5, 15, 40), first, done=complete, details=in_mapping)
    add(TaskKind.APPROVAL, Effort.S, first, done=progress.is_approved)
    if not progress.is_external:
        add(TaskKind.DRY_RUN, Effort.S, first, done=progress.has_dry_run or progress.has_run)
    add(TaskKind.RUN, Effort.M, first, done=progress.has_run)
    schedule = _find_items(document, FREQUENCY)
    add(TaskKind.SCHEDULE, Effort.S, second, done=progress.is_scheduled, about=schedule[0] if schedule else "")
    add(TaskKind.ALERTS, Effort.M, second, done=progress.has_alerts)
    for phase in phases[1:]:
        items = contents[phase]
        if items and sum(need.kind is TaskKind.PHASE for need in needs) < 2:
            about = re.sub(r"(?i)\Aphase\s+", "", phase)
            add(TaskKind.PHASE, _estimate(len(items), 0, 1, 5), phase, done=False, about=about, details=items)
    criteria = _read_criteria(document)
    room = MOST - sum(not need.done for need in needs) - min(len(wrong), 1)
    needs += _collect_criteria(criteria, progress, tasks, first, room)
    needs[:0] = _collect_problems(wrong, tasks, first, MOST - sum(not need.done for need in needs))
    order = [first, second, *phases]
    kinds = list(TaskKind)
    return sorted(needs, key=lambda need: (order.index(need.phase), kinds.index(need.kind)))


def _collect_criteria(
    criteria: Sequence[Criterion], progress: SpecProgress, tasks: Sequence[Task], phase: str, room: int
) -> Iterator[TaskNeed]:
    """Yield a need for each criterion that has a task or, if there is room, for each; one for all others."""

    def is_met(criterion: Criterion) -> bool:
        return criterion.ticked or name_criterion(criterion) in progress.passing

    unique = list({name_criterion(one): one for one in criteria}.values())
    known = {comparable(task.title) for task in tasks}
    open_group = any(
        task.done is not True and comparable(task.title) == comparable(STEMS[TaskKind.CRITERIA]) for task in tasks
    )
    remaining = []
    for criterion in unique:
        need = TaskNeed(
            TaskKind.CRITERION,
            Effort.S,
            phase,
            is_met(criterion),
            name_criterion(criterion),
            (name_criterion(criterion),),
        )
        if comparable(need.title) in known or (not open_group and len(unique) <= max(room, 1)):
            yield need
        else:
            remaining.append(criterion)
    if remaining:
        names = tuple(map(name_criterion, remaining))
        effort = _estimate(len(remaining), 3, 8, 20)
        yield TaskNeed(TaskKind.CRITERIA, effort, phase, all(map(is_met, remaining)), "", names)


def _collect_problems(
    wrong: Mapping[str, Sequence[str]], tasks: Sequence[Task], phase: str, room: int
) -> Iterator[TaskNeed]:
    """Yield a need for each section with problems, or a single one if there are too many."""
    of_all = TaskNeed(TaskKind.PROBLEMS, Effort.S, phase, done=False, about="the spec")
    open_ = {comparable(task.title) for task in tasks if task.done is not True}
    if wrong and (comparable(of_all.title) in open_ or len(wrong) > max(room, 1)):
        details = tuple(f"{name}: {line}" for name, found in wrong.items() for line in found)
        yield replace(of_all, effort=_estimate(len(details), 3, 10, 30), details=details)
        wrong = {name: found for name, found in wrong.items() if comparable(_problems_in(name)) in open_}
    for name, found in wrong.items():
        effort = _estimate(len(found), 3, 10, 30)
        yield TaskNeed(TaskKind.PROBLEMS, effort, phase, done=False, about=name, details=tuple(found))


def _problems_in(name: str) -> str:
    return f"{STEMS[TaskKind.PROBLEMS]} {name}"


def _estimate(count: int, small: int, medium: int, large: int) -> Effort:
    if count <= small:
        return Effort.S
    return Effort.M if count <= medium else Effort.L if count <= large else Effort.XL


def _read_phases(document: Document) -> dict[str, list[str]]:
    """Return the titles of the phases with what they contain; by default those of the template."""
    above = next(iter(document.outline.at(PHASES)), None)
    found = [one for one in document.sections if above and one.path[:-1] == above.path]
    phases = {section.title: _read_items(document, section) for section in found}
    return phases or {"Phase 1: MVP": [], "Phase 2: Enhancement": [], "Future": []}


def _find_items(document: Document, address: str) -> list[str]:
    section = next(iter(document.outline.at(address)), None)
    return _read_items(document, section) if section else []


def _read_items(document: Document, section: Section) -> list[str]:
    """Return the list items of a section, or the first sentence of each paragraph, in one line each."""
    if section.empty or is_template_text(document, section):
        return []
    items = []
    for block in section.blocks:
        text = block.span.of(document.text)
        if block.kind is BlockKind.LIST:
            items += [ITEM.sub("", line, count=1) for line in re.split(r"\r\n|\n|\r", text) if ITEM.match(line)]
        elif block.kind is BlockKind.PARAGRAPH:
            line = find_first_line(text)
            rest = text[line.start :] if line else text
            items.append(re.split(r"(?<=[.!?;])\s", rest, maxsplit=1)[0])
    return [" ".join(item.split()).rstrip(".;") for item in items if item.strip()]


def _read_criteria(document: Document) -> tuple[Criterion, ...]:
    section = next(iter(document.outline.at(CRITERIA)), None)
    return read_criteria(document, section) if section and not is_template_text(document, section) else ()


def name_criterion(criterion: Criterion) -> str:
    """Return the text of a criterion, or its expression if it has no text."""
    return criterion.text or (f"`{criterion.expression.text}`" if criterion.expression else "")


def _group_problems(document: Document, problems: Iterable[Problem]) -> tuple[dict[str, list[str]], list[str]]:
    """Return the problems by the title of their section, and those of the Field Mapping apart."""
    starts = [section.line for section in document.sections]
    found: defaultdict[str, list[str]] = defaultdict(list)
    for problem in problems:
        at = bisect_right(starts, problem.line)
        name = document.sections[at - 1].title if at else _FRONT_MATTER
        found[name].append(f"{problem.code} on line {problem.line}: {problem.message}")
    in_mapping = found.pop(next((name for name in found if comparable(name) == "field mapping"), ""), [])
    return dict(found), in_mapping


# --- existing lines


def _match(needs: Sequence[TaskNeed], lines: Sequence[TaskLine]) -> dict[TaskNeed, TaskLine]:
    """Assign a line to each need: by its title, otherwise a line with an id and a similar title."""
    matched: dict[TaskNeed, TaskLine] = {}
    free = sorted(lines, key=lambda one: (one.task.obsolete, one.task.done is True))
    for need in needs:
        found = next((line for line in free if _stands_for(line.task, need)), None)
        if found is not None:
            matched[need] = found
            free.remove(found)
    free = [line for line in free if line.task.id and recognize(line.task.title) is None]
    for need in needs:
        if need not in matched and (found := _find_similar(need, free)) is not None:
            matched[need] = found
            free.remove(found)
    return matched


def _stands_for(task: Task, need: TaskNeed) -> bool:
    """Whether `task` is the task for `need`; a closed task is not, if the need is open again."""
    found = recognize(task.title)
    closed = task.obsolete or (task.done is True and not need.done and need.kind is not TaskKind.CRITERION)
    if found is None or found[0] is not need.kind or (closed and need.kind in REOPENED):
        return False
    if need.kind in (TaskKind.CRITERION, TaskKind.PROBLEMS):
        return comparable(task.title) == comparable(need.title)
    if need.kind is TaskKind.PHASE:
        return found[1] == comparable(need.about) or found[1].startswith(f"{comparable(need.about)}:")
    return True


def _find_similar(need: TaskNeed, lines: Sequence[TaskLine]) -> TaskLine | None:
    """Return the line whose title was rewritten by hand but still contains the words of the derived one."""
    from rapidfuzz import fuzz

    stem = comparable(need.title if need.kind in (TaskKind.CRITERION, TaskKind.PROBLEMS) else STEMS[need.kind])
    scores = [fuzz.token_set_ratio(stem, comparable(line.task.title)) for line in lines]
    best = max(scores, default=0.0)
    return lines[scores.index(best)] if best >= _SIMILAR else None


def _is_solved(task: Task, document: Document) -> bool:
    """Whether a line that no need is left for asks for problems to be resolved, in a section that still exists."""
    found = recognize(task.title)
    if found is None or found[0] is not TaskKind.PROBLEMS:
        return False
    names = {"the spec", comparable(_FRONT_MATTER), *(comparable(section.title) for section in document.sections)}
    return found[1] in names


# --- new lines


def _select_new(needs: Sequence[TaskNeed], matched: Mapping[TaskNeed, TaskLine], existing: int) -> list[TaskNeed]:
    """Return the needs that get a task: the open ones, and met ones as far as there would be too few tasks."""
    free = [need for need in needs if need not in matched]
    few = max(FEWEST - existing - sum(not need.done for need in free), 0)
    met = [need for need in free if need.done][:few]
    return [need for need in free if not need.done or need in met]


def _number(
    new: Sequence[TaskNeed],
    needs: Sequence[TaskNeed],
    matched: Mapping[TaskNeed, TaskLine],
    lines: Sequence[TaskLine],
    document: Document,
) -> list[Task]:
    """Return tasks for `new`, with the next free ids, blocked by what must be done before them."""
    prefix = document.front_matter.get_text("spec_id", document.text) or (document.path.stem if document.path else "")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", prefix):
        prefix = "task"
    known = " ".join(name for line in lines for name in (line.task.id, *line.task.blocked_by))
    number = max(map(int, re.findall(rf"(?<![\w.-]){re.escape(prefix)}-(\d{{1,9}})(?![\w.-])", known)), default=0)
    ids = {need: f"{prefix}-{number + at:03}" for at, need in enumerate(new, 1)}
    open_lines = {need: line.task.id for need, line in matched.items() if not (line.task.done or line.task.obsolete)}
    names = {need: name for need in needs if not need.done and (name := (open_lines | ids).get(need))}

    def find_blockers(need: TaskNeed) -> Iterator[str]:
        for other, name in names.items():
            earlier = need.kind is other.kind is TaskKind.PHASE and needs.index(other) < needs.index(need)
            if not need.done and (earlier or other.kind in BLOCKERS.get(need.kind, ())):
                yield name

    return [
        Task(
            need.title, ids[need], need.effort, tuple(find_blockers(need)), need.done, phase=need.phase, body=need.body
        )
        for need in new
    ]
