"""The run log's tables, as migrations: the documented, stable face of the run log to everything that reads it.

Times are UTC ISO 8601 text with milliseconds (`2026-11-24T10:42:07.000Z`), so they compare as text. Ids of runs and
failures are UUIDs of version 7, so they sort by time. JSON values are JSON text. Anything may read the file with
plain SQLite; everything that writes it goes through `RunLog`.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Final

from speclab.core.errors import RunLogError, RunLogTooNew
from speclab.core.outcome import ErrorClass

if TYPE_CHECKING:
    from sqlite_utils import Database, Migrations

APPLICATION_ID: Final = 0x53504C42
"""`SPLB` in the header of the file: tells a run log from any other SQLite database."""

OPEN: Final = "state IN ('waiting', 'dead', 'unknown')"
"""What makes a failure open. Partial indexes are made with these very words, so queries must use them too."""

ARRIVED: Final = "state IN ('succeeded', 'partial')"
"""What makes a run one that went through its source to the end. As `OPEN`, for the indexes' sake."""

ERROR_COLUMNS: Final = {name: f"errors_{name.value}" for name in ErrorClass}
"""The column of `rollup` that counts errors of a class."""

TABLES: Final = f"""
CREATE TABLE integration (              -- one row a spec, or a job reported from elsewhere
    id INTEGER PRIMARY KEY,             -- short, for record_state; everything else goes by spec_id
    spec_id TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL,
    path TEXT NOT NULL,                 -- of the spec, from the workspace; empty for a job reported from elsewhere
    status TEXT NOT NULL,               -- draft | approved | in-progress | completed | whatever the spec says
    schedule TEXT NOT NULL,             -- the Frequency section's choice, as written
    registered_at TEXT NOT NULL,
    revision INTEGER NOT NULL DEFAULT 0,-- grows with every change to anything of the integration
    waiting INTEGER NOT NULL DEFAULT 0, -- open failures, by state
    dead INTEGER NOT NULL DEFAULT 0,
    unknown INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE run (
    id TEXT PRIMARY KEY,
    spec_id TEXT NOT NULL REFERENCES integration (spec_id),
    spec_hash TEXT NOT NULL,            -- SHA-256 of the spec's bytes, in hex
    trigger TEXT NOT NULL,              -- manual | schedule | retry | demo | whatever a reporting script calls it
    state TEXT NOT NULL,                -- running | succeeded | partial | failed | cancelled | interrupted
    started_at TEXT NOT NULL,
    ended_at TEXT,
    duration REAL,                      -- seconds from start to end
    read INTEGER NOT NULL DEFAULT 0,    -- = written + unchanged + filtered + waiting + dead + unknown
    written INTEGER NOT NULL DEFAULT 0, -- = created + updated + deleted, where the target tells
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
    total INTEGER,                      -- records the source says the whole read holds, where it says so
    cursor TEXT NOT NULL DEFAULT 'null',-- JSON: where the run had come to
    error TEXT,
    pid INTEGER,                        -- the process, so that a run whose process is gone is seen as interrupted
    host TEXT,
    process_started TEXT                -- tells a process from a later one with the same pid
);
CREATE INDEX run_by_spec ON run (spec_id, id);
CREATE INDEX run_ended ON run (spec_id, ended_at, state, duration) WHERE ended_at IS NOT NULL;
CREATE INDEX run_succeeded ON run (spec_id, ended_at) WHERE state = 'succeeded';
CREATE INDEX run_arrived ON run (spec_id, started_at) WHERE {ARRIVED};
CREATE INDEX run_running ON run (spec_id) WHERE state = 'running';

CREATE TABLE event (                    -- append-only, but for retention
    id INTEGER PRIMARY KEY AUTOINCREMENT,   -- never used twice: a tail reads id > last
    at TEXT NOT NULL,
    spec_id TEXT NOT NULL REFERENCES integration (spec_id),
    run TEXT REFERENCES run (id),
    level TEXT NOT NULL,                -- error | warning | info
    kind TEXT NOT NULL,                 -- page | retry | rate_limit | state | guard | log ...
    message TEXT NOT NULL,
    fields TEXT NOT NULL DEFAULT '{{}}' -- a JSON object
);
CREATE INDEX event_by_spec ON event (spec_id, id);
CREATE INDEX event_by_run ON event (run, id) WHERE run IS NOT NULL;

CREATE TABLE failure (                  -- the retry queue, the dead letters, and what became of them
    id TEXT PRIMARY KEY,
    run TEXT NOT NULL REFERENCES run (id),      -- the run it first failed in
    spec_id TEXT NOT NULL REFERENCES integration (spec_id),
    spec_hash TEXT NOT NULL,            -- of the spec it last failed under
    key TEXT NOT NULL,                  -- identity of the record at the source; empty if it has none
    state TEXT NOT NULL,                -- open: waiting | dead | unknown; closed: resolved | superseded | discarded
    stage TEXT NOT NULL,                -- read | map | check | write
    class TEXT NOT NULL,                -- mapping | contract | network | timeout | rate_limit | server ...
    status INTEGER,                     -- of the answer, where there was one
    message TEXT NOT NULL,
    shape TEXT NOT NULL,                -- the message without what differs from record to record; groups go by it
    "row" TEXT,                         -- target path of the mapping row to blame
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
    counted_by TEXT NOT NULL,           -- the run whose books hold the record as waiting, dead or unknown
    counted_at TEXT NOT NULL            -- when they came to
);
CREATE UNIQUE INDEX failure_open_key ON failure (spec_id, key) WHERE {OPEN} AND key <> '';
CREATE INDEX failure_open ON failure (id) WHERE {OPEN};
CREATE INDEX failure_open_by_spec ON failure (spec_id, id) WHERE {OPEN};
CREATE INDEX failure_open_group ON failure (spec_id, stage, "row", class, status, state, shape, last_at)
    WHERE {OPEN};
CREATE INDEX failure_due ON failure (spec_id, next_attempt_at) WHERE state = 'waiting';
CREATE INDEX failure_waiting ON failure (spec_id, first_at) WHERE state = 'waiting';
CREATE INDEX failure_by_run ON failure (run, id);
CREATE INDEX failure_closed ON failure (last_at) WHERE NOT ({OPEN});
CREATE INDEX failure_closed_by_spec ON failure (spec_id, last_at) WHERE NOT ({OPEN});

CREATE TABLE checkpoint (               -- where the next run of a spec goes on
    spec_id TEXT PRIMARY KEY REFERENCES integration (spec_id),
    cursor TEXT NOT NULL,               -- JSON, private to the source's connector
    run TEXT NOT NULL,                  -- the run that moved it
    at TEXT NOT NULL
);

CREATE TABLE record_state (             -- what is known to be at the target; as narrow as can be: a row a record
    integration INTEGER NOT NULL,       -- integration.id
    key TEXT NOT NULL,
    hash BLOB NOT NULL,                 -- 16 bytes: of the mapped record with sorted keys; in doubt, others
    PRIMARY KEY (integration, key)
) WITHOUT ROWID;
CREATE TABLE record_state_page (        -- states of the latest pages, not yet merged into record_state: they win
    id INTEGER PRIMARY KEY,
    integration INTEGER NOT NULL,
    keys TEXT NOT NULL,                 -- a JSON array
    hashes BLOB NOT NULL                -- theirs, one after the other
);
CREATE INDEX record_state_page_by_integration ON record_state_page (integration, id);

CREATE TABLE rollup (                   -- what was read in a minute, an hour and a day (UTC), and what came of it
    spec_id TEXT NOT NULL REFERENCES integration (spec_id),
    span TEXT NOT NULL,                 -- minute | hour | day
    start TEXT NOT NULL,
    read INTEGER NOT NULL DEFAULT 0,
    written INTEGER NOT NULL DEFAULT 0,
    unchanged INTEGER NOT NULL DEFAULT 0,
    filtered INTEGER NOT NULL DEFAULT 0,
    waiting INTEGER NOT NULL DEFAULT 0,
    dead INTEGER NOT NULL DEFAULT 0,
    unknown INTEGER NOT NULL DEFAULT 0,
    bytes_in INTEGER NOT NULL DEFAULT 0,
    bytes_out INTEGER NOT NULL DEFAULT 0,
    errors INTEGER NOT NULL DEFAULT 0,  -- failed attempts, and runs that failed; then the same by class
    {", ".join(f"{column} INTEGER NOT NULL DEFAULT 0" for column in ERROR_COLUMNS.values())},
    PRIMARY KEY (spec_id, span, start)
) WITHOUT ROWID;

CREATE TABLE alert (                    -- the alerts of a spec, as last evaluated
    spec_id TEXT NOT NULL REFERENCES integration (spec_id),
    name TEXT NOT NULL,
    state TEXT NOT NULL,                -- ok | pending (true, but not for long enough yet) | firing
    since TEXT NOT NULL,                -- when it came to that state
    detail TEXT NOT NULL,               -- what was found, in words
    PRIMARY KEY (spec_id, name)
);
"""

