"""A test target that keeps records by key in a JSON Lines file, and fails as its config says.

`config.out` is that file, `config.schemas` a file of the SCHEMA messages. The target rejects a record whose `age` is
not an integer, as jsonschema does. At the name `config.refuses` (while the file `config.while` exists) it exits with
code 1, and with the message `config.words` if set; after the name `config.mutes` it emits no more STATE.
`config.how` makes it "die" at once with the message `config.dies`, be "deaf" and succeed without reading, be "mute",
or "hang".
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

REFUSAL = """\
Traceback (most recent call last):
  File "target.py", line 1, in <module>
jsonschema.exceptions.ValidationError: {value!r} is not of type 'integer'

Failed validating 'type' in schema['properties']['age']:
    {{'type': 'integer'}}

On instance['age']:
    {value!r}
"""


def keep(lines: Iterable[str], config: Any) -> Any:
    """Store all records of `lines` and return the last STATE."""
    out, state = Path(config["out"]), None
    rows: dict[Any, Any] = {}
    if out.exists():
        rows = {row["id"]: row for row in map(json.loads, out.read_text().splitlines())}
    for line in lines:
        match json.loads(line):
            case {"type": "SCHEMA"}:
                with Path(config["schemas"]).open("a") as schemas:
                    schemas.write(line)
            case {"type": "RECORD", "record": record}:
                if not isinstance(record.get("age", 0), int):
                    sys.stderr.write(REFUSAL.format(value=record["age"]))
                    sys.exit(1)
                if record["name"] == config.get("refuses") and Path(config.get("while", ".")).exists():
                    sys.exit(config.get("words", 1))
                if record["name"] == config.get("mutes"):
                    config["how"] = "mute"
                rows[record["id"]] = record
                out.write_text("".join(json.dumps(row) + "\n" for row in rows.values()))
            case {"type": "STATE", "value": value}:
                state = value
    return state


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path)
    config = json.loads(parser.parse_args().config.read_text())
    match config.get("how"):
        case "die":
            sys.exit(config["dies"])
        case "deaf":
            return
        case "hang":
            signal.pause()
    state = keep(sys.stdin, config)
    sys.stderr.write(f"INFO wrote with {config.get('password')}\n")
    if config.get("how") != "mute":
        sys.stdout.write(json.dumps(state) + "\n")


main()
