"""REST to JSON Lines: a run compared with a third-party Singer tap and target, piped into each other.

The two programs take seconds to start, so the reported time is that of the records alone: the difference between a long
and a short run. The pair has no mapping and no run log.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.bench.contacts import Source, serving
from tests.bench.passes import Job, measured

FEW: Final = 1_000
MANY: Final = {"speclab": 101_000, "tap | target": 11_000}
_PROGRAMS: Final = Path(sys.prefix) / "singer"
_TAP: Final = _PROGRAMS / "tap-rest-api-msdk" / "bin" / "tap-rest-api-msdk"
_TARGET: Final = _PROGRAMS / "target-jsonl" / "bin" / "target-jsonl"


def main() -> None:
    """Measure and print the results."""
    print("Singer: REST to JSON Lines")
    if not (_TAP.exists() and _TARGET.exists()):
        print("  tap-rest-api-msdk and target-jsonl are not installed; install them with `make bench`")
        return
    sides = {"speclab": _by_speclab, "tap | target": _piped}
    speed: dict[str, float] = {}
    for side, seconds in sides.items():
        speed[side] = (MANY[side] - FEW) / (_served(seconds, MANY[side]) - _served(seconds, FEW))
        print(f"  {side:12} {speed[side]:>9,.0f} records/s")
    print(f"  speclab is {speed['speclab'] / speed['tap | target']:.0f} times as fast")


def _served(seconds: Callable[[int, int], float], records: int) -> float:
    with serving(Source(records)) as port:
        return seconds(port, records)


def _by_speclab(port: int, records: int) -> float:
    return measured("speclab", Job(port, records, to="file")).seconds


def _piped(port: int, records: int) -> float:
    """Return the seconds from the start of the tap and the target to their end."""
    stream = {"name": "contacts", "path": "/contacts", "records_path": "$.data[*]", "primary_keys": ["id"]}
    source = {
        "api_url": f"http://127.0.0.1:{port}",
        "next_page_token_path": "$.meta.next",
        "pagination_next_page_param": "cursor",
        "streams": [stream],
    }
    with TemporaryDirectory(prefix="speclab-bench-") as path:
        directory = Path(path)
        (directory / "tap.json").write_text(json.dumps(source))
        (directory / "target.json").write_text(json.dumps({"destination_path": path, "do_timestamp_file": False}))
        began = time.perf_counter()
        with (directory / "log").open("w") as log:
            tap = subprocess.Popen(
                [_TAP, "--config", directory / "tap.json"], stdout=subprocess.PIPE, stderr=log, cwd=directory
            )
            subprocess.run(
                [_TARGET, "--config", directory / "target.json"],
                check=True,
                stdin=tap.stdout,
                stdout=log,
                stderr=log,
                cwd=directory,
            )
            assert tap.wait() == 0, (directory / "log").read_text()
        seconds = time.perf_counter() - began
        written = (directory / "contacts.jsonl").read_bytes().count(b"\n")
        assert written == records, f"the target wrote {written}"
        return seconds


if __name__ == "__main__":
    main()
