"""The CEL extension is loaded once, whichever thread needs it first."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from speclab.mapping.cel.engine import load_extension

together = Barrier(8)

def load(_number):
    together.wait()
    return load_extension()

with ThreadPoolExecutor(8) as pool:
    print(len({id(module) for module in pool.map(load, range(8))}))
"""


def test_extension_is_loaded_once_by_concurrent_threads() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
