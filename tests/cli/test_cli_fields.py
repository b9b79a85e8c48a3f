"""`speclab fields` at the shell: a table, JSON rows, and exit codes."""

from __future__ import annotations

from tests.cli.conftest import Api, Shell


def test_fields_are_listed_with_types_shares_and_examples(people: Shell) -> None:
    done = people("fields", "people", "source")
    assert done.stdout.splitlines() == [
        "field  type     required  share  example",
        "id     integer         -   100%  1",
        'name   text            -    67%  " Ada "',
    ]
    assert done.stderr == "source: 2 fields, from the first 3 records of in.jsonl\n"


def test_json_prints_one_row_per_field(people: Shell) -> None:
    assert people.rows("fields", "people", "source", "--limit", "1") == [
        {"end": "source", "field": "id", "type": "integer", "required": False, "share": 1.0, "example": 1},
        {"end": "source", "field": "name", "type": "text", "required": False, "share": 1.0, "example": " Ada "},
    ]


def test_unknown_fields_are_reported_with_a_hint(people: Shell) -> None:
    done = people("fields", "people", "target", exit_code=1)
    assert done.stderr == "speclab: out.jsonl is not there yet\n  A run makes it, with the fields of the mapping.\n"


def test_fields_of_a_target_are_listed_for_an_incomplete_draft(shell: Shell, api: Api) -> None:
    path = shell.spec(api.source(), step="NoSuchStep")
    target = f'connector: http\nbase_url: {api.url}\nkey: id\nwrite: {{upsert: "PUT /people/{{id}}"}}'
    path.write_text(path.read_text().replace("connector: file\npath: out.jsonl\nkey: id", target))
    assert "Add a `read`" in shell("fields", "people", "target", exit_code=1).stderr

    read = "read: {path: /people, records: data, pagination: {by: none}}"
    path.write_text(path.read_text().replace(target, f"{target}\n{read}"))
    assert [row["field"] for row in shell.rows("fields", "people", "target")] == ["id", "name"]
    assert "S208" not in shell("lint", str(path), exit_code=1).stdout


def test_unreachable_or_rejecting_system_exits_4(shell: Shell, api: Api) -> None:
    shell.spec()
    assert "there is no file in.jsonl" in shell("fields", "people", "source", exit_code=4).stderr
    shell.spec(api.source())
    api.status = 403
    assert "403 Forbidden" in shell("fields", "people", "source", exit_code=4).stderr
