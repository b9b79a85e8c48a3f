"""The run log: what every run did, record by record, in one SQLite file that anything may read."""

from speclab.runlog.protocol import DryRunStore, RunStore, RunStoreView
from speclab.runlog.reader import RunLogReader
from speclab.runlog.record_state import UNKNOWN_HASH, mark_in_flight
from speclab.runlog.rows import (
    AlertRow,
    EventRow,
    FailureGroup,
    FailureRow,
    FullScan,
    IntegrationRow,
    MissingRecord,
    NewFailure,
    NewNotice,
    NoticeRow,
    PageResult,
    ReconciliationRow,
    RetryResult,
    RunRow,
    ScanCounts,
    SeenRecords,
    SilenceRow,
    TargetState,
    failure_json,
    run_json,
)
from speclab.runlog.store import THIS_PROCESS, RunLog

__all__ = [
    "THIS_PROCESS",
    "UNKNOWN_HASH",
    "AlertRow",
    "DryRunStore",
    "EventRow",
    "FailureGroup",
    "FailureRow",
    "FullScan",
    "IntegrationRow",
    "MissingRecord",
    "NewFailure",
    "NewNotice",
    "NoticeRow",
    "PageResult",
    "ReconciliationRow",
    "RetryResult",
    "RunLog",
    "RunLogReader",
    "RunRow",
    "RunStore",
    "RunStoreView",
    "ScanCounts",
    "SeenRecords",
    "SilenceRow",
    "TargetState",
    "failure_json",
    "mark_in_flight",
    "run_json",
]
