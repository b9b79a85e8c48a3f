"""Creating the tables of a run log, and migrating run logs that an older speclab wrote to `schema.SCHEMA`.

A new version adds one migration at the end; released ones stay as they are. New run logs are created from `SCHEMA`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from speclab.runlog import schema
from speclab.runlog.schema import DEFAULT_FLOW, ERROR_COLUMNS, OPEN, ROLLUP

if TYPE_CHECKING:
    from sqlite_utils import Database, Migrations

PAUSES: Final = """
ALTER TABLE integration ADD COLUMN paused_at TEXT;
ALTER TABLE integration ADD COLUMN paused_by TEXT;
ALTER TABLE integration ADD COLUMN paused_reason TEXT;
"""

USUAL: Final = """
ALTER TABLE integration ADD COLUMN usual TEXT;
"""

PRESENCE: Final = """
CREATE TABLE sweep (
    integration INTEGER PRIMARY KEY,
    target TEXT NOT NULL,
    latest INTEGER NOT NULL DEFAULT 0,
    held INTEGER NOT NULL DEFAULT 0,
    complete INTEGER NOT NULL DEFAULT 0,
    keyless INTEGER NOT NULL DEFAULT 0,
    undecided INTEGER NOT NULL DEFAULT 0,
    nameless INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE presence (
    integration INTEGER NOT NULL,
    key TEXT NOT NULL,
    sweep INTEGER NOT NULL,
    identity TEXT,
    gone INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (integration, key)
) WITHOUT ROWID;
CREATE INDEX presence_gone ON presence (integration, key) WHERE gone = 1;
CREATE TABLE presence_page (
    id INTEGER PRIMARY KEY,
    integration INTEGER NOT NULL,
    sweep INTEGER NOT NULL,
    keys TEXT NOT NULL,
    identities TEXT NOT NULL,
    records INTEGER NOT NULL
);
CREATE INDEX presence_page_by_integration ON presence_page (integration, id);
"""

WAY: Final = """
ALTER TABLE checkpoint ADD COLUMN way TEXT;
"""

CONTROL: Final = """
ALTER TABLE run ADD COLUMN cancel INTEGER NOT NULL DEFAULT 0;
ALTER TABLE run ADD COLUMN progress TEXT;
"""

_ROLLUP_6: Final = ", ".join(
    "spec_id span start read written unchanged filtered waiting dead unknown bytes_in bytes_out errors".split()
    + list(ERROR_COLUMNS.values())
)
"""The columns of `rollup` before it had flows."""

FLOWS: Final = f"""
ALTER TABLE event RENAME TO log_event;
DROP INDEX event_by_spec;
DROP INDEX event_by_run;
CREATE INDEX log_event_by_spec ON log_event (spec_id, id);
CREATE INDEX log_event_by_run ON log_event (run, id) WHERE run IS NOT NULL;
CREATE VIEW event AS SELECT id, at, spec_id, run, level, kind, message, fields FROM log_event;

CREATE TABLE spec_version (hash TEXT PRIMARY KEY, text TEXT NOT NULL, saved_at TEXT NOT NULL);
CREATE INDEX run_by_spec_hash ON run (spec_hash);

CREATE TABLE flow (
    id INTEGER PRIMARY KEY,
    spec_id TEXT NOT NULL REFERENCES integration (spec_id),
    name TEXT NOT NULL DEFAULT '{DEFAULT_FLOW}',
    UNIQUE (spec_id, name)
);
INSERT INTO flow (id, spec_id) SELECT id, spec_id FROM integration;
ALTER TABLE run ADD COLUMN flow TEXT NOT NULL DEFAULT '{DEFAULT_FLOW}';
ALTER TABLE failure ADD COLUMN flow TEXT NOT NULL DEFAULT '{DEFAULT_FLOW}';
DROP INDEX failure_open_key;
CREATE UNIQUE INDEX failure_open_key ON failure (spec_id, flow, key) WHERE {OPEN} AND key <> '';

ALTER TABLE checkpoint RENAME TO checkpoint_6;
CREATE TABLE checkpoint (
    spec_id TEXT NOT NULL REFERENCES integration (spec_id),
    flow TEXT NOT NULL DEFAULT '{DEFAULT_FLOW}',
    cursor TEXT NOT NULL,
    run TEXT NOT NULL,
    at TEXT NOT NULL,
    route TEXT,
    PRIMARY KEY (spec_id, flow)
);
INSERT INTO checkpoint (spec_id, cursor, run, at, route) SELECT spec_id, cursor, run, at, way FROM checkpoint_6;
DROP TABLE checkpoint_6;

ALTER TABLE rollup RENAME TO rollup_6;
{ROLLUP}
INSERT INTO rollup ({_ROLLUP_6}) SELECT {_ROLLUP_6} FROM rollup_6;
DROP TABLE rollup_6;

ALTER TABLE record_state RENAME COLUMN integration TO flow_id;
ALTER TABLE record_state_page RENAME COLUMN integration TO flow_id;
DROP INDEX record_state_page_by_integration;
CREATE INDEX record_state_page_by_flow ON record_state_page (flow_id, id);

ALTER TABLE sweep RENAME TO full_scan;
ALTER TABLE full_scan RENAME COLUMN integration TO flow_id;
DROP INDEX presence_gone;
ALTER TABLE presence RENAME TO source_key;
ALTER TABLE source_key RENAME COLUMN integration TO flow_id;
ALTER TABLE source_key RENAME COLUMN sweep TO full_scan;
ALTER TABLE source_key RENAME COLUMN gone TO tombstone;
CREATE INDEX source_key_tombstone ON source_key (flow_id, key) WHERE tombstone = 1;
DROP INDEX presence_page_by_integration;
ALTER TABLE presence_page RENAME TO source_key_page;
ALTER TABLE source_key_page RENAME COLUMN integration TO flow_id;
ALTER TABLE source_key_page RENAME COLUMN sweep TO full_scan;
CREATE INDEX source_key_page_by_flow ON source_key_page (flow_id, id);

ALTER TABLE integration RENAME COLUMN usual TO field_profile;
"""

_STEPS: Final = (
    ("pauses", PAUSES),
    ("usual", USUAL),
    ("presence", PRESENCE),
    ("way", WAY),
    ("control", CONTROL),
    ("flows", FLOWS),
)
"""The name, as stored in migrated run logs, and the statements of each migration; the first leads to version 2."""


def migrations(version: int) -> Migrations:
    """Return the migrations of a run log at `version` of the schema that are still pending."""
    from sqlite_utils import Migrations

    pending = Migrations("speclab")
    for name, statements in _STEPS[version - 1 :]:

        @pending(name=name)
        def apply(db: Database, statements: str = statements) -> None:
            db.executescript(statements)

    return pending


def ensure_current(connection: sqlite3.Connection, path: Path) -> None:
    """Create the tables of a new run log, or migrate an older one, in one transaction.

    Raises like `schema.read_version`.
    """
    if schema.read_version(connection, path) == schema.VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = schema.read_version(connection, path)
        if version == 0:
            for statement in _split_statements(schema.SCHEMA):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        elif version < schema.VERSION:  # unless another process was first
            from sqlite_utils import Database  # takes a quarter of a second to import

            migrations(version).apply(Database(connection, execute_plugins=False))
        connection.execute(f"PRAGMA user_version = {schema.VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _split_statements(script: str) -> Iterator[str]:
    """Yield the statements of `script`; `executescript` would commit the transaction first."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
