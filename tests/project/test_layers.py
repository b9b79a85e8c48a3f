"""The layers hold at run time: nothing below the app loads Textual, and references are resolved behind one gate."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import speclab

EVERYTHING_BELOW_THE_APP = """
import importlib, pkgutil, sys
import speclab
for part in ("spec", "mapping", "runlog", "connectors", "sync", "service", "monitor", "workbench", "demo", "cli"):
    package = importlib.import_module(f"speclab.{part}")
    for module in pkgutil.walk_packages(package.__path__, f"speclab.{part}."):
        importlib.import_module(module.name)
print(sorted(name for name in sys.modules if name.partition(".")[0] == "textual" or name.startswith("speclab.app")))
"""


def test_nothing_below_the_app_loads_textual_or_the_app() -> None:
    done = subprocess.run([sys.executable, "-c", EVERYTHING_BELOW_THE_APP], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_only_the_trust_gate_resolves_references() -> None:
    source = Path(speclab.__file__).parent
    found = [path for path in source.rglob("*.py") if re.search(r"\b(?:References|ungated)\(", path.read_text())]
    names = {str(path.relative_to(source)) for path in found}
    assert names - {"connectors/secrets/references.py"} == {
        "connectors/trust.py",
        "connectors/testing.py",
    }
