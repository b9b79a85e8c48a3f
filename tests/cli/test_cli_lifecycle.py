"""`decompose`, `approve` and the conditions of each status, in one process."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.cli.conftest import FILE_SOURCE, SPEC

from speclab.cli.group import speclab
from speclab.core.errors import SpeclabError, StatusRefused
from speclab.spec.approval import hash_text, is_changed, read_approval
from speclab.spec.document import Document
from speclab.spec.task_list import read_tasks

Command = Callable[..., Result]
CRITERIA = (
    "\n## Acceptance Criteria\n\n- [ ] Nothing fails `dead_letters() == 0`\n- [ ] Ann agrees\n\n## Tasks Created\n"
)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs a command on the spec `people`, a draft with a criterion that runs and one for people."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "specs").mkdir()
    text = SPEC.format(source=FILE_SOURCE, step="Trim", auth="type: none").replace("in-progress", "draft", 1)
    (tmp_path / "specs/people.md").write_text(text + CRITERIA)
    (tmp_path / "in.jsonl").write_text('{"id": 1, "name": "Ada"}\n{"id": 2, "name": "Grace"}\n')

    def run(*args: str) -> Result:
        return CliRunner().invoke(speclab, args)

    return run


def people() -> Document:
    return Document.load(Path("specs/people.md"))


def refusal(result: Result) -> str:
    assert isinstance(result.exception, StatusRefused)
    return result.exception.message


def test_decompose_prints_a_preview_and_writes_only_when_asked(command: Command) -> None:
    before = people().text
    shown = command("decompose", "people")
    assert "- [ ] people-001 Have the spec approved (S)" in shown.stdout
    assert people().text == before
    assert command("decompose", "people", "--write").exit_code == 0
    once = people().to_bytes()
    assert shown.stdout.strip() in once.decode()
    assert command("decompose", "people", "--write").exit_code == 0
    assert people().to_bytes() == once


def test_decompose_ticks_what_holds_after_a_run(command: Command) -> None:
    command("decompose", "people", "--write")
    assert command("run", "people").exit_code == 0
    shown = command("decompose", "people", "--write")
    assert "3 ticked" in shown.stderr
    done = [task.title for task in read_tasks(people()) if task.done]
    assert done == ["Pass a dry run", "Run the first sync", "Meet the criterion: Nothing fails"]


def test_decompose_formats_have_the_same_tasks(command: Command) -> None:
    rows = [json.loads(line) for line in command("decompose", "people", "--json").stdout.splitlines()]
    table = list(csv.DictReader(io.StringIO(command("decompose", "people", "--format", "csv").stdout)))
    issues = [json.loads(line) for line in command("decompose", "people", "--format", "github").stdout.splitlines()]
    assert [row["title"] for row in rows] == [row["title"] for row in table]
    assert [f"{row['id']} {row['title']}" for row in rows if not row["done"]] == [issue["title"] for issue in issues]
    assert all(issue.keys() == {"title", "body", "labels"} for issue in issues)
    assert all(len(label) <= 50 for issue in issues for label in issue["labels"])


def test_spreadsheet_evaluates_no_title(command: Command) -> None:
    command("set", "people", "Tasks Created", "* =HYPERLINK(1)")
    assert ",'=HYPERLINK(1)," in command("decompose", "people", "--format", "csv").stdout


def test_approved_needs_a_spec_without_problems(command: Command) -> None:
    command("set", "people", "Field Mapping", "none")
    result = command("set", "people", "status", "approved")
    assert refusal(result).startswith("people cannot become approved yet:\n  1 problem to resolve:\n    line ")
    assert isinstance(command("approve", "people").exception, StatusRefused)
    assert read_approval(people()) is None
    assert command("set", "people", "status", "approved", "--force").exit_code == 0
    assert people().front_matter.get("status") == "approved"


def test_files_of_other_types_have_any_status_and_no_derived_tasks(command: Command) -> None:
    Path("specs/people.md").write_text(people().text.replace("type: integration", "type: dev"))
    assert command("set", "people", "status", "completed").exit_code == 0
    assert command("approve", "people").exit_code == 0
    assert command("decompose", "people", "--write").exception is not None
    assert read_tasks(people()) == ()


def test_in_progress_needs_a_run_or_a_dry_run(command: Command) -> None:
    result = command("set", "people", "status", "in-progress")
    assert "no run or dry run has succeeded: speclab run people --dry-run" in refusal(result)
    assert command("run", "people", "--dry-run").exit_code == 0
    assert not Path("out.jsonl").exists()
    assert command("set", "people", "status", "in-progress").exit_code == 0


def test_in_progress_needs_no_run_of_an_integration_that_another_tool_runs(command: Command) -> None:
    command("set", "people", "Integration Overview > Source System", "```yaml\nconnector: external\nkey: id\n```")
    assert command("set", "people", "status", "in-progress").exit_code == 0


def test_completed_needs_every_criterion(command: Command) -> None:
    command("run", "people")
    result = command("set", "people", "status", "completed")
    assert refusal(result).splitlines()[1:] == ["  1 of 2 acceptance criteria not met:", "    Ann agrees"]
    text = people().text.replace("- [ ] Ann", "- [x] Ann")
    Path("specs/people.md").write_text(text)
    assert command("set", "people", "status", "completed").exit_code == 0
    assert command("set", "people", "status", "draft").exit_code == 0  # a step back needs nothing


def test_approval_adds_its_keys_and_keeps_every_other_byte(command: Command) -> None:
    before = people()
    assert command("approve", "people", "--by", "Ann: #1").exit_code == 0
    after = people()
    approval = read_approval(after)
    assert approval is not None
    assert (approval.by, approval.text_hash) == ("Ann: #1", hash_text(before))
    head, _, rest = after.text.partition("approved_by")
    assert head == before.text[: before.front_matter.inner.end].replace("draft", "approved")
    assert rest.endswith(before.text[before.front_matter.inner.end :])


def test_approval_holds_for_ticks_and_tasks_and_ends_with_the_text(command: Command) -> None:
    command("approve", "people")
    command("decompose", "people", "--write")
    command("run", "people")
    command("verify", "people", "--write")
    ticked = people().text
    assert "- [x] Nothing fails `dead_letters() == 0` (run " in ticked
    for same in (
        ticked,
        ticked.replace("\n", "\r\n"),
        ticked.replace("status: approved", "status: draft"),
    ):
        assert not is_changed(Document.parse(same))
    for other in (
        ("Ann agrees", "Bob agrees"),
        ("Trim", "Uppercase"),
        ("Hourly", "On-demand"),
        ("# Spec: People", "# Spec: All"),
    ):
        assert is_changed(Document.parse(people().text.replace(*other)))
    command("set", "people", "Data Flow > Frequency", "On-demand")
    shown = command("lint", "people")
    assert shown.exit_code == 0
    assert "F108 the spec changed after its approval by " in shown.stdout
    command("approve", "people")
    assert "F108" not in command("lint", "people").stdout


def test_approval_by_another_tool_is_kept_and_not_compared(command: Command) -> None:
    text = people().text.replace(
        "status: draft", "status: approved\napproved_by: Ann\napproved_at: 2026-01-02T03:04:05Z"
    )
    document = Document.parse(text)
    assert not is_changed(document)
    approval = read_approval(document)
    assert approval is not None
    assert approval.at == "2026-01-02T03:04:05Z"
    assert not isinstance(command("lint", "people").exception, SpeclabError)
