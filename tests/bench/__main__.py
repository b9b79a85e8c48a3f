"""`make bench`: measure all budgets on this machine. `python -m tests.bench NAME...` measures some."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Final

from tests.bench.budget import TALLY, machine

BENCHES: Final = (
    "mapper", "documents", "rest_to_sqlite", "singer", "latency", "http_writes", "memory", "reconcile", "dashboard",
    "grid", "terminal",
)  # fmt: skip


def main() -> None:
    """Run the benchmarks named on the command line, or all of them."""
    names = sys.argv[1:] or BENCHES
    if unknown := set(names) - set(BENCHES):
        raise SystemExit(f"no benchmark {', '.join(unknown)}; the benchmarks are {', '.join(BENCHES)}")
    print(f"{machine()}\n")
    os.environ["SPECLAB_TRUST"] = "all"
    for name in names:
        importlib.import_module(f"tests.bench.{name}").main()
        print()
    print(f"{TALLY}; {machine()}")


if __name__ == "__main__":
    main()
