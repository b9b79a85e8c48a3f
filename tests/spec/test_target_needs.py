"""Fields that a target needs and no row produces are reported before a run."""

from __future__ import annotations

import pytest
from tests.spec.test_settings_missing import SPEC

from speclab.core.outcome import Level
from speclab.spec.document import Document
from speclab.spec.parser import read_integration

SOURCE = "connector: file\npath: in.jsonl\nkey: id"
FILE = "connector: file\npath: out.jsonl\nkey: {key}"
SQL = "connector: sql\nurl: sqlite:///b.db\nkey: {key}\nwrite: {{upsert: people}}"
HTTP = "connector: http\nbase_url: https://x\nkey: id\nwrite: {{{write}}}"


def reported(target: str, rows: str = "") -> list[str]:
    """Return the lint messages of a spec with that target; its mapping produces `id`, `home.city`, `of` and `rows`."""
    more = "| source.c | target.home.city | Direct | |\n| source.of | target.of | Direct | |\n" + rows
    text = SPEC.format(source=SOURCE, target=target) + more
    _, problems = read_integration(Document.parse(text))
    found = [problem for problem in problems if problem.code == "S211"]
    assert all(problem.level is Level.WARNING for problem in found)
    lines = text.splitlines()
    return [f"{lines[one.line - 1][one.column - 1 :]}: {one.message}" for one in found]


@pytest.mark.parametrize("target", [FILE, SQL])
def test_key_of_an_upsert_is_a_required_path(target: str) -> None:
    assert reported(target.format(key="id")) == []
    assert reported(target.format(key="ident")) == ["ident: no row of the mapping produces `ident`"]
    assert reported(target.format(key="[id, region]")) == ["[id, region]: no row of the mapping produces `region`"]


def test_placeholders_of_requests_are_required_paths() -> None:
    assert reported(HTTP.format(write='upsert: "PUT /{id}", headers: {X: "{home.city}"}')) == []
    assert reported(HTTP.format(write='upsert: "PUT /{region}/{id}"')) == [
        '"PUT /{region}/{id}"}: no row of the mapping produces `region`'
    ]
    assert reported(HTTP.format(write='create: POST /, headers: {X: "{home.zip}"}')) == [
        '"{home.zip}"}}: no row of the mapping produces `home.zip`'
    ]
    batch = 'batch: POST /batch, item: {path: "/{nope}"}'
    assert reported(HTTP.format(write=batch)) == ['"/{nope}"}}: no row of the mapping produces `nope`']


def test_paths_from_a_lookup_or_inside_a_produced_object_are_not_reported() -> None:
    lookup = 'create: POST /, lookup: "GET /?id={id}", found: items[0], update: "PUT /{found.id}"'
    assert reported(HTTP.format(write=lookup)) == []
    assert reported(HTTP.format(write='upsert: "PUT /{of.id}"')) == []
    assert reported(HTTP.format(write='upsert: "PUT /{home}"')) == []


@pytest.mark.parametrize("mode", ["mode: replace", "mode: append"])
def test_no_paths_are_required_without_a_write(mode: str) -> None:
    assert reported(f"{FILE.format(key='nope')}\n{mode}") == []
    assert reported(HTTP.format(write="create: POST /people")) == []


def test_required_paths_are_not_reported_while_a_row_is_invalid() -> None:
    assert reported(FILE.format(key="nope"), "| source.x | target..x | Direct | |\n") == []


@pytest.mark.parametrize(("more", "expected"), [("", True), (', results: "[*]"', False), (", ok: item.done", False)])
def test_batch_without_results_or_ok_is_reported(more: str, expected: bool) -> None:  # noqa: FBT001
    text = SPEC.format(source=SOURCE, target=HTTP.format(write=f"batch: POST /batch{more}").replace("{{", "{"))
    _, problems = read_integration(Document.parse(text))
    found = [problem for problem in problems if problem.code == "S212"]
    assert [problem.message for problem in found] == (
        ["set `results` or `ok` to define which records of a batch succeeded"] if expected else []
    )
    assert all(text.splitlines()[one.line - 1][one.column - 1 :].startswith("POST /batch") for one in found)
