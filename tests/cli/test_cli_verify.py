"""`speclab verify` at the shell: results, exit codes, and the ticks it writes."""

from __future__ import annotations

from tests.cli.conftest import Shell

CRITERIA = """
## Acceptance Criteria

- [ ] Few dead letters `dead_letters() <= {limit}`
- [ ] No errors in 7 days
"""


def add_criteria(people: Shell, limit: int) -> None:
    spec = people.directory / "specs" / "people.md"
    spec.write_text(spec.read_text().partition("\n## Acceptance Criteria")[0] + CRITERIA.format(limit=limit))


def test_criterion_is_verified_and_ticked_with_one_changed_line(people: Shell) -> None:
    add_criteria(people, limit=1)
    before = people("verify", "people", exit_code=1)
    assert "no data  Few dead letters\n         no run has ended yet\n" in before.stdout
    people("run", "people", exit_code=1)
    done = people("verify", "people", "--write")
    assert "pass     Few dead letters\n         dead_letters() is 1, expected <= 1\n" in done.stdout
    assert 'suggestion: append `error_count("7d") == 0`' in done.stdout
    assert done.stderr == "specs/people.md: 1 criterion ticked\n"
    spec = people.directory / "specs" / "people.md"
    ticked = spec.read_text()
    (run,) = people.rows("runs", "people")
    line = f"- [x] Few dead letters `dead_letters() <= 1` (run {run['run']}, {run['ended_at'][:10]})"
    assert ticked.splitlines().count(line) == 1
    assert people("verify", "people", "--write").stderr == "specs/people.md: nothing to change\n"
    assert spec.read_text() == ticked


def test_criterion_that_fails_exits_1_and_is_unticked_on_request(people: Shell) -> None:
    people("run", "people", exit_code=1)
    add_criteria(people, limit=0)
    spec = people.directory / "specs" / "people.md"
    untouched = spec.read_text()
    spec.write_text(untouched.replace("- [ ] Few", "- [x] Few"))
    failed, manual = people.rows("verify", "people", exit_code=1)
    assert (failed["state"], failed["ticked"], failed["detail"]) == ("fail", True, "dead_letters() is 1, expected <= 0")
    assert (manual["state"], manual["suggestion"]) == ("manual", 'error_count("7d") == 0')
    people("verify", "people", "--untick", exit_code=1)
    assert spec.read_text() == untouched
