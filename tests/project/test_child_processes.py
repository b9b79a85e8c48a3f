"""Child processes run no code from the working directory: `core/processes.py` starts each of them with `-P`."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from speclab.runlog import RunLogReader
from speclab.service.heartbeat import read_heartbeat
from speclab.workbench.launcher import Launched, launch, launch_retry, launch_service

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "tui" / "speclab"
UNSAFE = re.compile(r"""(?<!-P )-m speclab|(?<!"-P", )"-m", "speclab""")

SHADOWED = (
    "aiohttp asyncio click dataclasses httpx json logging markdown_it orjson pathlib pydantic re sitecustomize speclab "
    "sqlalchemy sqlite3 sqlite_utils starlette typing usercustomize uvicorn yaml"
).split()

SPEC = """\
---
spec_id: people
type: integration
status: in-progress
---

# Spec: People

## Integration Overview

### Source System

```yaml
connector: file
path: in.jsonl
key: id
```

### Target System

```yaml
connector: file
path: out.jsonl
key: id
```

## Data Flow

### Frequency

Every 1 second

## Field Mapping

| Source Field | Target Field | Transformation | Notes |
|---|---|---|---|
| id | id | Direct | |
"""


def constants_and_attributes(path: Path) -> Iterator[tuple[int, object]]:
    """Yield the constants and attributes of a Python file with their line numbers."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Constant):
            yield node.lineno, node.value
        elif isinstance(node, ast.Attribute):
            yield node.lineno, ast.unparse(node)


def test_only_core_processes_builds_python_command_lines() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {value}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path != PACKAGE / "core" / "processes.py"
        for line, value in constants_and_attributes(path)
        if value in {"-m", "sys.executable"}
    ]
    assert found == []


def test_every_command_in_the_repository_that_runs_speclab_as_a_module_uses_p() -> None:
    names = [
        "Makefile",
        "README.md",
        *(str(path) for part in ("docs", "specs", "tests") for path in text_files(ROOT / part)),
    ]
    found = [name for name in names if name != __file__ and UNSAFE.search((ROOT / name).read_text("utf-8", "replace"))]
    assert found == []


def text_files(directory: Path) -> Iterator[Path]:
    """Yield the text files in `directory` and its subdirectories."""
    yield from (path for path in directory.rglob("*") if path.suffix in {".py", ".md", ".sh", ".toml", ".yml"})


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory: a workspace with a module named like each package that speclab imports."""
    for name in SHADOWED:
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'a').write('{name} ')\n", "utf-8")
    (tmp_path / "people.md").write_text(SPEC, "utf-8")
    (tmp_path / "in.jsonl").write_text('{"id": 1}\n', "utf-8")
    (tmp_path / ".speclab").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    return tmp_path


def imported_modules(hostile: Path) -> str:
    """Return the names of the workspace's modules that were imported."""
    path = hostile / "imported"
    return path.read_text("utf-8") if path.exists() else ""


def test_workspace_modules_are_imported_without_p(hostile: Path) -> None:
    command = [sys.executable, "-m", "click"]
    subprocess.run(command, cwd=hostile, check=False, capture_output=True)
    assert "click" in imported_modules(hostile)  # proves that the tests below would notice an import


@pytest.mark.parametrize(
    "start",
    [
        lambda workspace, runlog: launch(workspace / "people.md", "people", workspace, runlog),
        lambda workspace, runlog: launch_retry("people", ["--all"], workspace, runlog),
    ],
    ids=["run", "retry"],
)
def test_runs_started_from_the_app_import_no_workspace_module(
    hostile: Path, start: Callable[[Path, Path], Launched]
) -> None:
    launched = start(hostile, hostile / ".speclab" / "runlog.db")
    launched.process.wait(timeout=60)
    assert imported_modules(hostile) == ""
    assert "Traceback" not in "\n".join(launched.read_lines())


def test_service_and_its_runs_import_no_workspace_module(hostile: Path) -> None:
    runlog = hostile / ".speclab" / "runlog.db"
    launched = launch_service(hostile, hostile, runlog)
    try:
        for _ in range(600):
            beat = read_heartbeat(hostile)
            if beat is not None and beat.specs and runlog.exists() and finished_runs(runlog):
                break
            time.sleep(0.1)
        else:
            pytest.fail("\n".join(launched.read_lines()))
    finally:
        launched.process.terminate()
        launched.process.wait(timeout=60)
    assert imported_modules(hostile) == ""
    assert (hostile / "out.jsonl").exists()


def finished_runs(runlog: Path) -> int:
    with closing(RunLogReader(runlog)) as log:
        return sum(run.state != "running" for run in log.runs())


def test_demo_imports_no_workspace_module(hostile: Path) -> None:
    command = [str(Path(sys.executable).with_name("speclab")), "demo", str(hostile / "demo")]
    done = subprocess.run(command, cwd=hostile, env=os.environ, capture_output=True, text=True, check=False, timeout=90)
    assert done.returncode == 0, done.stderr
    assert imported_modules(hostile) == ""
