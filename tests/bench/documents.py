"""A spec of 20 KB: parse it, edit one cell of its mapping, and verify that everything else is unchanged."""

from __future__ import annotations

import time
from statistics import median
from typing import Final

from tests.bench.budget import at_most
from tests.bench.contacts import spec

from speclab.spec.document import Document

SIZE: Final = 20_000
_ROW: Final = "| source.address.country | target.country{} | Uppercase, Trim | as the billing system wants it |\n"
_AFTER: Final = "| | target.origin"


def large() -> str:
    """Return the spec of the job, with enough rows for 20 KB."""
    text = spec()
    rows = "".join(_ROW.format(number) for number in range((SIZE - len(text)) // len(_ROW)))
    return text.replace(_AFTER, rows + _AFTER)


def main() -> None:
    """Measure and print the results."""
    text = large()
    times = []
    for number in range(15):
        began = time.perf_counter()
        document = Document.parse(text)
        table = document.mapping
        assert table is not None
        edited = document.with_cell(table, 40, "Transformation", f"Trim, Uppercase, Truncate({number + 1})")
        times.append(time.perf_counter() - began)
        assert len(edited.text) != len(text)
    print(f"documents: a spec of {len(text) / 1000:.0f} KB, {text.count('| source.')} rows")
    at_most("parse, edit a cell, verify", median(times) * 1000, 50, " ms")


if __name__ == "__main__":
    main()
