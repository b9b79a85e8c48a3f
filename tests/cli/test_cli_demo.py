"""`speclab demo` without a terminal: one run with known counts."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from tests.cli.conftest import Shell

from speclab.demo import BAD, COUNT


def test_demo_runs_once_prints_its_counts_and_exits_0(shell: Shell) -> None:
    done = shell("demo", "here")
    dead = sum(BAD.values()) - BAD["test contact"]
    assert "crm-contacts-to-billing: partial" in done.stdout
    assert "counts match" in done.stdout
    assert str(shell.directory / "here" / ".speclab" / "runlog.db") in done.stdout
    (row,) = shell.rows("runs", "--runlog", "here/.speclab/runlog.db")
    assert row["read"] == COUNT
    assert row["filtered"] == BAD["test contact"]
    assert row["dead"] == dead
    assert row["written"] == COUNT - dead - BAD["test contact"]
    failures = shell.rows("failures", "--runlog", "here/.speclab/runlog.db")
    assert {failure["stage"] for failure in failures} == {"read", "map", "check", "write"}
    with closing(sqlite3.connect(shell.directory / "here" / ".speclab" / "billing.db")) as db:
        assert db.execute("select count(*) from customers").fetchone() == (row["written"],)
