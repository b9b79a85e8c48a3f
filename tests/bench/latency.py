"""A source with 100 ms latency, read page by page by cursor, and by page number with parallel requests.

Each page contains the cursor of the next, so requests cannot overlap; the run should add no time to the waiting.
"""

from __future__ import annotations

from typing import Final

from tests.bench.contacts import PAGES, Source, serving
from tests.bench.passes import DLT, Job, measured

DELAY: Final = 0.1
PAGE: Final = 200
COUNT: Final = 50
CONCURRENCY: Final = 8


def main() -> None:
    """Measure and print the results."""
    records, waiting = PAGE * COUNT, COUNT * DELAY
    print(f"latency: {COUNT} pages of {PAGE}, {DELAY * 1000:.0f} ms each to answer, which is {waiting:.0f} s in a row")
    with serving(Source(records, PAGE, DELAY)) as port:
        by_cursor = measured("speclab", Job(port, records)).seconds
        at_once = measured("speclab", Job(port, records, PAGES, CONCURRENCY)).seconds
        dlt = measured("dlt", Job(port, records)).seconds if DLT.exists() else None
    print(f"  speclab by cursor {by_cursor:5.1f} s, of which {by_cursor - waiting:.1f} s are not waiting")
    print(f"  speclab by page   {at_once:5.1f} s, {CONCURRENCY} at once: {by_cursor / at_once:.1f} times as fast")
    if dlt is not None:
        print(f"  dlt by cursor     {dlt:5.1f} s, of which {dlt - waiting:.1f} s are not waiting")


if __name__ == "__main__":
    main()
