"""The schema of the run log, and its migrations.

Times are UTC ISO 8601 text with milliseconds (`2026-11-24T10:42:07.000Z`), so they compare as text. Ids of runs and
failures are UUIDs of version 7, so they sort by time. JSON values are JSON text. Anything may read the file with
plain SQLite; all writes go through `RunLog`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from speclab.core.errors import RunLogError, RunLogTooNew
from speclab.core.outcome import ErrorClass

if TYPE_CHECKING:
    from sqlite_utils import Database, Migrations

APPLICATION_ID: Final = 0x53504C42
"""`SPLB` in the header of the file: distinguishes a run log from any other SQLite database."""

VERSION: Final = 10
"""`PRAGMA user_version` of an up-to-date run log."""

DEFAULT_FLOW: Final = "source -> target"
"""The flow of a spec with one source and one target."""

OPEN: Final = "state IN ('waiting', 'dead', 'unknown')"
"""The condition of an open failure. Partial indexes contain this text, so queries must use it literally."""

READ_TO_END: Final = "state IN ('succeeded', 'partial')"
"""The condition of a run that read its source to the end. Used literally, like `OPEN`."""

NOTIFICATIONS: Final = """
CREATE TABLE notification (             -- the outbox: messages to deliver, and how earlier ones ended
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    spec_id TEXT NOT NULL REFERENCES integration (spec_id),
    alert TEXT NOT NULL,                -- the name of the alert
    kind TEXT NOT NULL,                 -- firing | reminder | resolved
    since TEXT NOT NULL,                -- of the alert's firing
    channel TEXT NOT NULL,              -- the name of the channel in the spec
    severity TEXT NOT NULL,             -- critical | warning
    content TEXT NOT NULL,              -- JSON: the message; it contains no records
    state TEXT NOT NULL,                -- due | delivered | failed | dropped
    created_at TEXT NOT NULL,
    due_at TEXT NOT NULL,               -- when it is delivered, or tried again
    attempts INTEGER NOT NULL DEFAULT 0,
    error TEXT,                         -- of the last attempt
    closed_at TEXT                      -- when it was delivered or given up
);
CREATE INDEX notification_due ON notification (due_at) WHERE state = 'due';
CREATE INDEX notification_closed ON notification (spec_id, closed_at) WHERE state <> 'due';

