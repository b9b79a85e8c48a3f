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


def progress_text(run: RunRow, now: datetime | None = None) -> str:
    """Return what a running run does: `page 3: 40 of 200 sent, 41 requests, waits 28 s: the rate limit is used up`.

    Without `now`, a wait comes first and with the time of day at which it ends, for a text that is not drawn every
    second and has little room.
    """
    found = run.progress or {}
    parts = []
    if found.get("page"):
        records = found.get("records")
        doing = f"{found.get('sent', 0):,} of {records:,} sent" if records else "reading"
        parts.append(f"page {found['page']:,}: {doing}")
    if requests := found.get("requests"):
        parts.append(plural(int(str(requests)), "request"))
    if until := found.get("until"):
        end = datetime.fromisoformat(str(until))
        if now is None:
            parts.insert(0, f"waits until {end.astimezone():%H:%M:%S}: {found.get('wait')}")
        else:
            parts.append(f"waits {max(0, round((end - now).total_seconds())):,} s: {found.get('wait')}")
    if run.cancel:
        parts.insert(0, "stopping now" if run.cancel == NOW else "stopping after this page")
    return ", ".join(parts)
