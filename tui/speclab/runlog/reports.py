"""Runs that other tools report step by step, by command or over HTTP: what each report may contain, and how it counts.

A script in Python uses `RunLog.run`, which reports a run from one process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from speclab.core.errors import RunEnded, RunNotFound, UsageError
from speclab.core.outcome import ErrorClass, Level, RunState, Stage
from speclab.runlog.reader import RunLogReader
from speclab.runlog.rows import IntegrationRow, RunRow
from speclab.runlog.runs import ReportedRun
from speclab.runlog.store import RunLog

MAX_TEXT: Final = 10_000
"""Maximum characters of a message."""
MAX_COUNT: Final = 10**15
MAX_KEYS: Final = 10_000

Count = Annotated[int, Field(ge=0, le=MAX_COUNT, strict=True)]
Text = Annotated[str, Field(max_length=MAX_TEXT)]
Key = Annotated[str, Field(min_length=1, max_length=1000)]


class Report(BaseModel):
    """The base of all reports: unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CountsReported(Report):
    """Counts to add to a run. Each record that was read has one outcome."""

    read: Count | None = Field(default=None, description="Records read from the source, including failed ones.")
    written: Count = Field(default=0, description="Records written, if the target does not report the effect.")
    created: Count = Field(default=0, description="Records created at the target; they count as written.")
    updated: Count = Field(default=0, description="Records updated at the target; they count as written.")
    deleted: Count = Field(default=0, description="Records deleted at the target; they count as written.")
    unchanged: Count = Field(default=0, description="Records that were at the target already.")
    filtered: Count = Field(default=0, description="Records left out on purpose.")
    bytes_in: Count = Field(default=0, description="Bytes received from the source.")
    bytes_out: Count = Field(default=0, description="Bytes sent to the target.")
    keys: list[Key] = Field(
        default=[],
        max_length=MAX_KEYS,
        description="Keys of records that arrived: their earlier failures are closed.",
    )
    message: Text = Field(default="", description="Line for the event log.")


class ProgressReported(CountsReported):
    """Progress of a run."""

    level: Level = Field(default=Level.INFO, description="Level of the message.")


