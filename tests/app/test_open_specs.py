"""The open spec: history, saving, external changes and recovery, without a screen."""

from collections.abc import Callable
from pathlib import Path

import pytest

from speclab.core.errors import EditRejected
from speclab.spec import store
from speclab.spec.store import SaveConflict, Side
from speclab.workbench.open_specs import OpenOutcome, OpenSpec, Session

TEXT = """---
spec_id: crm
type: integration
status: draft
---

# Spec: CRM

## Problem Statement

Two lists of customers drift apart.

## Data Flow

### Direction

One-way

### Frequency

Hourly

## Field Mapping

| Source Field | Target Field | Transformation | Notes |
|---|---|---|---|
| id | external_id | Direct | |
| email | email | Trim | |
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "crm.md"
    file.write_text(TEXT)
    return file


def _cell(spec: OpenSpec, row: int, text: str, label: str = "a cell") -> None:
    table = spec.document.mapping
    assert table is not None
    spec.edit(spec.document.with_cell(table, row, "Transformation", text), label)


def _type(spec: OpenSpec, address: str, body: str, group: str = "stay 1") -> None:
    spec.write_section(spec.document.section(address), body, group)


# History


def test_undo_and_redo_cover_all_kinds_of_edits(path: Path) -> None:
    spec = OpenSpec(path)
    _cell(spec, 1, "Trim, Lowercase", "the cell")
    _type(spec, "Data Flow > Direction", "Bidirectional")
    spec.edit(spec.document.with_front_matter("status", "approved"), "status")
    last = spec.document.text

    assert [spec.undo(), spec.undo(), spec.undo()] == ["status", "edit of Direction", "the cell"]
    assert spec.document.text == TEXT
    assert not spec.unsaved
    assert [spec.redo(), spec.redo(), spec.redo()] == ["the cell", "edit of Direction", "status"]
    assert spec.document.text == last


def test_uninterrupted_typing_is_one_step(path: Path) -> None:
    spec = OpenSpec(path)
    for body in ("One", "One way", "One way only"):
        _type(spec, "Data Flow > Direction", body, "stay 1")
    _type(spec, "Data Flow > Direction", "One way only, at first", "stay 2")
    spec.undo()
    assert "One way only\n" in spec.document.text
    spec.undo()
    assert spec.document.text == TEXT


def test_typing_the_old_text_again_leaves_no_step(path: Path) -> None:
    spec = OpenSpec(path)
    _type(spec, "Data Flow > Direction", "One-way!")
    _type(spec, "Data Flow > Direction", "One-way")
    assert not spec.unsaved
    assert spec.next_undo == ""


def test_new_edit_clears_redo(path: Path) -> None:
    spec = OpenSpec(path)
    _cell(spec, 0, "Text")
    spec.undo()
    _cell(spec, 1, "Lowercase")
    with pytest.raises(EditRejected, match="nothing to redo"):
        spec.redo()


def test_undo_keeps_external_changes(path: Path) -> None:
    spec = OpenSpec(path)
    _cell(spec, 1, "Lowercase")
    spec.save()
    theirs = path.read_text().replace("Hourly", "On-demand")
    path.write_text(theirs)
    assert spec.reload() is OpenOutcome.READ_AGAIN
    spec.undo()
    assert spec.document.text == TEXT.replace("Hourly", "On-demand")


def test_undo_of_lines_changed_externally_is_rejected_and_changes_nothing(path: Path) -> None:
    spec = OpenSpec(path)
    _type(spec, "Data Flow > Frequency", "Daily")
    spec.save()
    path.write_text(path.read_text().replace("Daily", "On-demand"))
    spec.reload()
    with pytest.raises(EditRejected, match="changed since"):
        spec.undo()
    assert "On-demand" in spec.document.text
    assert spec.next_undo == "edit of Frequency"


# Rejected text


def test_text_that_would_swallow_the_next_section_is_kept_and_not_saved(path: Path) -> None:
    spec = OpenSpec(path)
    _type(spec, "Data Flow > Direction", "```yaml\nopen: fence")
    assert spec.rejected is not None
    assert "Frequency" in spec.rejected.error.message
    assert spec.unsaved
    with pytest.raises(EditRejected, match="not saved"):
        spec.save()
    assert path.read_text() == TEXT


def test_corrected_text_is_accepted(path: Path) -> None:
    spec = OpenSpec(path)
    _type(spec, "Data Flow > Direction", "```yaml\na: 1")
    _type(spec, "Data Flow > Direction", "```yaml\na: 1\n```")
    assert spec.rejected is None
    spec.save()
    assert path.read_text() == TEXT.replace("One-way", "```yaml\na: 1\n```")


# The file


def test_save_changes_only_the_edited_line(path: Path) -> None:
    spec = OpenSpec(path)
    _cell(spec, 1, "Trim, Lowercase")
    assert spec.save() is False
    assert path.read_text() == TEXT.replace("| Trim |", "| Trim, Lowercase |")
    assert not spec.unsaved


def test_external_change_is_read(path: Path) -> None:
    spec = OpenSpec(path)
    assert spec.reload() is OpenOutcome.SAME
    path.write_text(TEXT.replace("Hourly", "On-demand"))
    assert spec.reload() is OpenOutcome.READ_AGAIN
    assert "On-demand" in spec.document.text
    assert not spec.unsaved


def test_unsaved_changes_stay_on_top_of_an_external_change(path: Path) -> None:
    spec = OpenSpec(path)
    _cell(spec, 1, "Lowercase")
    path.write_text(TEXT.replace("| Direct |", "| Text |"))
    assert spec.reload() is OpenOutcome.MERGED
    assert spec.unsaved
    spec.save()
    assert path.read_text() == TEXT.replace("| Direct |", "| Text |").replace("| Trim |", "| Lowercase |")


@pytest.mark.parametrize(
    ("sides", "line"),
    [([Side.MINE], "| email | email | Lowercase | |"), ([Side.THEIRS], "| email | email | Uppercase | |")],
)
def test_conflicting_change_waits_for_a_choice(path: Path, sides: list[Side], line: str) -> None:
    spec = OpenSpec(path)
    _cell(spec, 1, "Lowercase")
    theirs = TEXT.replace("| Trim |", "| Uppercase |").replace("Hourly", "On-demand")
    path.write_text(theirs)
    assert spec.reload() is OpenOutcome.CONFLICT
    with pytest.raises(SaveConflict) as conflict:
        spec.save()
    assert path.read_text() == theirs

    spec.resolve_conflicts(conflict.value, sides)
    spec.save()
    assert line in path.read_text()
    assert "On-demand" in path.read_text()


def test_deleted_file_counts_as_unsaved_and_can_be_written_again(path: Path) -> None:
    spec = OpenSpec(path)
    path.unlink()
    assert spec.reload() is OpenOutcome.GONE
    assert spec.unsaved
    spec.save()
    assert path.read_text() == TEXT
    assert not spec.unsaved


# Read-only


def test_read_only_app_changes_nothing(path: Path) -> None:
    spec = Session(read_only=True).open(path)
    with pytest.raises(EditRejected, match="--read-only"):
        _cell(spec, 0, "Text")
    assert spec.document.text == TEXT


def test_reopened_spec_has_its_history(path: Path) -> None:
    session = Session()
    _cell(session.open(path), 0, "Text", "the cell")
    assert session.open(path.parent / "." / "crm.md").next_undo == "the cell"
    assert [spec.path for spec in session.unsaved()] == [path]


# Recovery


def _edit(spec: OpenSpec) -> None:
    _cell(spec, 1, "Lowercase")


def _half_a_fence(spec: OpenSpec) -> None:
    _type(spec, "Data Flow > Direction", "~~~~yaml\nopen: fence")


@pytest.mark.parametrize(("change", "lost"), [(_edit, "Lowercase"), (_half_a_fence, "open: fence")])
def test_unsaved_changes_are_recovered_after_a_crash(path: Path, change: Callable[[OpenSpec], None], lost: str) -> None:
    spec = OpenSpec(path)
    change(spec)
    spec.update_recovery()

    again = OpenSpec(path)
    recovery = store.find_recovery(path)
    assert recovery is not None
    again.recover(recovery)
    assert again.unsaved
    assert lost in again.document.text
    assert [each.title for each in again.document.sections] == [each.title for each in spec.document.sections]
    again.undo()
    assert again.document.text == TEXT


def test_rejected_text_is_recovered_in_its_section_and_can_be_corrected(path: Path) -> None:
    spec = OpenSpec(path)
    _half_a_fence(spec)
    spec.update_recovery()
    again = OpenSpec(path)
    recovery = store.find_recovery(path)
    assert recovery is not None
    again.recover(recovery)
    direction = again.document.section("Data Flow > Direction")
    assert "~~~~yaml\nopen: fence" in again.document.body(direction)
    _type(again, direction.address, "Bidirectional")
    again.save()
    assert path.read_text() == TEXT.replace("One-way", "Bidirectional")


def test_unsaved_changes_stay_recoverable_when_another_app_discards_its_recovery(path: Path) -> None:
    here, there = OpenSpec(path), OpenSpec(path)
    _cell(here, 1, "Lowercase")
    here.update_recovery()
    store.drop_recovery(there.path)
    here.update_recovery()
    recovery = store.find_recovery(path)
    assert recovery is not None
    assert "Lowercase" in recovery.text


def test_draft_keeps_every_other_byte_and_the_line_ends_of_the_file(path: Path) -> None:
    path.write_bytes(TEXT.replace("\n", "\r\n").encode())
    spec = OpenSpec(path)
    section = spec.document.section("Data Flow > Direction")
    before = spec.document.text
    draft = spec.with_draft(section, "One-way\n```\nopen fence")
    assert draft == before.replace(spec.document.body(section), "One-way\r\n```\r\nopen fence")
    spec.draft_source = lambda: draft
    spec.update_recovery(durable=False)
    spec.draft_source = None
    recovery = store.find_recovery(path)
    assert recovery is not None
    assert recovery.text == draft
    assert not spec.unsaved
    spec.update_recovery()
    assert store.find_recovery(path) is None


def test_nothing_is_recoverable_after_a_save(path: Path) -> None:
    spec = OpenSpec(path)
    _cell(spec, 1, "Lowercase")
    spec.update_recovery()
    spec.save()
    assert store.find_recovery(path) is None


def test_nothing_is_recoverable_after_undoing_everything(path: Path) -> None:
    spec = OpenSpec(path)
    _cell(spec, 1, "Lowercase")
    spec.update_recovery()
    spec.undo()
    spec.update_recovery()
    assert store.find_recovery(path) is None
