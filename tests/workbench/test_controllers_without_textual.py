"""The state of the views is changed and read without a screen."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from speclab.core.errors import EditRejected
from speclab.core.json import Record
from speclab.spec.document import Document
from speclab.spec.integration import Endpoint
from speclab.workbench.launcher import ConnectionCallbacks, ConnectionTests, get_role
from speclab.workbench.mapping_sheet import MappingSheet
from speclab.workbench.mapping_state import (
    CellEdit,
    MappingState,
    Replay,
    add_suggested_rows,
    parse_pasted_rows,
    paste_rows,
)
from speclab.workbench.open_specs import OpenSpec
from speclab.workbench.samples import SampleRecords

SPEC = """---
spec_id: crm
type: integration
status: draft
---

# Spec: CRM

## Integration Overview

### Source System

```yaml
connector: file
path: contacts.jsonl
key: id
```

### Target System

```yaml
connector: file
path: customers.jsonl
key: external_id
```

## Authentication

### Source System Auth

```yaml
type: none
```

### Target System Auth

```yaml
type: none
```

## Field Mapping

| Source Field | Target Field | Transformation | Notes |
|---|---|---|---|
| email | email | Lowercase | |
| born | birth_date | Date("%d/%m/%Y") | |
"""
RECORDS: tuple[Record, ...] = (
    {"id": "1", "email": "ada@example.org", "born": "10/12/1815"},
    {"id": "2", "email": "alan@example.org", "born": "1912-06-23"},
    {"id": "3", "email": "grace@example.org", "born": "1906-12-09"},
)


@pytest.fixture
def document() -> Document:
    return Document.parse(SPEC)


@pytest.fixture
def state(document: Document) -> MappingState:
    state = MappingState()
    state.sheet = MappingSheet.of(document)
    state.set_samples(SampleRecords(RECORDS, "test"))
    return state


def cells(document: Document, row: int) -> list[str]:
    assert document.mapping is not None
    return [cell.text for cell in document.mapping.rows[row].cells]


def test_next_failing_record_is_one_that_fails_on_the_row(state: MappingState) -> None:
    assert state.sheet is not None
    state.set_check(state.sheet.check_records(RECORDS), state.sheet)
    numbers = []
    for _ in range(3):
        state.move_to_failing("birth_date")
        numbers.append(state.number)
    assert numbers == [1, 2, 1]


def test_verdict_of_an_older_sheet_is_not_current(state: MappingState, document: Document) -> None:
    assert state.sheet is not None
    state.set_check(state.sheet.check_records(RECORDS), state.sheet)
    assert state.current_check is state.last_check
    state.sheet = MappingSheet.of(Document.parse(document.text.replace("Lowercase", "Uppercase")))
    assert state.current_check is None


def test_unmapped_targets_are_suggested_from_the_samples(state: MappingState, document: Document) -> None:
    state.update_unmapped()
    (unmapped,) = state.unmapped.values()
    assert (unmapped.target, unmapped.required) == ("external_id", True)
    assert unmapped.suggestion is not None
    assert cells(add_suggested_rows(document, [unmapped]), 2)[:2] == ["source.id", "target.external_id"]


def test_cell_is_found_again_after_rows_were_inserted_above(document: Document) -> None:
    edit = CellEdit(1, "Transformation", "birth_date", 'Date("%d/%m/%Y")', 'Date("%d/%m/%Y")', "cells 1")
    moved = paste_rows(document, None, [{"Target Field": "last"}])
    moved = moved.with_row_moved(moved.mapping, 2, 0)  # type: ignore[arg-type]  # the table is there
    edited, edit = edit.apply(moved, "Trim")
    assert edit.index == 2
    assert cells(edited, 2)[1:3] == ["birth_date", "Trim"]


def test_cell_that_changed_outside_is_not_overwritten(document: Document) -> None:
    edit = CellEdit(0, "Transformation", "email", "Trim", "Trim", "cells 1")
    with pytest.raises(EditRejected, match="changed externally"):
        edit.apply(document, "Uppercase")


def test_pasted_heading_and_blank_rows_are_ignored() -> None:
    assert parse_pasted_rows("Source Field\tTarget Field\na\tb\n\t\n") == [["a", "b"]]


def test_record_without_failure_cannot_be_replayed(state: MappingState) -> None:
    assert "not from dead letters" in str(Replay().explain_disabled(state))


@pytest.mark.parametrize(
    ("title", "role"),
    [("Source System", "source"), ("Target System Auth", "target"), ("Field Mapping", None)],
)
def test_connection_sections_name_their_system(title: str, role: str | None) -> None:
    assert get_role(title) == role


async def test_connection_test_reports_its_steps_and_its_result(tmp_path: Path) -> None:
    path = tmp_path / "crm.md"
    path.write_text(SPEC)
    (tmp_path / "contacts.jsonl").write_text('{"id": "1"}\n')
    opened = OpenSpec(path)
    steps: list[str] = []

    async def allow(_path: Path, _endpoint: Endpoint) -> bool:
        return True

    def changed() -> None:
        test = tests.get(opened.document, path, "source")
        if test is not None:
            steps.append(test.step)

    tests = ConnectionTests(ConnectionCallbacks(changed, allow, lambda *_: None, lambda: None))
    await tests.run(opened.document, path, "source")
    test = tests.get(opened.document, path, "source")
    assert test is not None
    assert test.check is not None
    assert (test.error, test.check.error, test.stopped) == (None, None, False)
    assert steps[0] == "resolving settings"
    assert steps[-1] == ""
    changed_text = Document.parse(SPEC.replace("contacts.jsonl", "others.jsonl"), path)
    assert tests.get(changed_text, path, "source") is None


async def test_connection_test_that_is_cancelled_or_not_allowed_ends_as_stopped(tmp_path: Path) -> None:
    path = tmp_path / "crm.md"
    path.write_text(SPEC)
    document = Document.load(path)
    waiting = asyncio.Event()

    async def reject(_path: Path, _endpoint: Endpoint) -> bool:
        return False

    async def wait(_path: Path, _endpoint: Endpoint) -> bool:
        waiting.set()
        return await asyncio.Future()

    for allow in (reject, wait):
        tests = ConnectionTests(ConnectionCallbacks(lambda: None, allow, lambda *_: None, lambda: None))
        task = asyncio.create_task(tests.run(document, path, "target"))
        if allow is wait:
            await waiting.wait()
            task.cancel()
        await asyncio.wait([task])
        test = tests.get(document, path, "target")
        assert test is not None
        assert test.stopped
