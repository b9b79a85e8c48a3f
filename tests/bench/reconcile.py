"""Reconciliation of 1,000,000 rows with 50 planted differences of five kinds: all found, in constant memory."""

from __future__ import annotations

import json
import resource
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Final

from tests.bench.budget import at_most

SIZES: Final = (100_000, 1_000_000)
KINDS: Final = ("missing", "extra", "field", "type", "duplicate")
EACH: Final = 10

SPEC: Final = """\
---
spec_id: people
type: integration
status: in-progress
---

# Spec: People

## Integration Overview

### Source System

```yaml
connector: sql
url: sqlite:///source.db
key: id
read: {table: contacts}
```

### Target System

```yaml
connector: sql
url: sqlite:///target.db
key: id
write: {upsert: people}
```

### Integration Type

Batch sync

## Data Flow

### Direction

One-way

### Frequency

Hourly

## Field Mapping

| Source Field | Target Field | Transformation | Notes |
|--------------|--------------|----------------|-------|
| source.id | target.id | Direct | |
| source.first, source.last | target.name | Trim, Concat(" ") | |
| source.email | target.email | Lowercase | |
| source.score | target.score | Direct | |
| source.city | target.city | Direct | |
"""


def plant(directory: Path, rows: int) -> dict[str, list[str]]:
    """Create both databases with `rows` rows in `directory`; return the keys of the planted differences by kind.

    The target was made by another program: its rows are in another order, it has no primary key, and `score` has no
    type, so that it keeps that of each value.
    """
    (directory / "people.md").write_text(SPEC)
    step = rows // (len(KINDS) * EACH)
    planted = {kind: [index * step + nth for index in range(EACH)] for nth, kind in enumerate(KINDS)}
    planted["extra"] = [rows + number for number in range(EACH)]
    with closing(sqlite3.connect(directory / "source.db")) as db, db:
        db.execute("CREATE TABLE contacts (id INTEGER PRIMARY KEY, first, last, email, score, city)")
        db.executemany(
            "INSERT INTO contacts VALUES (?, ?, ?, ?, ?, ?)",
            ((id_, f" Ada{id_}", "Lovelace ", f"Ada{id_}@Example.ORG", id_ % 1000, "London") for id_ in range(rows)),
        )
    with closing(sqlite3.connect(directory / "target.db")) as db, db:
        db.execute("CREATE TABLE people (id INTEGER, name TEXT, email TEXT, score, city TEXT, changed_at TEXT)")
        ids = [*range(rows - 1, -1, -1), *planted["extra"]]
        db.executemany(
            "INSERT INTO people VALUES (?, ?, ?, ?, ?, '2026-01-01')",
            ((id_, f"Ada{id_} Lovelace", f"ada{id_}@example.org", id_ % 1000, "London") for id_ in ids),
        )
        db.execute("CREATE INDEX people_id ON people (id)")
        for kind, change in (
            ("missing", "DELETE FROM people WHERE id = ?"),
            ("field", "UPDATE people SET city = 'Paris' WHERE id = ?"),
            ("type", "UPDATE people SET score = CAST(score AS TEXT) WHERE id = ?"),
            ("duplicate", "INSERT INTO people SELECT * FROM people WHERE id = ?"),
        ):
            db.executemany(change, [(id_,) for id_ in planted[kind]])
    return {kind: sorted(map(str, ids)) for kind, ids in planted.items()}


def main() -> None:
    """Measure and print the results."""
    print("reconcile: two SQLite tables, one in another order, with 50 planted differences of five kinds")
    peaks: list[float] = []
    for rows in SIZES:
        with TemporaryDirectory() as name:
            planted = plant(Path(name), rows)
            started, before = monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
            command = [sys.executable, "-c", _MEASURED, "reconcile", "people", "--json"]
            done = subprocess.run(command, cwd=name, capture_output=True, text=True, check=False)
            seconds, after = monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
            assert done.returncode == 1, done.stderr
            result, memory = map(json.loads, done.stdout.splitlines())
        found = {kind: sorted(one["key"] for one in result["examples"] if one["kind"] == kind) for kind in KINDS}
        assert (found, result["same"]) == (planted, rows - 4 * EACH)
        peaks.append(memory / 1e6)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(f"  {rows:>9,} rows: 50 of 50 found in {seconds:.1f} s ({cpu:.1f} s of CPU), {peaks[-1]:.0f} MB")
    at_most(f"{SIZES[-1]:,} rows", peaks[-1], 150, " MB")
    at_most(f"times the memory of {SIZES[0]:,} rows", peaks[-1] / peaks[0], 1.25)


_MEASURED: Final = """
import resource, sys
from speclab.cli import main
try:
    main()
finally:
    scale = 1 if sys.platform == "darwin" else 1024
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale, flush=True)
"""


if __name__ == "__main__":
    main()
