"""Counts always match: pages, retries and decisions in any order, compared with a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.clocks import HeldClock
from tests.runlog.conftest import failure, page

from speclab.core.outcome import FailureState, Outcome, RunState
from speclab.runlog import RetryResult, RunLog, RunLogReader
from speclab.runlog.retention import RollupSpan

FAILED = (FailureState.WAITING, FailureState.DEAD, FailureState.UNKNOWN)
KEYS = st.sampled_from("abcdefgh")
PAGES = st.dictionaries(KEYS, st.sampled_from([Outcome.WRITTEN, *FAILED]), max_size=6)
RESULTS = st.sampled_from([*Outcome])
ALL = ("read", *(outcome.value for outcome in Outcome))


class CountsMachine(RuleBasedStateMachine):
    """Two integrations with a run each, and the outcome of every record so far."""

    @initialize()
    def begin(self) -> None:
        self.directory = TemporaryDirectory()
        self.clock = HeldClock()
        self.log = RunLog.open(Path(self.directory.name) / "runlog.db", self.clock)
        self.reader = RunLogReader.open(self.log.path)
        self.runs = {name: self.log.start_run(name, "", "manual") for name in ("crm", "erp")}
        self.open: dict[tuple[str, str], tuple[str, str]] = {}  # (integration, key) -> state, the run that counts it

    def teardown(self) -> None:
        if hasattr(self, "log"):
            self.reader.close()
            self.log.close()
            self.directory.cleanup()

    @rule(name=st.sampled_from(["crm", "erp"]), records=PAGES, seconds=st.integers(0, 4000))
    def commit_page(self, name: str, records: dict[str, Outcome | FailureState], seconds: int) -> None:
        self.clock.turn(seconds)
        failures = [failure(key, state) for key, state in records.items() if isinstance(state, FailureState)]
        written = [key for key, outcome in records.items() if outcome is Outcome.WRITTEN]
        self.log.commit_page(self.runs[name], page(*failures, written=written, unchanged=1))
        for key in records:
            self.open.pop((name, key), None)
        self.open.update({(name, one.key): (one.state.value, self.runs[name]) for one in failures})

    @precondition(lambda self: self.open)
    @rule(data=st.data(), result=RESULTS)
    def commit_retry(self, data: st.DataObject, result: Outcome) -> None:
        name, key = data.draw(st.sampled_from(sorted(self.open)))
        again = failure(key, FailureState(result.value)) if result.value in set(FailureState) else None
        self.log.commit_retries(self.runs[name], [RetryResult(self._id(name, key), result, new_failure=again)])
        del self.open[name, key]
        if again is not None:
            self.open[name, key] = result.value, self.runs[name]

    @precondition(lambda self: self.open)
    @rule(data=st.data(), gives_up=st.booleans())
    def decide(self, data: st.DataObject, *, gives_up: bool) -> None:
        name, key = data.draw(st.sampled_from(sorted(self.open)))
        _, run = self.open.pop((name, key))
        if gives_up:
            self.log.discard([self._id(name, key)], "enough")
        else:
            self.log.requeue([self._id(name, key)])
            self.open[name, key] = "waiting", run

    @rule(name=st.sampled_from(["crm", "erp"]))
    def start_next_run(self, name: str) -> None:
        row = self.log.finish_run(self.runs[name])
        assert row.state in (RunState.SUCCEEDED, RunState.PARTIAL), row.error
        self.runs[name] = self.log.start_run(name, "", "manual")

    @invariant()
    def counts_of_every_run_match(self) -> None:
        for row in self.reader.runs(limit=1000):
            counts = [row.written, row.unchanged, row.filtered, row.waiting, row.dead, row.unknown]
            assert row.read == sum(counts)
            assert min(counts) >= 0

    @invariant()
    def running_run_has_its_waiting_records(self) -> None:
        counted = Counter(self.open.values())
        for run in self.runs.values():
            row = self.reader.run(run)
            assert row is not None
            assert row.waiting == counted["waiting", run]
            assert row.unknown == counted["unknown", run]
            assert row.dead >= counted["dead", run]  # discarded records count as dead

    @invariant()
    def open_failures_equal_their_counts(self) -> None:
        rows = {(row.spec_id, row.key): row.state.value for row in self.reader.failures(limit=1000)}
        assert rows == {location: state for location, (state, _) in self.open.items()}
        counts = Counter((name, state) for (name, _), (state, _) in self.open.items())
        for integration in self.reader.integrations():
            for state in FAILED:
                assert getattr(integration, state.value) == counts[integration.spec_id, state.value]

    @invariant()
    def minutes_hours_and_days_add_up_to_the_runs(self) -> None:
        total = ", ".join(f"sum({column})" for column in ALL)
        (runs,) = self.reader.query(f"SELECT {total} FROM run")
        for span in RollupSpan:
            (rolled,) = self.reader.query(f"SELECT {total} FROM rollup WHERE span = ?", (span,))
            assert zeros(rolled) == zeros(runs)
        unbalanced = f"SELECT 1 FROM rollup WHERE read <> {' + '.join(ALL[1:])}"
        assert self.reader.query(unbalanced) == []

    def _id(self, name: str, key: str) -> str:
        return next(row.id for row in self.reader.failures(name, limit=1000) if row.key == key)


def zeros(row: Iterable[int | None]) -> list[int]:
    return [count or 0 for count in row]


TestBooks = CountsMachine.TestCase
TestBooks.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
