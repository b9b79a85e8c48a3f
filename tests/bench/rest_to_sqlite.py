"""REST to SQLite: a complete run of 100,000 records, compared with a hand-written loop and dlt.

Budget (DESIGN): at least 0.6 of the hand-written loop's records per second, and 6 times dlt's, with all bookkeeping.
"""

from __future__ import annotations

from statistics import median
from typing import Final

from tests.bench.budget import at_least
from tests.bench.contacts import Source, serving
from tests.bench.passes import Job, Pass, installed, measured

RECORDS: Final = 100_000
ROUNDS: Final = 3


def main() -> None:
    """Measure the contenders in turns, so that all see the same machine, and print the results."""
    passes: dict[str, list[Pass]] = {side: [] for side in installed()}
    print(f"REST to SQLite, {RECORDS:,} records of 340 bytes, pages of 1,000, {ROUNDS} rounds in turn")
    with serving(Source(RECORDS)) as port:
        for _ in range(ROUNDS):
            for side, done in passes.items():
                done.append(measured(side, Job(port, RECORDS)))
    speed = {side: RECORDS / median(one.seconds for one in done) for side, done in passes.items()}
    spent = {side: median(one.processor for one in done) / RECORDS * 1e6 for side, done in passes.items()}
    for side, done in passes.items():
        memory = max(one.memory for one in done) / 1e6
        print(f"  {side:8} {speed[side]:>9,.0f} records/s, {spent[side]:5.1f} µs of CPU a record, peak {memory:.0f} MB")
    at_least("speclab, as a part of the loop by hand", speed["speclab"] / speed["by hand"], 0.6)
    print(f"    by processor time: {spent['by hand'] / spent['speclab']:.2f}")
    if "dlt" not in speed:
        print("  dlt is not installed; install it with `make bench`")
        return
    at_least("speclab, times dlt", speed["speclab"] / speed["dlt"], 6)
    print(f"    by processor time: {spent['dlt'] / spent['speclab']:.1f}")


if __name__ == "__main__":
    main()