CREATE TABLE silence (                  -- alerts that notify nobody for some time
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    spec_id TEXT NOT NULL REFERENCES integration (spec_id),
    alert TEXT,                         -- the name of the alert; null: all alerts of the spec
    since TEXT NOT NULL,
    until TEXT NOT NULL,
    by TEXT NOT NULL,
    reason TEXT NOT NULL
);
"""
"""Also a part of the migration to version 10."""

ERROR_COLUMNS: Final = {name: f"errors_{name.value}" for name in ErrorClass}
"""The column of `rollup` that counts errors of a class."""

ROLLUP: Final = f"""
CREATE TABLE rollup (                   -- counts of each minute, hour and day (UTC)
    spec_id TEXT NOT NULL REFERENCES integration (spec_id),
    span TEXT NOT NULL,                 -- minute | hour | day
    start TEXT NOT NULL,
    flow TEXT NOT NULL DEFAULT '{DEFAULT_FLOW}',
    read INTEGER NOT NULL DEFAULT 0,
    written INTEGER NOT NULL DEFAULT 0,
    unchanged INTEGER NOT NULL DEFAULT 0,
    filtered INTEGER NOT NULL DEFAULT 0,
    waiting INTEGER NOT NULL DEFAULT 0,
    dead INTEGER NOT NULL DEFAULT 0,
    unknown INTEGER NOT NULL DEFAULT 0,
    bytes_in INTEGER NOT NULL DEFAULT 0,
    bytes_out INTEGER NOT NULL DEFAULT 0,
    errors INTEGER NOT NULL DEFAULT 0,  -- failed attempts and failed runs; then the same by error class
    {", ".join(f"{column} INTEGER NOT NULL DEFAULT 0" for column in ERROR_COLUMNS.values())},
    PRIMARY KEY (spec_id, span, start, flow)
) WITHOUT ROWID;
"""
"""Also a part of the migration to version 7."""

RECONCILIATION: Final = """
CREATE TABLE reconciliation (           -- comparisons of the mapped source with the target
    id INTEGER PRIMARY KEY,
    spec_id TEXT NOT NULL REFERENCES integration (spec_id),
    at TEXT NOT NULL,                   -- when it ended
    spec_hash TEXT NOT NULL,
    sample INTEGER,                     -- records compared at most; null if all were
    differences INTEGER NOT NULL,
    counts TEXT NOT NULL                -- JSON: records of source and target, and differences by kind
);
CREATE INDEX reconciliation_by_spec ON reconciliation (spec_id, id);
"""
"""Also the migration to version 8."""

SCHEMA: Final = f"""
CREATE TABLE integration (              -- one row per spec, or per job reported by a script
    id INTEGER PRIMARY KEY,
    spec_id TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL,
    path TEXT NOT NULL,                 -- of the spec, relative to the workspace; empty for a reported job
    status TEXT NOT NULL,               -- draft | approved | in-progress | completed | any other text of the spec
    schedule TEXT NOT NULL,             -- the choice in the Frequency section, as written
    registered_at TEXT NOT NULL,
    revision INTEGER NOT NULL DEFAULT 0,-- incremented by every change to anything of the integration
    waiting INTEGER NOT NULL DEFAULT 0, -- open failures, by state
    dead INTEGER NOT NULL DEFAULT 0,
    unknown INTEGER NOT NULL DEFAULT 0,
    paused_at TEXT,                     -- since when `speclab up` skips it; null if it is not paused
    paused_by TEXT,
    paused_reason TEXT,
    field_profile TEXT                  -- JSON: typical fields of the source, as seen by earlier runs
);

CREATE TABLE flow (                     -- records move from one endpoint to another; a one-way spec has one flow
    id INTEGER PRIMARY KEY,             -- short, for the tables with one row per record
    spec_id TEXT NOT NULL REFERENCES integration (spec_id),
    name TEXT NOT NULL DEFAULT '{DEFAULT_FLOW}',
    UNIQUE (spec_id, name)
);

CREATE TABLE spec_version (             -- the specs that runs were made with
    hash TEXT PRIMARY KEY,              -- SHA-256 of the spec's bytes, in hex
    text TEXT NOT NULL,
    saved_at TEXT NOT NULL
);

