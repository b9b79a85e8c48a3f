"""The Metrics section: what the spec promises to measure, and what speclab measures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from speclab.core.text import describe_choices, find_likely_name
from speclab.spec.document import Document
from speclab.spec.outline import BlockKind, LineSpan, Section, comparable
from speclab.spec.problems import ProblemCollector
from speclab.spec.rules import RUN_LOG_FUNCTIONS, CheckExpression

MEASURES: Final = {
    "success rate": ("error rate", "failure rate"),
    "records": ("data volume", "volume", "records read", "records written", "records per run", "records by outcome",
                "record count", "throughput", "unchanged records", "filtered records", "deleted records"),
    "bytes": ("data transferred", "bytes received", "bytes sent"),
    "error count": ("errors", "errors by class", "failures"),
    "duration": ("sync duration", "run duration", "processing time", "duration p95", "p95 duration"),
    "runs": ("run count", "runs by state", "last run"),
    "retry queue": ("retry depth", "retries", "retry queue depth", "retry age", "backlog"),
    "dead letters": ("dead letter count", "rejected records"),
    "unknown outcomes": ("records with unknown outcome",),
    "lag": ("latency", "freshness", "data freshness", "sync lag"),
    "time since success": ("time since the last success", "time since last success", "last success",
                           "time since the last successful run", "last successful run"),
    "lateness": ("schedule lateness", "late runs", "missed runs"),
    "alerts": ("alert states", "firing alerts"),
}  # fmt: skip
"""What speclab measures, with other names for it."""

EXPORTED: Final = (
    "speclab_records_read_total", "speclab_records_total", "speclab_received_bytes_total", "speclab_sent_bytes_total",
    "speclab_errors_total", "speclab_runs_total", "speclab_run_duration_seconds", "speclab_run_in_progress",
    "speclab_condition", "speclab_last_success_timestamp_seconds", "speclab_retry_queue_records",
    "speclab_retry_queue_oldest_age_seconds", "speclab_dead_letters", "speclab_unknown_outcomes", "speclab_lag_seconds",
    "speclab_lateness_seconds", "speclab_alert_state",
)  # fmt: skip
"""The metrics of an integration at `/metrics`."""

_KNOWN: Final = frozenset(MEASURES) | {name for names in MEASURES.values() for name in names}
_ITEM: Final = re.compile(r"(?<![^\r\n])[ \t]*(?:[-*+]|\d+[.)])[ \t]+(?:\[[ xX]\][ \t]+)?(?P<text>[^\r\n]*)")
_NAME: Final = re.compile(r"[^:;,(<>=`\u2013\u2014]*?(?=\s*(?:[:;,(<>=`\u2013\u2014]|\s-\s|[.]?\s*$))")
_CODE: Final = re.compile(r"`([^`]+)`")
_FILLER: Final = re.compile(r"^(?:the |number of |total |average |daily |hourly )+")


def read_measures(document: Document, section: Section, findings: ProblemCollector) -> Iterator[CheckExpression]:
    """Check that each item of the lists in the Metrics section is measured; yield the expressions among them.

    An item is a name (`Success rate: above 99 %`), or contains a code span with an expression over the run log or the
    name of a metric at `/metrics`. Other text is for people.
    """
    for block in section.blocks:
        if block.kind is BlockKind.LIST:
            for item in _ITEM.finditer(document.text, block.span.start, block.span.end):
                yield from _read_item(item, findings)


def _read_item(item: re.Match[str], findings: ProblemCollector) -> Iterator[CheckExpression]:
    text, start = item["text"], item.start("text")
    for code in _CODE.finditer(text):
        at = LineSpan(start + code.start(1), start + code.end(1))
        if "(" in code[1]:
            yield CheckExpression(code[1], at.start, at.end, functions=RUN_LOG_FUNCTIONS)
        elif code[1] not in EXPORTED:
            hint = describe_choices(code[1], EXPORTED, "/metrics has")
            findings.warning("C501", at, f"there is no metric {code[1]!r}; {hint}", find_likely_name(code[1], EXPORTED))
        return
    match = _NAME.match(text)
    name = match[0].strip() if match else text
    if _FILLER.sub("", comparable(name)) not in _KNOWN and name:
        hint = describe_choices(name.casefold(), sorted(_KNOWN), "it measures")
        if hint.startswith("it measures"):
            hint = f"it measures {', '.join(MEASURES)}"
        findings.warning("C501", LineSpan(start, start + len(name)), f"speclab does not measure {name!r}; {hint}")
