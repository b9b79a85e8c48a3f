"""`run` and `map` with their run log, and the message for each kind of invalid input."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest
from tests.cli.conftest import Api, Shell


def test_run_prints_matching_counts_and_the_location_of_each_failure(people: Shell) -> None:
    done = people("run", "people", exit_code=1)
    assert "people: partial" in done.stdout
    assert "counts match" in done.stdout
    assert "specs/people.md:46:33: dead at map: name: " in done.stdout
    written = [json.loads(line) for line in (people.directory / "out.jsonl").read_text().splitlines()]
    assert written == [{"id": 1, "name": "Ada"}, {"id": 3, "name": "Grace"}]


def test_json_prints_the_run_row_and_nothing_else(people: Shell) -> None:
    (row,) = people.rows("run", "people", exit_code=1)
    assert (
        list(row)
        == (
            "run spec_id spec_hash trigger state started_at ended_at read written created updated deleted unchanged "
            "filtered waiting dead unknown bytes_in bytes_out cursor error"
        ).split()
    )
    assert (row["read"], row["written"], row["dead"], row["state"]) == (3, 2, 1, "partial")


def test_runs_failures_and_status_show_the_run(people: Shell) -> None:
    people("run", "people", exit_code=1)
    (run,) = people.rows("runs")
    (failure,) = people.rows("failures", "people")
    (status,) = people.rows("status", exit_code=1)
    assert failure["run"] == run["run"]
    assert (
        list(failure)
        == (
            "id run spec_id key state stage class status message row column file line attempts first_at last_at "
            "next_attempt_at"
        ).split()
    )
    assert (failure["key"], failure["stage"], failure["row"], failure["line"]) == ("2", "map", "name", 46)
    (full,) = people.rows("failures", "--full")
    assert full["source"] == {"id": 2, "name": None}
    assert (full["target_id"], full["version"]) == (None, None)
    assert (status["spec_id"], status["condition"], status["dead"]) == ("people", "attention", 1)
    assert "specs/people.md:46:33" in people("failures").stdout


def test_dry_run_writes_nothing(people: Shell) -> None:
    (row,) = people.rows("run", "people", "--dry-run", exit_code=1)
    assert row["read"] == 3
    assert not (people.directory / "out.jsonl").exists()
    assert people.rows("runs") == []


def test_map_prints_mapped_records_and_the_location_of_each_failure(people: Shell) -> None:
    done = people("map", "people", "--sample", "in.jsonl", exit_code=1)
    assert [json.loads(line)["name"] for line in done.stdout.splitlines()] == ["Ada", "Grace"]
    assert "specs/people.md:46:33: record 2: name: " in done.stderr
    assert "2 mapped, 0 filtered, 1 failed" in done.stderr


def test_map_keeps_every_digit_of_a_long_number(people: Shell) -> None:
    line = '{"id":123456789012345678901234567890,"name":"Ada"}\n'
    assert people("map", "people", stdin=line).stdout == line


def test_map_fails_only_the_records_that_cannot_be_read(people: Shell) -> None:
    lines = '{"id":"1","name":"Ada"}\n{"id":"2","name":"\\ud800"}\n{"id":"3","name":"Bo","n":1e400}\n'
    done = people("map", "people", stdin=lines, exit_code=1)
    assert done.stdout == '{"id":"1","name":"Ada"}\n'
    assert "<stdin>:2: record 2: the text at name has half a surrogate pair" in done.stderr
    assert "<stdin>:3: record 3: the number 1e400 at n cannot be read without loss" in done.stderr
    assert "1 mapped, 0 filtered, 2 failed" in done.stderr


def test_map_needs_only_the_mapping_of_a_spec(shell: Shell) -> None:
    shell("new", "people")
    row = "| Source Field | Target Field | Transformation |\n|---|---|---|\n| source.name | target.name | {} |\n"
    shell("set", "people", "Field Mapping", row.format("Trim"))
    assert shell("map", "people", stdin='{"name": " Ada"}').stdout == '{"name":"Ada"}\n'
    shell("set", "people", "Field Mapping", row.format("Trimm"))
    output = shell("map", "people", stdin="", exit_code=3).stderr
    assert "the mapping has problems" in output
    assert output.count("M101 unknown step 'Trimm'") == 1
    assert "D10" not in output


def test_lint_prints_file_line_column_and_the_nearest_step(people: Shell) -> None:
    people.spec(step="Upercase")
    done = people("lint", exit_code=1)
    assert done.stdout.startswith("specs/people.md:46:33: M")
    assert "unknown step 'Upercase'. Did you mean 'Uppercase'?" in done.stdout
    (problem,) = (json.loads(line) for line in people("lint", "--format", "json", exit_code=1).stdout.splitlines())
    assert list(problem) == ["file", "line", "column", "code", "level", "message", "fix"]
    assert people("lint", "--format", "github", exit_code=1).stdout.startswith("::error file=specs/people.md,line=46,")


# Invalid input: a located error, and nothing changed


@pytest.mark.parametrize(
    ("old", "new", "where", "output"),
    [
        ("key: id\n```\n\n### Target", "key: [id\n```\n\n### Target", ":16:6:", "YAML"),
        ("### Source System\n\n```yaml", "### Source Sytem\n\n```yaml", "", "Source System"),
        ("Required, Trim", "Required, Upercase", ":46:43:", "unknown step 'Upercase'. Did you mean 'Uppercase'?"),
    ],
    ids=["broken YAML", "a missing section", "an unknown step"],
)
def test_run_of_an_invalid_spec_prints_why_and_where(
    people: Shell, old: str, new: str, where: str, output: str
) -> None:
    path = people.directory / "specs" / "people.md"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    error = people("run", "people", exit_code=3).stderr
    assert output in error
    assert where in error
    assert not (people.directory / "out.jsonl").exists()


def test_refused_connection_exits_4(shell: Shell, unused_tcp_port: int) -> None:
    shell.spec(
        f"connector: http\nbase_url: http://127.0.0.1:{unused_tcp_port}\nkey: id\n"
        "read: {path: /people, pagination: {by: none}}"
    )
    error = shell("run", "people", exit_code=4).stderr
    assert f"127.0.0.1:{unused_tcp_port}" in error
    assert shell.rows("runs")[0]["state"] == "failed"


def test_401_names_the_refused_credentials(shell: Shell, api: Api) -> None:
    api.status = 401
    shell.env["TOKEN"] = "s3cret-t0ken"
    shell.spec(api.source(), auth="type: bearer\ntoken: ${env:TOKEN}")
    done = shell("run", "people", exit_code=4)
    assert "401" in done.stderr
    assert "s3cret" not in done.stdout + done.stderr
    assert b"s3cret" not in (shell.directory / ".speclab" / "runlog.db").read_bytes()


def test_parked_run_exits_1(shell: Shell, api: Api) -> None:
    api.status, api.retry_after = 429, 3600
    shell.spec(api.source())
    assert "it asks to wait 1h" in shell("run", "people", exit_code=1).stderr
    assert shell.rows("runs")[0]["state"] == "partial"


def test_absurd_retry_after_parks_for_a_day_and_status_shows_it(shell: Shell, api: Api) -> None:
    api.status, api.retry_after = 429, 99999999999999999999999
    shell.spec(api.source())
    shell("run", "people", exit_code=1)
    (status,) = shell.rows("status")
    assert status["condition"] == "parked"
    wait = datetime.fromisoformat(status["parked_until"]) - datetime.now(UTC)
    assert timedelta(hours=23) < wait <= timedelta(days=1)
    assert "people is parked: its source asked to wait until" in shell("status").stderr


def test_unset_reference_is_named(shell: Shell, api: Api) -> None:
    shell.spec(api.source(), auth="type: bearer\ntoken: ${env:NO_SUCH_TOKEN}")
    assert "NO_SUCH_TOKEN" in shell("run", "people", exit_code=3).stderr


def test_body_that_is_not_json_is_shown(shell: Shell, api: Api) -> None:
    api.body = "<html>Sign in</html>"
    shell.spec(api.source())
    error = shell("run", "people", exit_code=1).stderr
    assert "JSON" in error
    assert "Sign in" in error


def test_missing_records_path_shows_the_keys_of_the_body(shell: Shell, api: Api) -> None:
    shell.spec(api.source("items"))
    error = shell("run", "people", exit_code=1).stderr
    assert "items" in error
    assert "data" in error
    assert shell.rows("runs")[0]["state"] == "failed"


def test_run_log_of_a_newer_version_is_not_changed(people: Shell) -> None:
    people("run", "people", exit_code=1)
    path = people.directory / ".speclab" / "runlog.db"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 9999")
    db.close()
    error = people("run", "people", exit_code=1).stderr
    assert "newer" in error
    assert "newer" in people("runs", exit_code=1).stderr


def test_directory_without_specs_explains_how_to_create_one(shell: Shell) -> None:
    assert "speclab new" in shell("lint").stderr
    assert "No runs yet" in shell("runs").stderr
    assert "No runs yet" in shell("status").stderr
    assert "No failures" in shell("failures").stderr
