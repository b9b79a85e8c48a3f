"""`speclab reconcile` at the shell: a table, JSON, an HTML page, and a repair that asks first."""

from __future__ import annotations

import json

from tests.cli.conftest import Shell


def write_target(people: Shell) -> None:
    people.spec()
    people.write("in.jsonl", "".join(json.dumps({"id": id_, "name": f"p{id_}"}) + "\n" for id_ in (1, 2, 3)))
    people.write("out.jsonl", '{"id": 2, "name": "<b>"}\n{"id": 3, "name": "p3"}\n{"id": 9, "name": "x"}\n')


def test_differences_are_a_table_json_or_an_html_page(people: Shell) -> None:
    write_target(people)
    table = people("reconcile", "people", exit_code=1).stdout
    assert table.startswith("people: source and target differ: 3 differences\n")
    assert "  missing             1   only the source has them\n" in table
    assert '\n  missing 1\n\n  extra 9\n\n  field 2\n    name: "<b>" → "p2"\n' in table
    (found,) = people.rows("reconcile", "people", "--show", "0", exit_code=1)
    assert found["differences"] == {"missing": 1, "extra": 1, "field": 1, "type": 0, "duplicate": 0}
    assert (found["method"], found["source"], found["target"], found["examples"]) == ("list", 3, 3, [])
    page = people("reconcile", "people", "--format", "html", exit_code=1).stdout
    assert page.startswith('<!doctype html>\n<html lang="en">')
    assert "<code>&quot;&lt;b&gt;&quot;</code>" in page


def test_a_repair_needs_a_confirmation(people: Shell) -> None:
    write_target(people)
    before = (people.directory / "out.jsonl").read_text()
    requested = people("reconcile", "people", "--repair", exit_code=1)
    assert "not repaired. `--repair --yes` would write 2 records at the target.\n" in requested.stderr
    assert (people.directory / "out.jsonl").read_text() == before
    people("reconcile", "people", "--repair", "--delete", "--yes")
    assert people("reconcile", "people").stdout.startswith("people: source and target are equal\n")
    (run,) = people.rows("runs", "people")
    assert (run["trigger"], run["state"], run["written"], run["deleted"]) == ("repair", "succeeded", 3, 1)
    assert "--delete and --yes need --repair" in people("reconcile", "people", "--yes", exit_code=2).stderr
