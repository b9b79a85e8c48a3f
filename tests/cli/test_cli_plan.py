"""`speclab plan` at the shell: text, one JSON value, and exit codes."""

from __future__ import annotations

from tests.cli.conftest import Shell


def test_plan_shows_counts_locations_examples_and_unknowns(people: Shell) -> None:
    done = people("plan", "people", exit_code=1)
    assert done.stdout.startswith("people: a run would do this now, from the start of the source\n")
    assert "  read              3\n  create            2\n" in done.stdout
    assert "  1 would fail: specs/people.md:46:33: name: the value is null or missing\n" in done.stdout
    assert '  create 1\n    id: 1\n    name: "Ada"\n' in done.stdout
    assert "  source: 1 page; duration unknown, as the spec has no rate limit for it\n" in done.stdout
    assert sorted(path.name for path in people.directory.iterdir()) == ["in.jsonl", "specs"]


def test_plan_json_is_one_value(people: Shell) -> None:
    (found,) = people.rows("plan", "people", "--limit", "1")
    counts = "read create update same delete unknown unchanged filtered fail waiting"
    assert list(found) == f"spec_id resumed cut {counts} faults examples source target alarms notes".split()
    assert (found["read"], found["create"], found["fail"], found["cut"]) == (1, 1, 0, True)
    assert found["target"] == {"calls": 1, "at_least": None}


def test_plan_exits_1_if_the_guard_would_stop_the_run(people: Shell) -> None:
    (people.directory / "in.jsonl").write_text('{"id": 1, "name": "Ada"}\n')
    spec = people.directory / "specs" / "people.md"
    spec.write_text(spec.read_text().replace("Hourly\n", "Hourly\n\n### Volume\n\n```yaml\nrecords: 900\n```\n"))
    says = "the source returned 1 records; `records` under Volume expects 900\n"
    assert f"  warning of the guard: {says}" in people("plan", "people").stdout
    spec.write_text(spec.read_text().replace("records: 900\n", "records: 900\nguard: {action: stop}\n"))
    assert f"  the guard would stop the run: {says}" in people("plan", "people", exit_code=1).stdout


def test_plan_of_an_unreachable_source_exits_4(shell: Shell) -> None:
    shell.spec()
    assert "there is no file in.jsonl" in shell("plan", "people", exit_code=4).stderr
