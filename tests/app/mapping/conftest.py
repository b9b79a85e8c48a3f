"""A spec with a saved sample, and helpers to edit its mapping."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
from textual.events import Paste
from textual.pilot import Pilot

from speclab.app.views.mapping.view import MappingView
from speclab.app.widgets.cells import GridCell
from speclab.core.json import Record

Running = Callable[..., AbstractAsyncContextManager[Pilot[None]]]
Editing = Running
See = Callable[..., Awaitable[None]]
Until = Callable[..., Awaitable[None]]

HEAD = """---
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

## Data Flow

### Frequency

Hourly

## Authentication

### Source System Auth

```yaml
type: none
```

### Target System Auth

```yaml
type: none
```

"""
ROWS = """| id | external_id | Direct | |
| name.given, name.family | full_name | Trim, Concat(" ") | |
| email | email | Trim | invoices go here |
| born | birth_date | Date("%d/%m/%Y") | |
"""
TEXT = f"""{HEAD}## Field Mapping

| Source Field | Target Field | Transformation | Notes |
|---|---|---|---|
{ROWS}
```yaml
check:
  email: {{format: email}}
```
"""

CONTACTS: list[Record] = [
    {"id": "c_1", "name": {"given": "Ada ", "family": "Lovelace"}, "email": "Ada@Example.org", "born": "10/12/1815"},
    {"id": "c_2", "name": {"given": "Grace", "family": "Hopper"}, "email": "Grace@Example.org", "born": "09/12/1906"},
    {"id": "c_3", "name": {"given": "Alan", "family": "Turing"}, "email": "Alan@Example.org", "born": "1912-06-23"},
    {"id": "c_4", "name": {"given": "Edsger", "family": "Dijkstra"}, "email": "nobody", "born": "11/05/1930"},
]


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """A spec with a saved sample; contacts.jsonl has one contact more."""
    path = tmp_path / "crm.md"
    path.write_bytes(TEXT.encode())
    samples = tmp_path / ".speclab" / "samples"
    samples.mkdir(parents=True)
    lines = [json.dumps(contact) + "\n" for contact in CONTACTS]
    (samples / "crm.jsonl").write_text("".join(lines))
    (tmp_path / "contacts.jsonl").write_text("".join([*lines, lines[0].replace("c_1", "c_5")]))
    return path


def content(spec: Path) -> str:
    return spec.read_bytes().decode()


def put(spec: Path, text: str) -> None:
    spec.write_bytes(text.encode())


def view(pilot: Pilot[None]) -> MappingView:
    return cast("MappingView", pilot.app.main.view)  # type: ignore[attr-defined]  # the app is ours


def result(pilot: Pilot[None], row: int) -> str:
    """Return the result for the sample in that row of the grid."""
    cell = view(pilot).grid.rows[row].cells[6]
    return cell.text if isinstance(cell, GridCell) else cell


async def write(pilot: Pilot[None], text: str) -> None:
    """Paste `text` at the cursor, as a terminal does."""
    pilot.app.post_message(Paste(text))
    await pilot.pause()


async def replace(pilot: Pilot[None], text: str) -> None:
    """Replace the text of the edited cell by `text`."""
    await pilot.press("home", "ctrl+k")
    await write(pilot, text)


@pytest.fixture
def editing(spec: Path, running: Running, until: Until) -> Editing:
    """Open the Mapping with a cell of a row in edit mode: `async with editing(2) as pilot`."""

    @asynccontextmanager
    async def start(row: int) -> AsyncIterator[Pilot[None]]:
        async with running(spec.parent, view="mapping") as pilot:
            await at_row(pilot, until, row)
            await pilot.press("enter")
            yield pilot

    return start


async def at_row(pilot: Pilot[None], until: Until, row: int, column: int = 3) -> MappingView:
    await until(pilot, lambda: view(pilot).state.record is not None)
    view(pilot).grid.move(row, column)
    await pilot.pause()
    return view(pilot)