class FailureReported(Report):
    """A record that could not be written: it becomes a dead letter."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    key: Key = Field(description="Key of the record at the source.")
    message: Annotated[str, Field(min_length=1, max_length=MAX_TEXT)] = Field(description="Why it failed.")
    error_class: ErrorClass = Field(default=ErrorClass.REJECTED, alias="class", description="Class of the error.")
    stage: Stage = Field(default=Stage.WRITE, description="Stage in which it failed.")
    status: Annotated[int, Field(ge=100, le=599)] | None = Field(
        default=None, description="Status of the HTTP response, if there was one."
    )
    record: dict[str, JsonValue] = Field(default={}, description="The record as read from the source.")


class RunEndReported(CountsReported):
    """The end of a run, with counts that were not reported before."""

    status: Literal["succeeded", "failed", "cancelled"] = Field(
        default="succeeded",
        description="How the run ended. A run with dead letters that succeeded is partial.",
    )
    error: Text = Field(default="", description="Why the run failed.")


class RunStarted(Report):
    """The start of a run of an integration that another tool runs."""

    integration: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=100,
        description="Name of the integration: the spec_id of its spec, if it has one.",
    )
    title: str = Field(default="", max_length=200, description="Title of the integration, shown in the Monitor.")
    trigger: str = Field(
        default="report",
        pattern=r"^[a-z0-9][a-z0-9_-]*$",
        max_length=40,
        description="What started the run, such as `cron` or `airflow`.",
    )
    end: RunEndReported | None = Field(
        default=None, description="The end of the run: with it, one report is a whole run."
    )


class RunReports:
    """Records reports in a run log.

    Reports about a run raise `RunNotFound` if another tool did not start it by a report, and `RunEnded` if it has
    ended. `is_run_here` returns whether speclab runs an integration itself.
    """

    def __init__(self, log: RunLog, reader: RunLogReader, is_run_here: Callable[[IntegrationRow], bool]) -> None:
        self._log = log
        self._is_run_here = is_run_here
        self._reader = reader

    @property
    def path(self) -> Path:
        """The path of the run log."""
        return self._log.path

    def close(self) -> None:
        """Close the reader of the run log."""
        self._reader.close()

    def start(self, report: RunStarted, pid: int | None = None) -> RunRow:
        """Start a run. With `pid`, it is marked as interrupted once that process is gone.

        Raises `UsageError` if speclab runs the integration itself.
        """
        known = self._reader.integrations(report.integration)
        for row in known:
            if self._is_run_here(row):
                raise UsageError(
                    f"speclab runs {row.spec_id} itself, as {row.path} says",
                    hint="Report under another name, or use `connector: external` in that spec.",
                )
        if report.title and not any(row.path for row in known):
            self._log.register(report.integration, title=report.title, path="", status="", schedule="")
        run = self._log.start_run(report.integration, "", report.trigger, pid=pid)
        return self.get(run) if report.end is None else self.end(run, report.end)

    def get(self, run: str) -> RunRow:
        """Return a run."""
        row = self._reader.run(run)
        if row is None or row.spec_hash:
            why = "there is no run" if row is None else "speclab runs it itself; it was not started by a report:"
            raise RunNotFound(f"{why} {run}", hint="The start of a run returns its id.")
        return row

    def find_open(self, integration: str, trigger: str) -> str | None:
        """Return the last open run of an integration that `trigger` started; None if there is none."""
        rows = self._reader.runs(integration, state=RunState.RUNNING)
        return next((row.run for row in rows if row.trigger == trigger and not row.spec_hash), None)

    def interrupt(self, run: str, reason: str) -> RunRow:
        """End a run whose end was not reported."""
        return self._log.finish_run(run, reason, RunState.INTERRUPTED)

    def add(self, run: str, report: ProgressReported) -> RunRow:
        """Add counts to a run, and its message to the event log."""
        self._add(self._find_open(run), report, report.level)
        return self.get(run)

    def fail(self, run: str, report: FailureReported) -> RunRow:
        """Add a dead letter to a run; the record is not counted as read."""
        reported = self._find_open(run)
        (integration,) = self._reader.integrations(self.get(run).spec_id)
        reported.fail(
            report.key,
            report.message,
            source=report.record,
            error_class=report.error_class,
            stage=report.stage,
            status=report.status,
            file=integration.path,
        )
        return self.get(run)

    def end(self, run: str, report: RunEndReported) -> RunRow:
        """End a run. If nobody reported how many records were read, all that have an outcome were.

        The end of a run that has ended the same way is accepted without effect: a report may be repeated because its
        response was lost.
        """
        row = self.get(run)
        if row.ended_at is not None and _is_repeated(row, report):
            return row
        reported = self._find_open(run)
        if report.read is None and not row.read:
            report = report.model_copy(update={"read": row.written + row.unchanged + row.filtered + row.dead})
            report = report.model_copy(update={"read": (report.read or 0) + _count_outcomes(report)})
        self._add(reported, report, Level.INFO)
        state = {"failed": RunState.FAILED, "cancelled": RunState.CANCELLED}.get(report.status)
        return self._log.finish_run(run, report.error or None, state)

    def log_lines(self, run: str, lines: Sequence[str], level: Level) -> None:
        """Add lines of output to the event log."""
        reported = self._find_open(run)
        for line in lines:
            reported.event(line[:MAX_TEXT], level)

    def _add(self, reported: ReportedRun, report: CountsReported, level: Level) -> None:
        counts = report.model_dump(include=set(_COUNTS))
        if report.read is None:
            counts["read"] = 0
        if any(counts.values()) or report.keys:
            reported.add(**counts, keys=report.keys)
        if report.message:
            reported.event(report.message, level)

    def _find_open(self, run: str) -> ReportedRun:
        row = self.get(run)
        if row.ended_at is not None:
            raise RunEnded(f"run {run} has ended: {row.state}", hint="Start another run.")
        return ReportedRun(self._log, row.spec_id, run)


def get_last_lines(output: bytes, count: int) -> list[str]:
    """Return the last lines of output that are not empty, at most `count`."""
    lines = [line for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-count:] if count else []


_COUNTS: Final = (
    "read", "written", "created", "updated", "deleted", "unchanged", "filtered", "bytes_in", "bytes_out",
)  # fmt: skip


def _count_outcomes(report: CountsReported) -> int:
    written = report.written + report.created + report.updated + report.deleted
    return written + report.unchanged + report.filtered


def _is_repeated(row: RunRow, report: RunEndReported) -> bool:
    """Return whether a run ended as `report` says."""
    ended = {RunState.SUCCEEDED: "succeeded", RunState.PARTIAL: "succeeded"}.get(row.state, row.state.value)
    return ended == report.status
