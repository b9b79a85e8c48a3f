"""Peak memory of a run, from 100,000 to 1,000,000 records: at most 150 MB, and constant."""

from __future__ import annotations

from typing import Final

from tests.bench.budget import at_most
from tests.bench.contacts import Source, serving
from tests.bench.passes import Job, measured

SIZES: Final = (100_000, 500_000, 1_000_000)


def main() -> None:
    """Measure and print the results."""
    print("memory: a run from REST to SQLite, its peak with all that is loaded")
    peaks: list[float] = []
    for records in SIZES:
        with serving(Source(records)) as port:
            done = measured("speclab", Job(port, records))
        peaks.append(done.memory / 1e6)
        each = f"{records / done.seconds:,.0f} records/s, {done.processor / records * 1e6:.1f} µs of CPU each"
        print(f"  {records:>9,} records: {peaks[-1]:.0f} MB; {each}")
    at_most("1,000,000 records", peaks[-1], 150, " MB")
    at_most("times the memory of 100,000 records", peaks[-1] / peaks[0], 1.25)


if __name__ == "__main__":
    main()