CREATE TABLE run (
    id TEXT PRIMARY KEY,
    spec_id TEXT NOT NULL REFERENCES integration (spec_id),
    flow TEXT NOT NULL DEFAULT '{DEFAULT_FLOW}',
    spec_hash TEXT NOT NULL,            -- see spec_version
    trigger TEXT NOT NULL,              -- manual | schedule | retry | repair | demo | any name that a script reports
    state TEXT NOT NULL,                -- running | succeeded | partial | failed | cancelled | interrupted
    started_at TEXT NOT NULL,
    ended_at TEXT,
    duration REAL,                      -- seconds from start to end
    read INTEGER NOT NULL DEFAULT 0,    -- = written + unchanged + filtered + waiting + dead + unknown
    written INTEGER NOT NULL DEFAULT 0, -- = created + updated + deleted, if the target reports them
    created INTEGER NOT NULL DEFAULT 0,
    updated INTEGER NOT NULL DEFAULT 0,
    deleted INTEGER NOT NULL DEFAULT 0,
    unchanged INTEGER NOT NULL DEFAULT 0,
    filtered INTEGER NOT NULL DEFAULT 0,
    waiting INTEGER NOT NULL DEFAULT 0,
    dead INTEGER NOT NULL DEFAULT 0,
    unknown INTEGER NOT NULL DEFAULT 0,
    bytes_in INTEGER NOT NULL DEFAULT 0,
    bytes_out INTEGER NOT NULL DEFAULT 0,
    total INTEGER,                      -- records in the whole read, if the source reports it
    cursor TEXT NOT NULL DEFAULT 'null',-- JSON: the cursor after the last committed page
    error TEXT,
    pid INTEGER,                        -- of the process: a run whose process is gone is marked as interrupted
    host TEXT,
    process_started TEXT,               -- distinguishes the process from a later one with the same pid
    cancel INTEGER NOT NULL DEFAULT 0,  -- cancellation requested: 1 after the page in progress, 2 now
    progress TEXT                       -- JSON: progress within the page, at most a second old; null once ended
);
CREATE INDEX run_by_spec ON run (spec_id, id);
CREATE INDEX run_by_spec_hash ON run (spec_hash);
CREATE INDEX run_ended ON run (spec_id, ended_at, state, duration) WHERE ended_at IS NOT NULL;
CREATE INDEX run_succeeded ON run (spec_id, ended_at) WHERE state = 'succeeded';
CREATE INDEX run_arrived ON run (spec_id, started_at) WHERE {READ_TO_END};
CREATE INDEX run_running ON run (spec_id) WHERE state = 'running';

CREATE TABLE log_event (                -- append-only; retention deletes old rows
    id INTEGER PRIMARY KEY AUTOINCREMENT,   -- never reused: a tail reads id > last
    at TEXT NOT NULL,
    spec_id TEXT NOT NULL REFERENCES integration (spec_id),
    run TEXT REFERENCES run (id),
    level TEXT NOT NULL,                -- error | warning | info
    kind TEXT NOT NULL,                 -- page | retry | rate_limit | state | guard | log ...
    message TEXT NOT NULL,
    fields TEXT NOT NULL DEFAULT '{{}}' -- a JSON object
);
CREATE INDEX log_event_by_spec ON log_event (spec_id, id);
CREATE INDEX log_event_by_run ON log_event (run, id) WHERE run IS NOT NULL;
CREATE VIEW event AS SELECT id, at, spec_id, run, level, kind, message, fields FROM log_event;  -- its former name

CREATE TABLE failure (                  -- the retry queue, the dead letters, and how failures were closed
    id TEXT PRIMARY KEY,
    run TEXT NOT NULL REFERENCES run (id),      -- the run it first failed in
    spec_id TEXT NOT NULL REFERENCES integration (spec_id),
    flow TEXT NOT NULL DEFAULT '{DEFAULT_FLOW}',
    spec_hash TEXT NOT NULL,            -- of the spec at the last attempt
    key TEXT NOT NULL,                  -- of the record at the source; empty if it has none
    state TEXT NOT NULL,                -- open: waiting | dead | unknown; closed: resolved | superseded | discarded
    stage TEXT NOT NULL,                -- read | map | check | write
    class TEXT NOT NULL,                -- mapping | contract | network | timeout | rate_limit | server ...
    status INTEGER,                     -- of the HTTP response, if there was one
    message TEXT NOT NULL,
    shape TEXT NOT NULL,                -- the message without the parts that vary by record; groups failures
    "row" TEXT,                         -- target path of the mapping row that failed
    "column" INTEGER,
    file TEXT NOT NULL,
    line INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    first_at TEXT NOT NULL,
    last_at TEXT NOT NULL,              -- of the last attempt or change of state
    next_attempt_at TEXT,               -- only while waiting
    source TEXT NOT NULL,               -- JSON: the record before mapping
    payload TEXT,                       -- JSON: the mapped record
    request TEXT,
    response TEXT,
    idempotency_key TEXT,
    counted_by TEXT NOT NULL,           -- the run that counts the record as waiting, dead or unknown
    counted_at TEXT NOT NULL            -- when it was counted
);
CREATE UNIQUE INDEX failure_open_key ON failure (spec_id, flow, key) WHERE {OPEN} AND key <> '';
CREATE INDEX failure_open ON failure (id) WHERE {OPEN};
CREATE INDEX failure_open_by_spec ON failure (spec_id, id) WHERE {OPEN};
CREATE INDEX failure_open_group ON failure (spec_id, stage, "row", class, status, state, shape, last_at)
    WHERE {OPEN};
