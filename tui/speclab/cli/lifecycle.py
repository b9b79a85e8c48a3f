"""Commands on the life of a spec: `decompose` into tasks, and `approve`."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from speclab.cli.output import json_option, open_reader, print_json, print_message, runlog_option, spec_argument

if TYPE_CHECKING:
    from speclab.core.json import Json
    from speclab.spec.document import Document
    from speclab.spec.task_list import Task

_LABEL: Final = 50  # characters, the limit of GitHub
_COLUMNS: Final = ("id", "title", "effort", "phase", "blocked by", "done", "obsolete")


@click.command(short_help="Derive tasks from a spec.")
@spec_argument
@click.option("--write", is_flag=True, help="Write the tasks to the spec, and tick what holds.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["markdown", "json", "github", "csv"]),
    default="markdown",
    show_default=True,
    help="The section as Markdown, one JSON object per task, open tasks as GitHub issues, or a table.",
)
@runlog_option
@json_option
def decompose(spec: Path, write: bool, form: str, runlog: Path | None, as_json: bool) -> None:  # noqa: FBT001 - click passes flags by name
    """Derive the tasks that SPEC needs, and print its section Tasks Created with them.

    A task exists for credentials, open problems, the mapping, dependencies and risks, approval, the first runs, each
    acceptance criterion, and later phases. With --write, tasks that hold are ticked (the credentials resolve, a run
    succeeded, a criterion passes) and tasks that the spec no longer needs are marked as obsolete. Everything else in
    the section stays as it is: a second run changes nothing.

    \b
    speclab decompose crm --write
    speclab decompose crm --format github | while read -r task; do
      gh api repos/{owner}/{repo}/issues --input - <<< "$task"; done
    """  # noqa: D301 - click's mark for a paragraph that keeps its lines
    from speclab.core.clock import SystemClock
    from speclab.spec.document import TASKS, Document
    from speclab.spec.store import save
    from speclab.spec.tasks import decompose as decompose_spec
    from speclab.workbench.lifecycle import read_progress, with_credentials

    document = Document.load(spec)
    with open_reader(runlog) as reader:
        progress = read_progress(document, spec, reader, SystemClock().now())
    result = decompose_spec(document, with_credentials(progress, document, spec))
    if as_json or form == "json":
        for task in result.tasks:
            print_json(_to_json(task))
    elif form == "github":
        for task in result.tasks:
            if not task.done and not task.obsolete:
                print_json(_to_issue(task))
    elif form == "csv":
        _print_csv(result.tasks)
    elif not write:
        click.echo(_get_text(result.document, TASKS))
    if write and result.document.text != document.text:
        save(result.document, document)
    print_message(result.summary if write else f"{result.summary}. --write changes the spec.")
    for note in result.notes:
        print_message(f"{spec}: {note}")


def _get_text(document: Document, address: str) -> str:
    """Return the section and its subsections, without its heading."""
    section = document.outline.at(address)[0]
    at = document.sections.index(section)
    last = section
    for other in document.sections[at + 1 :]:
        if other.level <= section.level:
            break
        last = other
    return document.text[section.own.start : last.own.end].strip("\r\n")


def _to_json(task: Task) -> dict[str, Json]:
    return {
        "id": task.id,
        "title": task.title,
        "effort": task.effort,
        "phase": task.phase,
        "blocked_by": [*task.blocked_by],
        "done": task.done,
        "obsolete": task.obsolete,
        "line": task.line,
        "body": task.body,
    }


def _to_issue(task: Task) -> dict[str, Json]:
    """Return the task as a body for `POST /repos/OWNER/REPO/issues`."""
    parts = [task.body, f"Blocked by: {', '.join(task.blocked_by)}" if task.blocked_by else ""]
    labels: list[Json] = [f"effort: {task.effort}"] if task.effort else []
    labels += [f"phase: {task.phase}"[:_LABEL].strip()] if task.phase else []
    return {
        "title": f"{task.id} {task.title}".strip(),
        "body": "\n\n".join(filter(None, parts)),
        "labels": labels,
    }


def _print_csv(tasks: Sequence[Task]) -> None:
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(_COLUMNS)
    for task in tasks:
        row = (task.id, task.title, task.effort or "", task.phase, " ".join(task.blocked_by))
        out.writerow((*map(_escape_formula, row), _format_box(done=task.done), "yes" if task.obsolete else ""))


def _format_box(*, done: bool | None) -> str:
    return {None: "", False: "no", True: "yes"}[done]


def _escape_formula(text: str) -> str:
    """Return `text`, which a spreadsheet must not evaluate."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t") else text


@click.command(short_help="Approve a spec.")
@spec_argument
@click.option("--by", help="Name of the person who approves.", show_default="your login name")
@click.option("--force", is_flag=True, help="Approve a spec that has problems.")
def approve(spec: Path, by: str | None, force: bool) -> None:  # noqa: FBT001 - click passes flags by name
    """Record in the front matter of SPEC who approved it, when, and the hash of the text.

    A draft gets the status `approved`. From then on `speclab lint` warns if the text changes; tasks, ticks and other
    keys of the front matter may change.

    Exits 1 if the spec has problems.
    """
    from speclab.core.clock import SystemClock
    from speclab.core.errors import StatusRefused
    from speclab.core.locks import get_user_name
    from speclab.core.text import format_count
    from speclab.spec.approval import read_approval
    from speclab.spec.document import Document
    from speclab.spec.store import save
    from speclab.workbench.lifecycle import find_open_problems, with_approval

    document = Document.load(spec)
    problems = find_open_problems(document)
    if problems and not force:
        for problem in problems:
            print_message(str(problem))
        raise StatusRefused(
            f"{spec} cannot be approved: {format_count(len(problems), 'problem')}",
            hint="Nothing was changed. --force approves it anyway.",
        )
    after = with_approval(document, (by or get_user_name()).strip(), SystemClock().now())
    save(after, document)
    approval = read_approval(after)
    if approval is not None:
        print_message(f"{spec} approved by {approval.by} at {approval.at}")
