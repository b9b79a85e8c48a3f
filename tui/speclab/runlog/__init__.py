"""The run log: what every run did, record by record, in one SQLite file that anything may read."""

from speclab.runlog.reader import RunLogReader
from speclab.runlog.record_state import IN_DOUBT, under_way
from speclab.runlog.rows import (
    AlertRow,
    EventRow,
    FailureGroup,
    FailureRow,
    IntegrationRow,
    NewFailure,
    PageResult,
    RetryResult,
    RunRow,
    failure_json,
    run_json,
)
from speclab.runlog.store import THIS_PROCESS, RunLog

__all__ = [
    "IN_DOUBT",
    "THIS_PROCESS",
    "AlertRow",
    "EventRow",
    "FailureGroup",
    "FailureRow",
    "IntegrationRow",
    "NewFailure",
    "PageResult",
    "RetryResult",
    "RunLog",
    "RunLogReader",
    "RunRow",
    "failure_json",
    "run_json",
    "under_way",
]
