"""The objects that `--json` prints have the fields listed in the reference, in the same order."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
from tests.cli.conftest import Shell, people, shell

__all__ = ["people", "shell"]

JSON = runpy.run_path(str(Path(__file__).parents[2] / "docs/generate.py"))["JSON"]
SPEC = {"fields": ("people", "source"), "status": (), "alerts": ("--once",), "lint --format json": ("people",)}


@pytest.mark.parametrize("command", JSON)
def test_json_objects_have_the_documented_fields(people: Shell, command: str) -> None:
    if command in ("status", "failures", "logs"):
        people("run", "people", exit_code=1)
    if command == "lint --format json":
        people.spec(step="Upercase")
    if command == "verify":
        spec = people.directory / "specs/people.md"
        spec.write_text(f"{spec.read_text()}\n## Acceptance Criteria\n\n- [ ] Fast\n")
    name, *options = command.split()
    printed = people(name, *SPEC.get(command, ("people",)), *(options or ["--json"]), exit_code=None).stdout
    for line in printed.splitlines():
        assert " ".join(json.loads(line)) == JSON[command]
    assert printed
