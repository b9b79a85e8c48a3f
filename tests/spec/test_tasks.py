"""Tasks Created: derived from the spec, merged without touching other bytes, and read as other tools write them."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import date
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speclab.core.errors import EditRejected, UsageError
from speclab.core.outcome import Level
from speclab.spec.document import TASKS, Document
from speclab.spec.guide import build_spec
from speclab.spec.outline import split_line_ends
from speclab.spec.parser import read
from speclab.spec.task_list import Effort, Task, read_tasks
from speclab.spec.tasks import FEWEST, MOST, SpecProgress, decompose

DEMO = Path(__file__).parents[2] / "specs" / "crm-contacts-to-billing.md"
DONE = SpecProgress(
    rows=10,
    credentials={"source": True, "target": True},
    has_dry_run=True,
    has_run=True,
    has_alerts=True,
    is_approved=True,
    is_scheduled=True,
)
OPEN = SpecProgress(rows=10, credentials={"source": False, "target": False})


def demo(tasks: str = "") -> Document:
    document = Document.load(DEMO)
    return document.with_body(document.section(TASKS), tasks) if tasks else document


def empty() -> tuple[Document, SpecProgress]:
    document = Document.parse(build_spec("crm", date(2026, 1, 1)), Path("crm.md"))
    return document, SpecProgress(
        problems=read(document, Level.ERROR).problems, credentials={"source": False, "target": False}
    )


def titles(tasks: tuple[Task, ...]) -> list[str]:
    return [task.title for task in tasks]


def body(document: Document) -> str:
    return document.body(document.section(TASKS))


@pytest.mark.parametrize("progress", [OPEN, DONE, SpecProgress()], ids=["open", "done", "nothing known"])
@pytest.mark.parametrize("case", ["demo", "empty"])
def test_spec_without_tasks_gets_5_to_15_without_cycles(case: str, progress: SpecProgress) -> None:
    document, missing = (demo(), ()) if case == "demo" else (empty()[0], empty()[1].problems)
    result = decompose(document, replace(progress, problems=missing))
    assert FEWEST <= len(result.tasks) <= MOST
    assert result.tasks == tuple(
        replace(task, body=one.body) for task, one in zip(read_tasks(result.document), result.tasks, strict=True)
    )
    known = {task.id for task in result.tasks}
    assert all(set(task.blocked_by) <= known for task in result.tasks)
    assert len(list(TopologicalSorter({task.id: task.blocked_by for task in result.tasks}).static_order())) == len(
        known
    )
    assert result.notes == ()


def test_tasks_are_grouped_by_phase_with_effort_and_blockers() -> None:
    result = decompose(demo(), OPEN)
    by_title = {task.title.partition(":")[0]: task for task in result.tasks}
    run, alerts = by_title["Run the first sync"], by_title["Start the schedule"]
    assert (run.id, run.effort, run.phase) == ("crm-contacts-to-billing-008", Effort.M, "Phase 1: MVP")
    assert alerts.phase == "Phase 2: Enhancement"
    assert by_title["Pass a dry run"].id in run.blocked_by
    assert by_title["Confirm the API dependencies"].id in by_title["Pass a dry run"].blocked_by
    assert by_title["Reduce the technical risks"].id in by_title["Have the spec approved"].blocked_by
    assert "**Phase 1: MVP**" in body(result.document)


def test_every_criterion_and_every_problem_is_covered() -> None:
    document, progress = empty()
    many = "\n".join(f"- [ ] Rule {number} of the auditors holds" for number in range(30))
    document = document.with_body(document.section("Acceptance Criteria"), many)
    result = decompose(document, progress)
    assert len(result.tasks) <= MOST
    details = "\n".join(task.body for task in result.tasks)
    assert all(f"Rule {number} of" in details for number in range(30))
    assert all(problem.message in details for problem in progress.problems)


def test_problems_of_many_sections_become_one_task_that_later_ticks_itself() -> None:
    document, progress = empty()
    sections = document.sections[:25]
    problems = [replace(progress.problems[0], line=section.line, message=section.title) for section in sections]
    result = decompose(document, replace(progress, problems=problems))
    (task,) = (task for task in result.tasks if task.title.startswith("Resolve"))
    assert task.title == "Resolve the open problems in the spec"
    fewer = decompose(result.document, replace(progress, problems=problems[:1]))
    assert fewer.document.text == result.document.text
    assert titles(decompose(result.document, replace(progress, problems=())).ticked) == [task.title]


def test_running_it_twice_changes_nothing() -> None:
    for document, progress in ((demo(), OPEN), (demo(), DONE), (demo(), SpecProgress()), empty()):
        once = decompose(document, progress)
        twice = decompose(once.document, progress)
        assert twice.document.to_bytes() == once.document.to_bytes()
        assert (twice.added, twice.ticked, twice.obsolete) == ((), (), ())


def test_what_holds_is_ticked_in_its_own_line() -> None:
    before = decompose(demo(), OPEN).document
    after = decompose(before, replace(DONE, passing=frozenset({"Finance has verified ten customers"}))).document
    old, new = before.text.splitlines(), after.text.splitlines()
    changed = [(a, b) for a, b in zip(old, new, strict=True) if a != b]
    assert all(b == a.replace("[ ]", "[x]", 1) for a, b in changed)
    assert sorted(b.partition(" (")[0].split(" ", 3)[3].partition(":")[0] for _, b in changed) == [
        "Get credentials for the source",
        "Get credentials for the target",
        "Have the spec approved",
        "Meet the criterion",
        "Pass a dry run",
        "Run the first sync",
        "Set up alerts",
        "Start the schedule",
    ]


def test_hand_written_lines_ticks_ids_and_order_stay() -> None:
    first = decompose(demo(), OPEN).document
    lines = split_line_ends(body(first))
    mine = [line for line in lines if "billing-002 " not in line]  # deleted by hand
    mine.insert(4, "  - a note below a task\n")
    mine.insert(5, "- [X] crm-contacts-to-billing-099   Ask Anna  (L, blocked by crm-contacts-to-billing-003)   \n")
    mine.append("\nWritten by hand.\n")
    before = first.with_body(first.section(TASKS), "".join(mine))
    result = decompose(before, OPEN)
    assert [task.id for task in result.added] == ["crm-contacts-to-billing-100"]
    new = [line for line in split_line_ends(body(result.document)) if "billing-100" not in line]
    assert new == split_line_ends(body(before))


def test_title_that_was_rewritten_still_stands_for_its_task() -> None:
    first = decompose(demo(), OPEN).document
    text = body(first).replace("Pass a dry run", "Pass a first dry run with Anna's data")
    before = first.with_body(first.section(TASKS), text)
    assert decompose(before, OPEN).document.text == before.text


def test_what_the_spec_no_longer_asks_for_is_marked_once() -> None:
    first = decompose(demo(), OPEN).document
    section = first.section("Acceptance Criteria")
    before = first.with_body(section, "- [ ] Finance has verified ten customers")
    result = decompose(before, OPEN)
    assert len(result.obsolete) == 2
    assert all(line.endswith(" (obsolete)") for line in body(result.document).splitlines() if "Nearly all" in line)
    assert decompose(result.document, OPEN).document.text == result.document.text
    restored = decompose(result.document.with_body(section, first.body(section)), OPEN)
    assert titles(restored.added) == [
        "Meet the criterion: Nearly all contacts arrive the same day",
        "Meet the criterion: No record waits for a retry overnight",
    ]


def test_task_marked_by_hand_as_obsolete_does_not_come_back() -> None:
    first = decompose(demo(), OPEN).document
    text = body(first).replace("Enhancement: An alert in the team's channel", "Enhancement").splitlines()
    text = [f"{line} (obsolete)" if "Deliver phase 2" in line else line for line in text]
    before = first.with_body(first.section(TASKS), "\n".join(text))
    assert decompose(before, OPEN).document.text == before.text


def test_problem_that_is_open_again_gets_a_new_task() -> None:
    document, progress = empty()
    solved = decompose(decompose(document, progress).document, replace(DONE, credentials={})).document
    again = decompose(solved, replace(DONE, credentials={}, problems=progress.problems[:1]))
    (task,) = again.added
    assert task.title.startswith("Resolve the open problems in")
    assert not task.done


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("- Plain words", Task("Plain words")),
        ("* [ ] crm-001 Map it (M)", Task("Map it", "crm-001", Effort.M, done=False)),
        ("+ [X] `0a1b2c3d` Map it", Task("Map it", "0a1b2c3d", done=True)),
        ("1. `0a1b2c3d` PROJ-17: Map it", Task("Map it", "PROJ-17")),
        ("- [x] a.b-7 (it) (S, blocked by a-6, `0a1b`)", Task("(it)", "a.b-7", Effort.S, ("a-6", "0a1b"), done=True)),
        ("- [ ] x-1 Wait (blocked by x-2)", Task("Wait", "x-1", None, ("x-2",), done=False)),
        ("- [ ] x-1 Old (S) (obsolete)", Task("Old", "x-1", Effort.S, done=False, obsolete=True)),
        ("- [ ] x-1 Sizes (XXL)", Task("Sizes (XXL)", "x-1", done=False)),
        ("- [ ] `not hex` Code", Task("`not hex` Code", done=False)),
    ],
)  # fmt: skip
def test_task_lines_of_other_tools_are_read(line: str, expected: Task) -> None:
    (found,) = read_tasks(demo(f"intro\n\n{line}"))
    assert replace(found, line=0) == expected


def test_line_that_another_tool_renamed_is_ticked_and_blocks_under_its_own_id() -> None:
    before = demo("- [ ] `0a1b2c3d` Run the first sync\n- [ ] `0a1b2c3e` Something else")
    result = decompose(before, OPEN)
    blocked = {task.title.partition(":")[0]: task.blocked_by for task in result.added}
    assert blocked["Start the schedule"] == ("0a1b2c3d",)
    assert "- [x] `0a1b2c3d` Run the first sync" in body(decompose(result.document, DONE).document)
    assert "- [ ] `0a1b2c3e` Something else" in body(decompose(result.document, DONE).document)


def test_new_tasks_join_the_list_of_their_phase() -> None:
    document = demo(
        "### Phase 1: MVP\n\n1. [ ] mine\n   more of it\n\n**Phase 2: Enhancement:**\n\n* [ ] theirs\n\nEnd.".replace(
            "### ", "**"
        ).replace("MVP", "MVP**")
    )
    lines = body(decompose(document, OPEN).document).splitlines()
    at = lines.index("   more of it")
    assert lines[at + 1].startswith("2. [ ] crm-contacts-to-billing-001 ")
    assert lines[lines.index("* [ ] theirs") + 1].startswith("* [ ] crm-contacts-to-billing-")
    assert "End." in lines


def test_tasks_below_headings_of_their_own_are_read_and_continued() -> None:
    text = demo().text.replace(
        "<!-- Auto-populated by /pm-decompose -->",
        "With Anna.\n\n### Phase 1: MVP\n\n- [ ] crm-contacts-to-billing-004 Run the first sync\n\n### Notes\n\nKept.",
    )
    result = decompose(Document.parse(text), OPEN)
    section = result.document.section("Tasks Created > Phase 1: MVP")
    assert "crm-contacts-to-billing-005" in result.document.body(section)
    assert result.document.body(result.document.section("Tasks Created > Notes")) == "Kept."
    assert "**Phase 2: Enhancement**" in body(result.document)


def test_tasks_that_block_each_other_are_reported() -> None:
    result = decompose(demo("- [ ] a-1 One (blocked by a-2)\n- [ ] a-2 Two (blocked by a-1)"), OPEN)
    assert len(result.notes) == 1
    assert "a-1" in result.notes[0]
    assert "a-2" in result.notes[0]


def test_missing_section_and_text_that_swallows_tasks_are_refused() -> None:
    with pytest.raises(UsageError, match="'Tasks Created' is missing"):
        decompose(Document.parse("# T\n\n## Else\n"), OPEN)
    with pytest.raises(EditRejected):
        decompose(Document.parse(demo().text.replace("/pm-decompose -->", "")), OPEN)


# --- any document

LINES = [
    "", "text", "  ", "- [ ] item", "- [x] crm-007 Pass a dry run (S)", "  - [ ] crm-008 nested", "* loose",
    "1. [ ] one", "   continued  ", "- [ ] `0a1b2c3d` Run the first sync (blocked by crm-007)", "- ```", "```", "~~~",
    "> quote", "> - [ ] q", "**Phase 1: MVP**", "__Later__:", "### Phase 2: Enhancement", "<!-- note -->", "<div>",
    "| a |", "\x0b\u2028 and \udcff", "- [ ] crm-009 Have the spec approved (obsolete)",
    "- [ ] Meet the criterion: It works (S)\t", "Setext", "---", "-",
]  # fmt: skip
ends = st.sampled_from(["\n", "\n", "\r\n", "\r"])
bodies = st.lists(st.tuples(st.sampled_from(LINES), ends), max_size=14).map(
    lambda found: "".join(a + b for a, b in found)
)
progresses = st.builds(
    SpecProgress,
    rows=st.integers(0, 3),
    credentials=st.sampled_from([{}, {"source": True}, {"source": False, "target": True}]),
    has_dry_run=st.booleans(),
    has_run=st.booleans(),
    is_approved=st.booleans(),
)


@settings(deadline=None, max_examples=100)
@given(
    bodies,
    bodies,
    progresses,
    st.sampled_from(["", "\ufeff---\r\nspec_id: crm\r\n---\r\n"]),
    st.sampled_from(["", "\n## After\n\ntext  \r"]),
)
def test_only_ticks_marks_and_new_lines_change_in_any_document(
    criteria: str, tasks: str, progress: SpecProgress, front: str, after: str
) -> None:
    document = Document.parse(f"{front}# T\n\n## Acceptance Criteria\n\n{criteria}\n## Tasks Created\n\n{tasks}{after}")
    try:
        result = decompose(document, progress)
    except (EditRejected, UsageError):
        return
    left = split_line_ends(result.document.text)
    for line in split_line_ends(document.text):  # every line is still there, in order, at most with a tick or a mark
        at = next(at for at, other in enumerate(left) if _is_same_line(line, other))
        del left[: at + 1]
    assert decompose(result.document, progress).document.to_bytes() == result.document.to_bytes()
    assert result.document.section(TASKS).title == TASKS
    assert [one.title for one in result.document.sections] == [one.title for one in document.sections]


def _is_same_line(old: str, new: str) -> bool:
    bare = old.rstrip("\r\n")
    text = bare.rstrip(" \t")
    end, rest = old[len(bare) :], bare[len(text) :]
    options = (bare, bare.replace("[ ]", "[x]", 1), f"{text} (obsolete){rest}")
    return new in [f"{option}{end}" for option in options] or (not end and new.rstrip("\r\n") in options)


def test_long_section_is_decomposed_quickly() -> None:
    generator = random.Random(1)
    lines = [f"- [{generator.choice(' x')}] crm-{number:05} Task {generator.random()}" for number in range(3000)]
    result = decompose(demo("\n".join(lines)), OPEN)
    assert len(result.tasks) == 3000 + len(result.added)


def test_an_integration_that_another_tool_runs_needs_no_dry_run_and_no_mapping() -> None:
    result = decompose(demo(), SpecProgress(is_external=True))
    assert not {"Pass a dry run", "Complete the Field Mapping"} & set(titles(result.tasks))
    assert "Run the first sync" in titles(result.tasks)