PAUSES: Final = """
ALTER TABLE integration ADD COLUMN paused_at TEXT;      -- since when `speclab up` leaves it alone; null if it does not
ALTER TABLE integration ADD COLUMN paused_by TEXT;      -- who said so
ALTER TABLE integration ADD COLUMN paused_reason TEXT;  -- and why, where they told
"""

USUAL: Final = """
ALTER TABLE integration ADD COLUMN usual TEXT;          -- JSON: what the source's fields usually are, as runs learned
"""

PRESENCE: Final = """
CREATE TABLE sweep (                    -- reads of a whole source, where what it has no more is deleted at the target
    integration INTEGER PRIMARY KEY,    -- integration.id
    target TEXT NOT NULL,               -- where the records are that are known by `presence`
    latest INTEGER NOT NULL DEFAULT 0,  -- number of the latest such read
    held INTEGER NOT NULL DEFAULT 0,    -- of the one that the checkpoint is in the middle of, or 0
    complete INTEGER NOT NULL DEFAULT 0,-- of the latest that came to the end
    keyless INTEGER NOT NULL DEFAULT 0, -- of the latest that found records without a key
    undecided INTEGER NOT NULL DEFAULT 0,-- 1 if a complete one found records missing of which nothing was decided yet
    nameless INTEGER NOT NULL DEFAULT 0 -- how many are missing of which nobody knows what the target knows them by
);
CREATE TABLE presence (                 -- the records that the source had
    integration INTEGER NOT NULL,
    key TEXT NOT NULL,
    sweep INTEGER NOT NULL,             -- the latest that saw it: less than sweep.complete, and it is missing
    identity TEXT,                      -- JSON: what the target knows it by; null if it was never mapped
    gone INTEGER NOT NULL DEFAULT 0,    -- 1 once it was missing and its delete was sent, whatever came of that
    PRIMARY KEY (integration, key)
) WITHOUT ROWID;
CREATE INDEX presence_gone ON presence (integration, key) WHERE gone = 1;
CREATE TABLE presence_page (            -- the latest pages, not yet merged into presence
    id INTEGER PRIMARY KEY,
    integration INTEGER NOT NULL,
    sweep INTEGER NOT NULL,
    keys TEXT NOT NULL,                 -- a JSON array
    identities TEXT NOT NULL,           -- theirs: an array of JSON texts and nulls
    records INTEGER NOT NULL            -- how many
);
CREATE INDEX presence_page_by_integration ON presence_page (integration, id);
"""

