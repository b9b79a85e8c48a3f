"""The layers hold in a running process too, not only on paper."""

from __future__ import annotations

import subprocess
import sys

EVERYTHING_BELOW_THE_APP = """
import importlib, pkgutil, sys
import speclab
for part in ("spec", "mapping", "runlog", "connectors", "sync", "monitor", "demo", "cli"):
    package = importlib.import_module(f"speclab.{part}")
    for module in pkgutil.walk_packages(package.__path__, f"speclab.{part}."):
        importlib.import_module(module.name)
print(sorted(name for name in sys.modules if name.partition(".")[0] == "textual" or name.startswith("speclab.app")))
"""


def test_nothing_below_the_app_loads_textual_or_the_app() -> None:
    done = subprocess.run([sys.executable, "-c", EVERYTHING_BELOW_THE_APP], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