CREATE INDEX failure_due ON failure (spec_id, next_attempt_at) WHERE state = 'waiting';
CREATE INDEX failure_waiting ON failure (spec_id, first_at) WHERE state = 'waiting';
CREATE INDEX failure_by_run ON failure (run, id);
CREATE INDEX failure_closed ON failure (last_at) WHERE NOT ({OPEN});
CREATE INDEX failure_closed_by_spec ON failure (spec_id, last_at) WHERE NOT ({OPEN});

CREATE TABLE checkpoint (               -- where the next run resumes
    spec_id TEXT NOT NULL REFERENCES integration (spec_id),
    flow TEXT NOT NULL DEFAULT '{DEFAULT_FLOW}',
    cursor TEXT NOT NULL,               -- JSON, private to the source's connector
    run TEXT NOT NULL,                  -- the run that committed it
    at TEXT NOT NULL,
    route TEXT,                         -- fingerprint of the source and target that the cursor belongs to
    PRIMARY KEY (spec_id, flow)
);

CREATE TABLE record_state (             -- records known to be at the target; one narrow row each
    flow_id INTEGER NOT NULL,           -- flow.id
    key TEXT NOT NULL,
    hash BLOB NOT NULL,                 -- 16 bytes: of the mapped record with sorted keys; other values while in flight
    target_id TEXT,                     -- at the target, if it is known and differs from the key
    version TEXT,                       -- at the target after the last write: an ETag, a row version; null if unknown
    PRIMARY KEY (flow_id, key)
) WITHOUT ROWID;
CREATE TABLE record_state_page (        -- states of recent pages, to be merged into record_state: these are newer
    id INTEGER PRIMARY KEY,
    flow_id INTEGER NOT NULL,
    keys TEXT NOT NULL,                 -- a JSON array
    hashes BLOB NOT NULL,               -- of the keys in order, concatenated
    targets TEXT                        -- JSON: [target_id, version] by key, for keys that have one
);
CREATE INDEX record_state_page_by_flow ON record_state_page (flow_id, id);

