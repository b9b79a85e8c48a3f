"""The Mapping's figures and messages: what fails where, what cannot run, and where to go."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.app.mapping.conftest import CONTACTS, TEXT, Running, See, Until, at_row, put, view

from speclab.app.widgets.grid import Grid
from speclab.mapping.steps import STEPS

SIZES = [(80, 24), (160, 45)]


@pytest.mark.parametrize("size", SIZES)
async def test_fails_counts_the_sample_records_that_fail_on_the_row(
    spec: Path, running: Running, see: See, until: Until, size: tuple[int, int]
) -> None:
    async with running(spec.parent, view="mapping", size=size) as pilot:
        await at_row(pilot, until, 3)
        await see(pilot, "2 pass, 1 fail on", "Fails Dead" if size[0] == 80 else "Fails  Dead")
        rows = view(pilot).grid.rows
        assert [[getattr(cell, "text", cell) for cell in row.cells[8:10]] for row in rows[:4]] == [
            ["·", "·"],
            ["·", "·"],
            ["1", "·"],
            ["1", "·"],
        ]


async def test_row_that_cannot_run_is_named_beside_the_records_that_pass(
    spec: Path, running: Running, see: See, until: Until
) -> None:
    put(spec, TEXT.replace('Date("%d/%m/%Y")', "Nonsense"))
    async with running(spec.parent, view="mapping", size=(160, 45)) as pilot:
        await at_row(pilot, until, 0)
        await see(pilot, "1 row cannot run, 3 pass the others, 1 fail")


@pytest.mark.parametrize("size", SIZES)
async def test_live_sample_names_the_invalid_section_and_goes_there(
    spec: Path, running: Running, see: See, size: tuple[int, int]
) -> None:
    text = TEXT.replace("connector: file\npath: contacts.jsonl", "connector: http\nbase_url: http://127.0.0.1:9", 1)
    text = text.replace("key: id\n", "read: {path: /contacts}\nkey: id\n", 1)
    put(spec, text.replace("### Source System Auth\n\n```yaml\ntype: none\n```\n", "### Source System Auth\n"))
    async with running(spec.parent, view="mapping", size=size) as pilot:
        await see(pilot, "Field Mapping")
        await pilot.press("l")
        await see(pilot, "The source cannot be read yet.", "Source System Auth:", "go to the section")
        await pilot.press("enter")
        await see(pilot, "▸ Source System Auth")


async def test_live_sample_needs_only_the_source(spec: Path, running: Running, see: See) -> None:
    put(spec, TEXT.replace("connector: file\npath: customers.jsonl\nkey: external_id", "connector: http"))
    async with running(spec.parent, view="mapping", size=(160, 45)) as pilot:
        await see(pilot, "kept sample")
        await pilot.press("l")
        await see(pilot, "record 1 of 5", "live")


@pytest.mark.parametrize("size", SIZES)
async def test_completions_with_a_common_prefix_are_distinguishable(
    spec: Path, running: Running, see: See, until: Until, size: tuple[int, int]
) -> None:
    record = {
        **CONTACTS[0],
        "customer_relationship_details": {"billing_address_of_record": {"street": "a", "city": "b"}},
    }
    (spec.parent / ".speclab" / "samples" / "crm.jsonl").write_text(json.dumps(record) + "\n")
    async with running(spec.parent, view="mapping", size=size) as pilot:
        await at_row(pilot, until, 0, 1)
        await pilot.press("enter", "home", "ctrl+k", *"source.cust")
        await see(pilot, "record.street", "record.city")


@pytest.mark.parametrize("size", SIZES)
async def test_help_of_mapping_lists_all_steps(spec: Path, running: Running, see: See, size: tuple[int, int]) -> None:
    async with running(spec.parent, view="mapping", size=size) as pilot:
        await see(pilot, "Field Mapping")
        await pilot.press("f1")
        await see(pilot, "help")
        terms = {getattr(row.cells[2], "text", "") for row in pilot.app.screen.query_one(Grid).rows}
        assert {step.signature for step in STEPS.values()} <= terms
