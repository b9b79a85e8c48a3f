"""A test tap that executes the steps of its config.

`config.do` is a list of steps: `{"say": ...}` (a message), `{"raw": TEXT}` (any text), `{"log": TEXT}` (a line on
stderr), `{"count": [FIRST, LAST]}` (records with a STATE after every tenth, continuing from the state),
`{"rewrite": ...}` (the config), `{"spawn": PATH}` (a child that holds the pipes; its pid goes to PATH), `"wait"`,
`"deaf"` (ignore SIGTERM) and `{"exit": CODE}` (a negative one is a signal). Each start is logged as a line in
`config.witness`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

CATALOG = {
    "streams": [
        {
            "tap_stream_id": "people",
            "stream": "people",
            "key_properties": ["id"],
            "schema": {
                "type": "object",
                "required": ["id"],
                "properties": {
                    "id": {"type": "integer"},
                    "name": {"type": ["string", "null"]},
                    "born": {"type": "string", "format": "date"},
                    "odd": {"type": "string"},
                },
            },
            "metadata": [
                {"breadcrumb": [], "metadata": {"inclusion": "available"}},
                {"breadcrumb": ["properties", "id"], "metadata": {"inclusion": "automatic"}},
                {"breadcrumb": ["properties", "odd"], "metadata": {"inclusion": "unsupported"}},
            ],
        },
        {"tap_stream_id": "orders", "stream": "orders", "schema": {"type": "object", "selected": True}},
    ]
}


def write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def say(message: Any) -> None:
    write(json.dumps(message) + "\n")


def record(number: int) -> dict[str, Any]:
    return {"type": "RECORD", "stream": "people", "record": {"id": number, "name": f"Name {number}"}}


def state(value: Any) -> dict[str, Any]:
    return {"type": "STATE", "value": {"bookmarks": {"people": {"id": value}}}}


def count(first: int, last: int, before: Any) -> None:
    mark = before["bookmarks"]["people"]["id"] if before else 0
    for number in range(max(first, mark), last + 1):  # inclusive, like the streams of the SDK
        say(record(number))
        if number % 10 == 0:
            say(state(number))


def end(code: int) -> None:
    if code < 0:
        os.kill(os.getpid(), -code)
    sys.exit(code)


def do(step: Any, before: Any) -> None:
    match step:
        case {"say": message}:
            say(message)
        case {"raw": str(text)}:
            write(text)
        case {"log": str(text)}:
            sys.stderr.write(text + "\n")
        case {"count": [int(first), int(last)]}:
            count(first, last, before)
        case {"spawn": str(path)}:
            child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
            Path(path).write_text(str(child.pid))
        case {"exit": int(code)}:
            end(code)
        case {"rewrite": config}:
            Path(sys.argv[sys.argv.index("--config") + 1]).write_text(json.dumps(config))
        case "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        case "wait":
            signal.pause()
        case _:
            raise SystemExit(f"what is {step}?")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path)
    parser.add_argument("--catalog", type=Path)
    parser.add_argument("--state", type=Path)
    parser.add_argument("--discover", action="store_true")
    given = parser.parse_args()
    config = json.loads(given.config.read_text())
    catalog = json.loads(given.catalog.read_text()) if given.catalog else None
    before = json.loads(given.state.read_text()) if given.state else None
    if given.discover:
        for step in config.get("discovering", []):
            do(step, before)
        write(json.dumps(config.get("catalog", CATALOG), indent=1))
        return
    if "witness" in config:
        start = {
            "pid": os.getpid(),
            "config": str(given.config),
            "mode": stat.filemode(given.config.stat().st_mode),
            "directory": stat.filemode(given.config.parent.stat().st_mode),
            "cwd": str(Path.cwd()),
            "catalog": catalog,
            "state": before,
        }
        with Path(config["witness"]).open("a") as out:
            out.write(json.dumps(start) + "\n")
    for step in config.get("do", []):
        do(step, before)


main()