CREATE TABLE full_scan (                -- full reads of a source whose missing records are deleted at the target
    flow_id INTEGER PRIMARY KEY,        -- flow.id
    target TEXT NOT NULL,               -- the target that the identities in source_key belong to
    latest INTEGER NOT NULL DEFAULT 0,  -- number of the latest scan
    held INTEGER NOT NULL DEFAULT 0,    -- of the scan that the checkpoint is inside of, or 0
    complete INTEGER NOT NULL DEFAULT 0,-- of the latest scan that read to the end
    keyless INTEGER NOT NULL DEFAULT 0, -- of the latest scan that found records without a key
    undecided INTEGER NOT NULL DEFAULT 0,-- 1 if a complete scan found missing records that are not handled yet
    nameless INTEGER NOT NULL DEFAULT 0 -- number of missing records whose identity at the target is unknown
);
CREATE TABLE source_key (               -- keys that the source had
    flow_id INTEGER NOT NULL,
    key TEXT NOT NULL,
    full_scan INTEGER NOT NULL,         -- the latest scan that saw it; missing if less than full_scan.complete
    identity TEXT,                      -- JSON: what identifies it at the target; null if it was never mapped
    tombstone INTEGER NOT NULL DEFAULT 0,   -- 1 once it was missing and its delete was sent, regardless of the outcome
    PRIMARY KEY (flow_id, key)
) WITHOUT ROWID;
CREATE INDEX source_key_tombstone ON source_key (flow_id, key) WHERE tombstone = 1;
CREATE TABLE source_key_page (          -- keys of recent pages, not merged into source_key yet
    id INTEGER PRIMARY KEY,
    flow_id INTEGER NOT NULL,
    full_scan INTEGER NOT NULL,
    keys TEXT NOT NULL,                 -- a JSON array
    identities TEXT NOT NULL,           -- of the keys in order: an array of JSON texts and nulls
    records INTEGER NOT NULL            -- number of keys
);
CREATE INDEX source_key_page_by_flow ON source_key_page (flow_id, id);
{ROLLUP}
CREATE TABLE alert (                    -- the alerts of a spec, as evaluated last
    spec_id TEXT NOT NULL REFERENCES integration (spec_id),
    name TEXT NOT NULL,
    state TEXT NOT NULL,                -- ok | pending (true, but not for long enough yet) | firing
    since TEXT NOT NULL,                -- of the last change of state
    detail TEXT NOT NULL,               -- the figures found
    severity TEXT NOT NULL DEFAULT 'warning',   -- critical | warning
    notified_at TEXT,                   -- of the last message about its firing; null if nobody was notified
    fired TEXT NOT NULL DEFAULT '[]',   -- JSON: when it started to fire within the last hour
    settled_at TEXT,                    -- when a flapping alert was last found not to be true
    PRIMARY KEY (spec_id, name)
);
{RECONCILIATION}{NOTIFICATIONS}"""


def read_version(connection: sqlite3.Connection, path: Path) -> int:
    """Return the version of the schema in the file; 0 for an empty one.

    Raises `RunLogTooNew` if a newer speclab wrote it, and `RunLogError` if it is another kind of database.
    """
    # One statement, because another process may be creating the tables right now.
    version, application, empty = connection.execute(
        "SELECT user_version, application_id, NOT EXISTS (SELECT 1 FROM sqlite_master) "
        "FROM pragma_user_version, pragma_application_id"
    ).fetchone()
    if application != APPLICATION_ID:
        if not empty:
            raise RunLogError(
                f"{path}: this SQLite database is not a run log",
                hint="Name another file with --runlog, or move this one away.",
            )
        return 0
    if version > VERSION:
        raise RunLogTooNew(
            f"{path}: the run log was written by a newer speclab (schema {version}; this one knows {VERSION})",
            hint="Upgrade speclab (`pip install --upgrade speclab-tui`), or name another run log with --runlog.",
        )
    return int(version)


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

TARGETS: Final = """
ALTER TABLE record_state ADD COLUMN target_id TEXT;
ALTER TABLE record_state ADD COLUMN version TEXT;
ALTER TABLE record_state_page ADD COLUMN targets TEXT;
"""

ALERTS: Final = f"""
ALTER TABLE alert ADD COLUMN severity TEXT NOT NULL DEFAULT 'warning';
ALTER TABLE alert ADD COLUMN notified_at TEXT;
ALTER TABLE alert ADD COLUMN fired TEXT NOT NULL DEFAULT '[]';
ALTER TABLE alert ADD COLUMN settled_at TEXT;
{NOTIFICATIONS}
"""

_STEPS: Final = (
    ("pauses", PAUSES),
    ("usual", USUAL),
    ("presence", PRESENCE),
    ("way", WAY),
    ("control", CONTROL),
    ("flows", FLOWS),
    ("reconciliation", RECONCILIATION),
    ("targets", TARGETS),
    ("alerts", ALERTS),
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
    if read_version(connection, path) == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = read_version(connection, path)
        if version == 0:
            for statement in _split_statements(SCHEMA):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        elif version < VERSION:  # unless another process was first
            from sqlite_utils import Database  # takes a quarter of a second to import

            migrations(version).apply(Database(connection, execute_plugins=False))
        connection.execute(f"PRAGMA user_version = {VERSION}")
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
