"""The progress of a running run within its page, in words."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from speclab.plural import plural

if TYPE_CHECKING:
    from speclab.runlog.rows import RunRow

AFTER_PAGE = 1
"""The value of the column `cancel`: stop after the page in progress, ..."""
NOW = 2
"""... or now."""


def progress_text(run: RunRow, now: datetime) -> str:
    """Return what a running run does: `page 3: 40 of 200 sent, 41 requests, waits 28 s: the rate limit is used up`."""
    found = run.progress or {}
    parts = []
    if found.get("page"):
        records = found.get("records")
        doing = f"{found.get('sent', 0):,} of {records:,} sent" if records else "reading"
        parts.append(f"page {found['page']:,}: {doing}")
    if requests := found.get("requests"):
        parts.append(plural(int(str(requests)), "request"))
    if until := found.get("until"):
        seconds = max(0, round((datetime.fromisoformat(str(until)) - now).total_seconds()))
        parts.append(f"waits {seconds:,} s: {found.get('wait')}")
    if run.cancel:
        parts.insert(0, "stopping now" if run.cancel == NOW else "stopping after this page")
    return ", ".join(parts)
