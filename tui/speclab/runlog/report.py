"""Runs reported by a script, a cron job or another tool, which are monitored like any other run."""

from __future__ import annotations

from collections.abc import Mapping

from speclab.core.json import Json, Record
from speclab.core.outcome import Effect, ErrorClass, FailureState, Level, Outcome, Stage
from speclab.runlog.protocol import RunStore
from speclab.runlog.rows import NewFailure, PageResult


class ReportedRun:
    """A run that a script reports while it works; see `RunLog.run`."""

    def __init__(self, log: RunStore, spec_id: str, run: str) -> None:
        self.id = run
        self._log = log
        self._spec_id = spec_id

    def add(
        self,
        *,
        read: int = 0,
        written: int = 0,
        created: int = 0,
        updated: int = 0,
        deleted: int = 0,
        unchanged: int = 0,
        filtered: int = 0,
        bytes_in: int = 0,
        bytes_out: int = 0,
        message: str = "",
    ) -> None:
        """Count records read and their outcomes; report each failed record with `fail` in addition.

        `created`, `updated` and `deleted` are added to `written`. A `message` is logged as an event.
        """
        page = PageResult(
            read=read,
            outcomes={
                Outcome.WRITTEN: written + created + updated + deleted,
                Outcome.UNCHANGED: unchanged,
                Outcome.FILTERED: filtered,
            },
            effects={Effect.CREATED: created, Effect.UPDATED: updated, Effect.DELETED: deleted},
            bytes_in=bytes_in,
            bytes_out=bytes_out,
            cursor=None,
            keep_cursor=True,
            message=message,
        )
        self._log.commit_page(self.id, page)

    def fail(
        self,
        key: str,
        message: str,
        *,
        source: Record | None = None,
        error_class: ErrorClass = ErrorClass.REJECTED,
        stage: Stage = Stage.WRITE,
        status: int | None = None,
    ) -> None:
        """Report a record that was read but could not be written: it becomes a dead letter under its `key`."""
        failure = NewFailure(
            key=key,
            state=FailureState.DEAD,
            stage=stage,
            error_class=error_class,
            message=message,
            file="",
            line=0,
            source=source or {},
            status=status,
        )
        page = PageResult(
            read=0,
            outcomes={Outcome.DEAD: 1},
            effects={},
            bytes_in=0,
            bytes_out=0,
            cursor=None,
            failures=(failure,),
            keep_cursor=True,
            message=f"{key}: {message}",
        )
        self._log.commit_page(self.id, page)

    def event(self, message: str, level: Level = Level.INFO, fields: Mapping[str, Json] | None = None) -> None:
        """Append a line to the event log."""
        self._log.log_event(self._spec_id, self.id, level, "log", message, fields)
