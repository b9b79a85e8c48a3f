BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'speclab','tables','2026-11-24 07:58:46.005564+00:00');
CREATE TABLE alert (                    -- the alerts of a spec, as last evaluated
    spec_id TEXT NOT NULL REFERENCES integration (spec_id),
    name TEXT NOT NULL,
    state TEXT NOT NULL,                -- ok | pending (true, but not for long enough yet) | firing
    since TEXT NOT NULL,                -- when it came to that state
    detail TEXT NOT NULL,               -- what was found, in words
    PRIMARY KEY (spec_id, name)
);
CREATE TABLE checkpoint (               -- where the next run of a spec goes on
    spec_id TEXT PRIMARY KEY REFERENCES integration (spec_id),
    cursor TEXT NOT NULL,               -- JSON, private to the source's connector
    run TEXT NOT NULL,                  -- the run that moved it
    at TEXT NOT NULL
);
INSERT INTO "checkpoint" VALUES('crm','"after c_3"','01a20d26-0c93-7000-bfee-f9cecf4d01aa','2026-11-24T10:42:07.123Z');
CREATE TABLE event (                    -- append-only, but for retention
    id INTEGER PRIMARY KEY AUTOINCREMENT,   -- never used twice: a tail reads id > last
    at TEXT NOT NULL,
    spec_id TEXT NOT NULL REFERENCES integration (spec_id),
    run TEXT REFERENCES run (id),
    level TEXT NOT NULL,                -- error | warning | info
    kind TEXT NOT NULL,                 -- page | retry | rate_limit | state | guard | log ...
    message TEXT NOT NULL,
    fields TEXT NOT NULL DEFAULT '{}' -- a JSON object
);
INSERT INTO "event" VALUES(1,'2026-11-24T10:42:07.123Z','crm','01a20d26-0c93-7000-bfee-f9cecf4d01aa','info','state','started by manual','{"state":"running"}');
INSERT INTO "event" VALUES(2,'2026-11-24T10:42:07.123Z','crm','01a20d26-0c93-7000-bfee-f9cecf4d01aa','warning','page','a page','{"read":3,"written":1,"dead":1,"waiting":1}');
INSERT INTO "event" VALUES(3,'2026-11-24T10:42:07.123Z','crm','01a20d26-0c93-7000-bfee-f9cecf4d01aa','warning','state','partial','{"state":"partial"}');
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
INSERT INTO "failure" VALUES('01a20d26-0c93-7001-827c-cd902f402536','01a20d26-0c93-7000-bfee-f9cecf4d01aa','crm','abc','c_2','dead','write','server',NULL,'503 Service Unavailable','… Service Unavailable',NULL,NULL,'specs/crm.md',41,1,'2026-11-24T10:42:07.123Z','2026-11-24T10:42:07.123Z',NULL,'{"id":"c_2"}',NULL,NULL,NULL,NULL,'01a20d26-0c93-7000-bfee-f9cecf4d01aa','2026-11-24T10:42:07.123Z');
INSERT INTO "failure" VALUES('01a20d26-0c93-7002-b66c-e57aec33a2f5','01a20d26-0c93-7000-bfee-f9cecf4d01aa','crm','abc','c_3','waiting','write','server',NULL,'503 Service Unavailable','… Service Unavailable',NULL,NULL,'specs/crm.md',41,1,'2026-11-24T10:42:07.123Z','2026-11-24T10:42:07.123Z','2026-11-24T10:43:00.000Z','{"id":"c_3"}',NULL,NULL,NULL,NULL,'01a20d26-0c93-7000-bfee-f9cecf4d01aa','2026-11-24T10:42:07.123Z');
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
INSERT INTO "integration" VALUES(1,'crm','CRM','specs/crm.md','in-progress','Hourly','2026-11-24T10:42:07.123Z',3,1,1,0);
CREATE TABLE record_state (             -- what is known to be at the target; as narrow as can be: a row a record
    integration INTEGER NOT NULL,       -- integration.id
    key TEXT NOT NULL,
    hash BLOB NOT NULL,                 -- 16 bytes: of the mapped record with sorted keys
    PRIMARY KEY (integration, key)
) WITHOUT ROWID;
INSERT INTO "record_state" VALUES(1,'c_1',X'68686868686868686868686868686868');
CREATE TABLE record_state_page (        -- states of the latest pages, not yet merged into record_state: they win
    id INTEGER PRIMARY KEY,
    integration INTEGER NOT NULL,
    keys TEXT NOT NULL,                 -- a JSON array
    hashes BLOB NOT NULL                -- theirs, one after the other
);
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
    errors_mapping INTEGER NOT NULL DEFAULT 0, errors_contract INTEGER NOT NULL DEFAULT 0, errors_network INTEGER NOT NULL DEFAULT 0, errors_timeout INTEGER NOT NULL DEFAULT 0, errors_rate_limit INTEGER NOT NULL DEFAULT 0, errors_server INTEGER NOT NULL DEFAULT 0, errors_unauthorized INTEGER NOT NULL DEFAULT 0, errors_conflict INTEGER NOT NULL DEFAULT 0, errors_rejected INTEGER NOT NULL DEFAULT 0, errors_bad_answer INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (spec_id, span, start)
) WITHOUT ROWID;
INSERT INTO "rollup" VALUES('crm','day','2026-11-24T00:00:00.000Z',3,1,0,0,1,1,0,1000,500,2,0,0,0,0,0,2,0,0,0,0);
INSERT INTO "rollup" VALUES('crm','hour','2026-11-24T10:00:00.000Z',3,1,0,0,1,1,0,1000,500,2,0,0,0,0,0,2,0,0,0,0);
INSERT INTO "rollup" VALUES('crm','minute','2026-11-24T10:42:00.000Z',3,1,0,0,1,1,0,1000,500,2,0,0,0,0,0,2,0,0,0,0);
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
INSERT INTO "run" VALUES('01a20d26-0c93-7000-bfee-f9cecf4d01aa','crm','abc','manual','partial','2026-11-24T10:42:07.123Z','2026-11-24T10:42:07.123Z',0.0,3,1,0,0,0,0,0,1,1,0,1000,500,NULL,'"after c_3"',NULL,NULL,NULL,NULL);
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE INDEX run_by_spec ON run (spec_id, id);
CREATE INDEX run_ended ON run (spec_id, ended_at, state, duration) WHERE ended_at IS NOT NULL;
CREATE INDEX run_succeeded ON run (spec_id, ended_at) WHERE state = 'succeeded';
CREATE INDEX run_arrived ON run (spec_id, started_at) WHERE state IN ('succeeded', 'partial');
CREATE INDEX run_running ON run (spec_id) WHERE state = 'running';
CREATE INDEX event_by_spec ON event (spec_id, id);
CREATE INDEX event_by_run ON event (run, id) WHERE run IS NOT NULL;
CREATE UNIQUE INDEX failure_open_key ON failure (spec_id, key) WHERE state IN ('waiting', 'dead', 'unknown') AND key <> '';
CREATE INDEX failure_open ON failure (id) WHERE state IN ('waiting', 'dead', 'unknown');
CREATE INDEX failure_open_by_spec ON failure (spec_id, id) WHERE state IN ('waiting', 'dead', 'unknown');
CREATE INDEX failure_open_group ON failure (spec_id, stage, "row", class, status, state, shape, last_at)
    WHERE state IN ('waiting', 'dead', 'unknown');
CREATE INDEX failure_due ON failure (spec_id, next_attempt_at) WHERE state = 'waiting';
CREATE INDEX failure_waiting ON failure (spec_id, first_at) WHERE state = 'waiting';
CREATE INDEX failure_by_run ON failure (run, id);
CREATE INDEX failure_closed ON failure (last_at) WHERE NOT (state IN ('waiting', 'dead', 'unknown'));
CREATE INDEX failure_closed_by_spec ON failure (spec_id, last_at) WHERE NOT (state IN ('waiting', 'dead', 'unknown'));
CREATE INDEX record_state_page_by_integration ON record_state_page (integration, id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('event',3);
COMMIT;
