"""Runs reported by scripts, through the public API of the package."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path

import pytest
from tests.clocks import HeldClock

import speclab
from speclab.core.outcome import FailureState, Level, RunState
from speclab.runlog import RunLog, RunLogReader


def test_script_reports_a_run_in_a_few_lines(log: RunLog, reader: RunLogReader, clock: HeldClock) -> None:
    with log.run("nightly-export", title="Nightly export", trigger="cron") as run:
        run.add(
            read=120, written=100, created=3, updated=4, deleted=2, unchanged=6, filtered=4, bytes_in=9, bytes_out=8
        )
        run.event("half way", fields={"left": 1})
        run.fail("c_8841", "no such country: XX", source={"id": "c_8841"}, status=422)
        clock.turn(60)
    row = reader.run(run.id)
    assert row is not None
    assert (row.spec_id, row.trigger, row.state) == ("nightly-export", "cron", RunState.PARTIAL)
    assert (row.read, row.written, row.created, row.updated, row.deleted) == (120, 109, 3, 4, 2)
    assert (row.unchanged, row.filtered, row.dead, row.bytes_in, row.bytes_out) == (6, 4, 1, 9, 8)
    (failure,) = reader.failures(full=True)
    assert (failure.key, failure.state, failure.status) == ("c_8841", FailureState.DEAD, 422)
    assert failure.source == {"id": "c_8841"}
    assert [event.message for event in reader.events()] == [
        "started by cron", "half way", "c_8841: no such country: XX", "partial",
    ]  # fmt: skip
    assert reader.integrations()[0].title == "Nightly export"


def test_script_whose_counts_do_not_match_fails_its_run(log: RunLog, reader: RunLogReader) -> None:
    with log.run("nightly-export") as run:
        run.add(read=10, written=9)
    row = reader.run(run.id)
    assert row is not None
    assert (row.state, row.error) == (RunState.FAILED, "counts do not match: read 10, outcomes 9")


@pytest.mark.parametrize(
    ("error", "state"), [(ValueError("bad CSV"), RunState.FAILED), (KeyboardInterrupt(), RunState.CANCELLED)]
)
def test_exception_ends_the_reported_run_and_is_raised_again(
    log: RunLog, reader: RunLogReader, error: BaseException, state: RunState
) -> None:
    with pytest.raises(type(error)), log.run("nightly-export"):
        raise error
    (row,) = reader.runs()
    assert row.state is state
    assert row.error == f"{type(error).__name__}: {error}"
    levels = [event.level for event in reader.events()]
    assert levels[-1] is (Level.ERROR if state is RunState.FAILED else Level.WARNING)


def test_example_in_the_documentation_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = (
        found
        for found in doctest.DocTestFinder().find(RunLog.run, "RunLog.run", globs={"RunLog": RunLog})
        if found.examples
    )
    assert doctest.DocTestRunner().run(example).failed == 0
    with RunLogReader.open(tmp_path / ".speclab" / "runlog.db") as reader:
        assert [(row.spec_id, row.read, row.state.value) for row in reader.runs()] == [
            ("nightly-export", 120, "partial")
        ]


def test_package_offers_its_public_names_and_loads_them_late() -> None:
    assert speclab.RunLog is RunLog
    assert speclab.RunLogReader is RunLogReader
    assert issubclass(speclab.SpeclabError, Exception)
    with pytest.raises(AttributeError, match="module 'speclab' has no attribute 'RunLogs'"):
        speclab.RunLogs  # noqa: B018
    script = """
import speclab, sys
assert "sqlite3" not in sys.modules
speclab.RunLog
assert not {"sqlite_utils", "pydantic", "speclab.spec"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
