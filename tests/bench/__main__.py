"""`make bench`: every budget that is a figure, measured on this machine."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def main() -> None:
    """Run the benchmarks named on the command line, or all there are."""
    here = Path(__file__).parent
    names = sys.argv[1:] or sorted(path.stem for path in here.glob("*.py") if path.stem != "__main__")
    for name in names:
        importlib.import_module(f"tests.bench.{name}").main()
        print()


if __name__ == "__main__":
    main()