WAY: Final = """
ALTER TABLE checkpoint ADD COLUMN way TEXT;             -- from which source to which target; of no use on another
"""

CONTROL: Final = """
ALTER TABLE run ADD COLUMN cancel INTEGER NOT NULL DEFAULT 0;   -- asked to stop: 1 after the page in progress, 2 now
ALTER TABLE run ADD COLUMN progress TEXT;   -- JSON: what it does within its page, at most a second old; null once ended
"""

VERSIONS: Final = (TABLES, PAUSES, USUAL, PRESENCE, WAY, CONTROL)
"""What each version did to the schema, the first one first."""

VERSION: Final = len(VERSIONS)
"""`PRAGMA user_version` of an up-to-date run log."""


def ensure(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables of a new run log, or bring an older one up to date.

    Raises `RunLogTooNew` if a newer speclab wrote it, and `RunLogError` if it is some other database.
    """
    if version(connection, path) == VERSION:
        return
    from sqlite_utils import Database  # a quarter of a second: only where there is something to migrate

    connection.execute("BEGIN IMMEDIATE")
    try:
        if version(connection, path) < VERSION:  # another process may have been first
            migrations().apply(Database(connection, execute_plugins=False))
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def version(connection: sqlite3.Connection, path: Path) -> int:
    """How many migrations the file has seen; 0 for an empty one. Raises as `ensure`."""
    # One statement, so that another process that is making the tables right now has made all or none of them.
    found, application, empty = connection.execute(
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
    if found > VERSION:
        raise RunLogTooNew(
            f"{path}: the run log was written by a newer speclab (schema {found}; this one knows {VERSION})",
            hint="Upgrade speclab (`pip install --upgrade speclab-tui`), or name another run log with --runlog.",
        )
    return int(found)


def migrations() -> Migrations:
    """All that was ever done to the schema, oldest first; one is added, none is changed."""
    from sqlite_utils import Migrations

    steps = Migrations("speclab")

    @steps()
    def tables(db: Database) -> None:
        db.executescript(TABLES)

    @steps()
    def pauses(db: Database) -> None:
        db.executescript(PAUSES)

    @steps()
    def usual(db: Database) -> None:
        db.executescript(USUAL)

    @steps()
    def presence(db: Database) -> None:
        db.executescript(PRESENCE)

    @steps()
    def way(db: Database) -> None:
        db.executescript(WAY)

    @steps()
    def control(db: Database) -> None:
        db.executescript(CONTROL)

    return steps
